import dataclasses
from types import SimpleNamespace

import pytest

from training import gate
from training.config import Config, ConfigError
from training.gate import BASELINE_METRICS, absolute_checks, format_verdict
from training.gates import DEFAULT_GATES, read_gates


def test_the_shipped_bounds_are_valid():
    assert read_gates().robustness["typo"] == 0.15


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("slice_rows = 100", "slice_rows = 100\nspeed = 1", "unknown key 'speed'"),
        ("slice_rows = 100", "slice_rows = 'many'", "slice_rows must be int, not str 'many'"),
        ("slice_rows = 100", "slice_rows = 1.5", "slice_rows must be int, not float"),
        ("slice_rows = 100", "slice_rows = 0", "slice_rows must be from 1"),
        ("slice_rows = 100", "", "missing slice_rows"),
        ("test_conversations = 20", "", "missing test_conversations"),
        ("significance = 0.05", "significance = true", "significance must be float, not bool"),
        ("significance = 0.05", "significance = 5", "significance must be from 0 to 0.5"),
        ("corpus_ece = 0.05", "corpus_ece = nan", "corpus_ece must be from 0 to 1"),
        ("typo = 0.15", "tpyo = 0.15", r"\[robustness\]: unknown key 'tpyo'"),
        ("typo = 0.15", "typo = '1'", "typo must be float, not str"),
        ("typo = 0.15", "", r"\[robustness\]: missing typo"),
        ("[robustness]", "[robust]", "unknown key 'robust'"),
    ],
)
def test_a_mistake_is_named(tmp_path, old, new, said):
    text = DEFAULT_GATES.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "gates.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_gates(path)


@pytest.mark.parametrize(
    ("champion", "is_bundle", "teachers", "found"),
    [
        ("theirs", True, (), "theirs"),
        (None, True, (), "begun"),
        (None, False, (), None),
        (None, True, ("runs/teacher",), None),  # a student begins as its teacher
    ],
)
def test_without_a_champion_what_learned_on_must_not_lose_against_what_it_was(
    tmp_path, monkeypatch, champion, is_bundle, teachers, found
):
    begun = tmp_path / "begun"
    begun.mkdir()
    if is_bundle:
        (begun / "manifest.json").touch()
    theirs = champion and tmp_path / champion
    monkeypatch.setattr(gate, "Registry", lambda _: SimpleNamespace(fetch_champion=lambda: theirs))
    config = Config(base_model=str(begun), teachers=teachers)
    assert gate.opponent(config) == (found and tmp_path / found)


def checks(**changes):
    """The absolute checks of a report that keeps every bound, but for what is changed."""
    gates = read_gates()
    found = {
        "conversations": gates.test_conversations,
        "gain": gates.baseline_gain,
        "ece": gates.corpus_ece,
        "chance": 0.01,
        "loss": {"level_macro_f1": gates.quantization_loss, "trigger_macro_f1": -0.1},
        "typo": (300, gates.robustness["typo"]),
        **changes,
    }
    judged = {
        "corpus": {
            "conversations": found["conversations"],
            "difference": {name: {"low": found["gain"]} for name in BASELINE_METRICS},
            "metrics": {"level_ece": {"value": found["ece"]}},
            "level_ece_by_chance": found["chance"],
        }
    }
    shares = {name: (100, bound) for name, bound in gates.robustness.items()}
    shares["typo"] = found["typo"]
    probes = {name: {"rows": rows, "failures": share} for name, (rows, share) in shares.items()}
    stored = {"quantization_loss": found["loss"]} if found["loss"] else {}
    return {check.name: check for check in absolute_checks(judged, probes, stored, gates)}


def test_a_report_that_keeps_every_bound_passes():
    found = checks()
    assert all(check.passed for check in found.values())
    assert len(found) == 5 + len(read_gates().robustness)


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"gain": 0.0009}, "corpus: level_macro_f1 above TF-IDF, low"),
        ({"gain": None}, "corpus: trigger_macro_f1 above TF-IDF, low"),
        ({"ece": 0.0501}, "corpus: level_ece"),
        ({"ece": 0.0701, "chance": 0.07}, "corpus: level_ece"),
        ({"typo": (300, 0.2)}, "robustness: typo"),  # 60 of 300: from 0.1587 on
        ({"conversations": 19}, "corpus: test conversations"),
        ({"loss": {"level_macro_f1": -0.1, "trigger_macro_f1": 0.0051}}, "quantisation loss"),
        ({"loss": None}, "quantisation loss"),
    ],
)
def test_each_bound_refuses(change, refused):
    failed = [name for name, check in checks(**change).items() if not check.passed]
    assert any(name.startswith(refused) for name in failed)
    assert len(failed) <= 2


def test_what_few_rows_show_by_chance_is_not_held_against_a_challenger():
    found = checks(ece=0.07, chance=0.07)["corpus: level_ece"]
    assert (found.passed, found.bound, found.note) == (True, 0.07, "by chance alone up to 0.0700")
    found = checks(typo=(10, 0.2))["robustness: typo"]  # two of ten
    assert found.passed
    assert (found.low, found.high) == pytest.approx((0.0567, 0.5098), abs=1e-4)
    assert found.note == "the bound is within its interval"


def test_a_verdict_says_what_it_cannot_rest_on():
    found = checks(conversations=19, typo=(0, 0.0))
    verdict = {
        "checks": [dataclasses.asdict(check) | {"passed": check.passed} for check in found.values()]
    }
    about = {"champion": None, "challenger": "deesc-2", "public_texts": True, "passed": False}
    lines = format_verdict(verdict | about).splitlines()
    said = "corpus: test conversations (too few test conversations to judge by)"
    assert f"| FAIL | {said} | 19 | ≥ 20 |" in lines
    said = "robustness: typo (no test text that it applies to)"
    assert f"| – | {said} | not measured | ≤ 0.1500 |" in lines  # and refuses nobody
    said = "corpus: level_ece (by chance alone up to 0.0100)"
    assert f"| ok | {said} | +0.0500 | ≤ 0.0500 |" in lines

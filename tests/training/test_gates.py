import pytest

from training.config import ConfigError
from training.gate import BASELINE_METRICS, absolute_checks
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


def checked(**changes):
    """The absolute checks of a report that keeps every bound, but for what is changed."""
    gates = read_gates()
    found = {
        "gain": gates.baseline_gain,
        "ece": gates.corpus_ece,
        "loss": {"level_macro_f1": gates.quantization_loss, "trigger_macro_f1": -0.1},
        "typo": gates.robustness["typo"],
        **changes,
    }
    judged = {
        "corpus": {
            "difference": {name: {"low": found["gain"]} for name in BASELINE_METRICS},
            "metrics": {"level_ece": {"value": found["ece"]}},
        }
    }
    probes = {name: {"failures": bound} for name, bound in gates.robustness.items()}
    probes["typo"] = {"failures": found["typo"]}
    stored = {"quantization_loss": found["loss"]} if found["loss"] else {}
    return {check.name: check.passed for check in absolute_checks(judged, probes, stored, gates)}


def test_a_report_that_keeps_every_bound_passes():
    assert set(checked().values()) == {True}
    assert len(checked()) == 4 + len(read_gates().robustness)


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"gain": 0.0009}, "corpus: level_macro_f1 above TF-IDF, low"),
        ({"gain": None}, "corpus: trigger_macro_f1 above TF-IDF, low"),
        ({"ece": 0.0501}, "corpus: level_ece"),
        ({"typo": 0.1501}, "robustness: typo"),
        ({"loss": {"level_macro_f1": -0.1, "trigger_macro_f1": 0.0051}}, "quantisation loss"),
        ({"loss": None}, "quantisation loss"),
    ],
)
def test_each_bound_refuses(change, refused):
    failed = [name for name, passed in checked(**change).items() if not passed]
    assert any(name.startswith(refused) for name in failed)
    assert len(failed) <= 2

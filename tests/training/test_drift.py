import csv
import io
import json
from dataclasses import asdict, replace

import matplotlib.image
import mlflow
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, f1_score

from deesc_model import Level, Prediction, Turn
from deesc_model.labels import SIGNALS, TRIGGERS
from deesc_model.records import Record, record_writer
from training.config import ConfigError
from training.drift import compare, main
from training.drift_false_alarms import measure_alarms, wilson_interval
from training.drift_features import build_features
from training.drift_tests import corrected, find_shifts, stability_index
from training.drift_thresholds import DRIFT_FILE, read_thresholds
from training.expected_performance import expected_counts, expected_metrics
from training.scored_files import ScoredRows, read_scored

THRESHOLDS = read_thresholds()
WORDS = (
    *("order", "parcel", "refund", "late", "card", "screen"),
    *("bill", "agent", "line", "phone", "waiting", "tomorrow"),
)


def prediction(random, level, triggers=(), version="m-1"):
    scores = np.full(5, 0.05)
    scores[level] = 0.8
    noise = random.uniform(0, 0.1, len(TRIGGERS))
    return Prediction(
        level=Level(level),
        level_scores=tuple(scores.tolist()),
        frustration=float(scores @ np.arange(5)),
        uncertain=False,
        triggers=tuple(triggers),
        trigger_scores={
            name: 0.7 if name in triggers else float(noise[k]) for k, name in enumerate(TRIGGERS)
        },
        signals=(),
        signal_scores=dict.fromkeys(SIGNALS, 0.01),
        model_version=version,
    )


def talks(seed, heated=0.2, conversations=60, words=WORDS, version="m-1"):
    """Records of conversations, of which a known share is heated and about delay throughout."""
    random = np.random.default_rng(seed)
    records, predictions = [], []
    for number in range(conversations):
        hot = random.random() < heated
        for position in range(random.integers(2, 6)):
            text = " ".join(random.choice(words, random.integers(4, 12)))
            row = {"conversation_id": f"c{number}", "speaker": "customer", "text": text}
            records.append(Record(position + 1, row, Turn("customer", text), ()))
            level = int(random.integers(2, 5) if hot else random.integers(0, 2))
            triggers = ("delay",) if hot else ()
            predictions.append(prediction(random, level, triggers, version))
    return records, predictions


def rows(*arguments, **changes):
    records, predictions = talks(*arguments, **changes)
    names = [record.row["conversation_id"] for record in records]
    return ScoredRows.from_predictions([record.turn for record in records], names, predictions)


def write(file, *arguments, **changes):
    stream = io.StringIO(newline="")
    put = record_writer(stream, file.suffix[1:])
    for record, found in zip(*talks(*arguments, **changes), strict=True):
        put(record, found)
    file.write_text(stream.getvalue(), encoding="utf-8", newline="")
    return file


@pytest.fixture
def command(tmp_path):
    def run(reference, current, *more):
        changes = [f"run_dir={tmp_path / 'run'}", f"tracking_uri=sqlite:///{tmp_path / 'm.db'}"]
        settings = [part for change in changes for part in ("--set", change)]
        files = ["--reference", str(reference), "--current", str(current)]
        return main([*files, *settings, *map(str, more)])

    return run


def test_two_halves_of_one_set_are_quiet():
    features = build_features(rows(1, conversations=120))
    found = measure_alarms(features, 0, halvings=20, thresholds=THRESHOLDS)
    assert sum(map(bool, found)) <= 3


def test_a_shift_of_known_size_is_found_and_named():
    many = {"conversations": 200}
    report, _ = compare(rows(1, heated=0.2, **many), rows(2, heated=0.6, **many), THRESHOLDS)
    assert {"level", "trigger.delay", "content.scores"} <= set(report.drifted)
    assert "words.unseen" not in report.drifted
    shares = {shift.name: (shift.reference, shift.current) for shift in report.shifts}
    assert shares["trigger.delay"] == pytest.approx((0.2, 0.6), abs=0.15)


def test_new_words_are_found_and_named():
    report, _ = compare(rows(1), rows(2, words=[*WORDS, "drone", "locker"]), THRESHOLDS)
    assert "words.unseen" in report.drifted
    assert "level" not in report.drifted
    assert set(report.unseen) == {"drone", "locker"}


def test_rows_of_one_conversation_are_not_counted_as_independent():
    # Every conversation is all hot or all mild: by rows this difference looks certain.
    few = {"conversations": 20}
    report, _ = compare(rows(1, heated=0.3, **few), rows(4, heated=0.55, **few), THRESHOLDS)
    level = report.shifts[0]
    assert level.size > THRESHOLDS.level_psi
    assert level.p_value > THRESHOLDS.significance


def test_taking_mild_conversations_out_is_found_by_the_measuring_script():
    features = build_features(rows(1, conversations=160, heated=0.3))
    found = measure_alarms(features, 0.9, halvings=5, thresholds=THRESHOLDS)
    assert all("level" in names for names in found)


def test_expected_metrics_are_what_labels_drawn_from_the_scores_give():
    scored = rows(3, conversations=800)
    random = np.random.default_rng(5)
    drawn = np.array([random.choice(5, p=row / row.sum()) for row in scored.scores.level])
    truth = random.random(scored.scores.triggers.shape) < scored.scores.triggers
    found = expected_metrics(expected_counts(scored).sum(axis=0)[None])
    measured = {
        "level_accuracy": (drawn == scored.levels).mean(),
        "level_macro_f1": f1_score(drawn, scored.levels, average="macro"),
        "level_qwk": cohen_kappa_score(drawn, scored.levels, weights="quadratic"),
        "trigger_micro_f1": f1_score(truth.ravel(), scored.triggers.ravel()),
    }
    assert {name: found[name][0] for name in measured} == pytest.approx(measured, abs=0.03)


def test_the_stability_index_of_known_shares():
    found = stability_index(np.array([9e6, 1e6]), np.array([8e6, 2e6]))
    assert found == pytest.approx(0.1 * np.log(2) - 0.1 * np.log(8 / 9), rel=1e-4)


def test_holms_correction():
    assert corrected(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])


def test_wilsons_interval():
    assert wilson_interval(0, 200) == pytest.approx((0, 0.0188), abs=1e-3)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_the_command_prints_writes_draws_and_tracks(suffix, command, tmp_path, capsys):
    one, other = (tmp_path / f"{name}.{suffix}" for name in ("one", "other"))
    write(one, 1)
    write(other, 2, heated=0.95)
    assert command(one, other, "--json", tmp_path / "out.json") == 3
    shown = capsys.readouterr().out
    assert "drift: level, trigger.delay" in shown
    assert "calibration" in shown
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["drifted"][0] == "level"
    assert report["expected"]["level_qwk"]["difference"]["low"] < 1
    figures = sorted((tmp_path / "run/figures").iterdir())
    assert len(figures) == 3
    assert all(matplotlib.image.imread(figure).std() > 0.05 for figure in figures)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'm.db'}")
    run = mlflow.search_runs(experiment_names=["deesc"], output_format="list")[0]
    assert run.data.metrics["drift/level/drifted"] == 1
    assert run.data.params["significance"] == "0.05"


def test_the_command_is_quiet_about_another_sample_of_the_same(command, tmp_path, capsys):
    assert command(write(tmp_path / "a.jsonl", 1), write(tmp_path / "b.csv", 2)) == 0
    assert "drift: none" in capsys.readouterr().out


def test_a_table_gives_the_rows_that_json_lines_give(tmp_path):
    one, other = (
        read_scored(write(tmp_path / "a.jsonl", 1)),
        read_scored(write(tmp_path / "a.csv", 1)),
    )
    assert one.turns == other.turns
    assert np.array_equal(one.scores.triggers, other.scores.triggers)
    assert np.array_equal(one.conversations, other.conversations)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no rows"),
        ('{"text": "hello"}\n', "line 1: not scored"),
        ('{"text": "hello", "deesc": {"level": 1}}\n', "line 1: prediction lacks the field"),
        ('{"deesc": {}}\n', "line 1: the field text is missing"),
        ("not json\n", "line 1: not JSON"),
    ],
)
def test_files_that_cannot_be_used_are_refused(content, message, command, tmp_path, capsys):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(content)
    assert command(write(tmp_path / "a.jsonl", 1), bad) == 1
    assert message in capsys.readouterr().err


def test_other_faults_are_refused(command, tmp_path, capsys):
    good = write(tmp_path / "a.jsonl", 1)
    other = write(tmp_path / "b.jsonl", 1, version="m-2")
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(good.read_text() + other.read_text())
    few = write(tmp_path / "few.jsonl", 1, conversations=5)
    table = write(tmp_path / "c.csv", 1)
    with table.open(newline="") as stream:
        cells = [line[:-1] for line in csv.reader(stream)]
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(cells)
    for file, message in (
        (other, "label both with one model"),
        (mixed, "rows of several models: m-1, m-2"),
        (few, "current holds 5 conversations"),
        (table, "no column deesc_model_version"),
        (tmp_path / "none.jsonl", "cannot read"),
    ):
        assert command(good, file) == 1
        assert message in capsys.readouterr().err


def test_too_few_permutations_to_find_anything_are_refused():
    features = build_features(rows(1))
    current = np.arange(len(features.sizes)) % 2 == 0
    with pytest.raises(ConfigError, match="99 are too few"):
        find_shifts(features, current, replace(THRESHOLDS, permutations=99))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("levle_psi = 1", "unknown key 'levle_psi'"),
        ("level_psi = true", "level_psi must be float"),
        ("significance = 0.9", "significance must be from"),
        ("= 1", "is not TOML"),
        ("", "the key 'level_psi' is missing"),
    ],
)
def test_thresholds_are_validated_by_name(change, message, tmp_path):
    key = change.split(" ")[0]
    kept = [
        line
        for line in DRIFT_FILE.read_text().splitlines()
        if not line.startswith(key if key in asdict(THRESHOLDS) else "level_psi")
    ]
    file = tmp_path / "drift.toml"
    file.write_text("\n".join([*kept, change]))
    with pytest.raises(ConfigError, match=message):
        read_thresholds(file)

import csv
import json
import shutil
from dataclasses import asdict, replace

import matplotlib.image
import mlflow
import numpy as np
import pytest
from command import deesc, write_jsonl
from conversations import utterance
from sklearn.metrics import cohen_kappa_score, f1_score

from deesc_model import Level, Prediction, Turn
from deesc_model.bundle import default_bundle_path, read_bundle
from deesc_model.labels import SIGNALS, TRIGGERS
from training.config import ConfigError
from training.descriptions import describe
from training.drift import main
from training.drift_features import build_features, stability_index
from training.drift_shifts import (
    THRESHOLDS_FILE,
    find_shifts,
    joint_p_values,
    read_thresholds,
)
from training.expected_performance import expected_counts, expected_metrics
from training.measure_drift import expected_and_measured, measure_alarms
from training.scored_files import ScoredRows, read_scored

THRESHOLDS = read_thresholds()
WORDS = (
    *("order", "parcel", "refund", "late", "card", "screen"),
    *("bill", "agent", "line", "phone", "waiting", "tomorrow"),
)
VECTORS = dict(zip((*WORDS, "drone", "locker"), np.eye(14), strict=True))


def prediction(random, level, triggers):
    scores = np.full(5, 0.05)
    scores[level] = 0.8
    noise = random.uniform(0, 0.1, len(TRIGGERS))
    return Prediction(
        level=Level(level),
        level_scores=tuple(scores.tolist()),
        frustration=float(scores @ np.arange(5)),
        uncertain=False,
        triggers=triggers,
        trigger_scores={
            name: 0.7 if name in triggers else float(noise[k]) for k, name in enumerate(TRIGGERS)
        },
        signals=(),
        signal_scores=dict.fromkeys(SIGNALS, 0.01),
        model_version="m-1",
    )


def rows(*parts):
    """Rows of parts (seed, conversations, share that is heated and about delay, words)."""
    turns, names, predictions = [], [], []
    for part, (seed, conversations, heated, words) in enumerate(parts):
        random = np.random.default_rng(seed)
        for number in range(conversations):
            hot = number < heated * conversations  # a share of known size, not by chance
            for _ in range(random.integers(2, 6)):
                said = " ".join(random.choice(words, random.integers(4, 12)))
                turns.append(Turn("customer", said))
                names.append((part, number))
                level = int(random.integers(2, 5) if hot else random.integers(0, 2))
                predictions.append(prediction(random, level, ("delay",) if hot else ()))
    vectors = [sum(VECTORS[word] for word in turn.text.split()) for turn in turns]
    return ScoredRows.gather(turns, names, predictions, np.array(vectors))


def shifts(reference, current):
    """Compare two parts as `rows` has them."""
    both = rows(reference, current)
    is_current = np.arange(both.conversation_count) >= reference[1]
    return {
        shift.name: shift for shift in find_shifts(build_features(both), is_current, THRESHOLDS)
    }


def drifted(found):
    return {name for name, shift in found.items() if shift.drifted}


def alarms(seed, mild_taken_out, halvings):
    scored = rows((seed, 240, 0.3, WORDS))
    hottest = np.zeros(scored.conversation_count)
    np.maximum.at(hottest, scored.conversations, scored.levels)
    few = replace(THRESHOLDS, permutations=199)
    return measure_alarms(scored, hottest < 2, mild_taken_out, halvings, few)


def test_two_halves_of_one_set_are_quiet():
    # At the level of 5 % four or more of 20 alarm once in 63 times, and sizes are asked for too.
    assert sum(map(bool, alarms(1, 0, halvings=20))) <= 3


def test_conversations_that_are_taken_out_are_missed():
    # About 36 of 120 conversations are heated; without most of the mild ones 36 of 57.
    assert all("level" in names for names in alarms(1, 0.75, halvings=5))


def test_a_shift_of_known_size_is_found_and_named():
    found = shifts((1, 100, 0.2, WORDS), (2, 100, 0.45, WORDS))
    assert {"level", "trigger.delay"} <= drifted(found)
    assert drifted(found).isdisjoint({"words.unseen", "content.text", "length.turns"})
    delay = found["trigger.delay"]
    assert (delay.reference, delay.current) == pytest.approx((0.2, 0.45), abs=0.05)


def test_new_words_are_found_and_other_content_too():
    found = shifts((1, 60, 0.2, WORDS), (2, 60, 0.2, [*WORDS, "drone", "locker"]))
    assert drifted(found) == {"words.unseen", "content.text"}
    assert found["words.unseen"].current == pytest.approx(2 / 14, abs=0.03)
    assert found["words.unseen"].reference < 0.01


def test_turns_of_a_conversation_are_not_counted_as_independent():
    # Each conversation is all hot or all mild: by rows this difference would be certain.
    level = shifts((1, 20, 0.3, WORDS), (4, 20, 0.55, WORDS))["level"]
    assert level.size > THRESHOLDS.level_psi
    assert level.p_value > THRESHOLDS.significance


def test_joint_p_values_by_hand():
    one, other = [3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0]
    assert joint_p_values(np.array([one]).T).tolist() == [1 / 4]
    # Row 3 takes the other statistic as far as row 0 takes the first: two of four deals.
    assert joint_p_values(np.array([one, other]).T).tolist() == [2 / 4, 1]
    # Scales do not count, a statistic that never moves costs nothing and says nothing.
    scaled = np.array([np.multiply(one, 100), other, np.ones(4)]).T
    assert joint_p_values(scaled).tolist() == [2 / 4, 1, 1]


def test_statistics_that_move_together_cost_nothing():
    random = np.random.default_rng(1)
    one = random.normal(size=(200, 1))
    one[0] = 2.5
    alike, apart = np.repeat(one, 30, axis=1), np.hstack([one, random.normal(size=(200, 29))])
    assert joint_p_values(alike)[0] == joint_p_values(one)[0]
    assert joint_p_values(apart)[0] > 5 * joint_p_values(one)[0]


def test_expected_metrics_are_what_labels_drawn_from_the_scores_give():
    scored = rows((3, 800, 0.2, WORDS))
    random = np.random.default_rng(5)
    drawn = np.array([random.choice(5, p=row / row.sum()) for row in scored.scores.level])
    truth = random.random(scored.scores.triggers.shape) < scored.scores.triggers
    counts = expected_counts(scored.scores, scored.levels, scored.triggers)
    found = expected_metrics(counts.sum(axis=0)[None])
    measured = {
        "level_accuracy": (drawn == scored.levels).mean(),
        "level_macro_f1": f1_score(drawn, scored.levels, average="macro"),
        "level_qwk": cohen_kappa_score(drawn, scored.levels, weights="quadratic"),
        "trigger_micro_f1": f1_score(truth.ravel(), scored.triggers.ravel()),
    }
    assert {name: found[name][0] for name in measured} == pytest.approx(measured, abs=0.03)


def test_expected_metrics_are_held_beside_what_labels_give():
    scored = rows((3, 20, 0.5, WORDS))
    names = scored.conversations.tolist()
    labelled = [
        utterance(conversation_id=str(name), level=4, triggers=["delay"], channel=channel)
        for name, channel in zip(names, ["phone", *["chat"] * (len(names) - 1)], strict=True)
    ]
    found = expected_and_measured(scored, labelled)
    assert list(found) == ["all", "phone", "chat"]
    expected, measured = found["all"]["level_accuracy"]
    assert expected == pytest.approx(0.8)
    assert measured == pytest.approx((scored.levels == 4).mean())


def test_the_stability_index_of_known_shares():
    found = stability_index(np.array([9e6, 1e6]), np.array([8e6, 2e6]))
    assert found == pytest.approx(0.1 * np.log(2) - 0.1 * np.log(8 / 9), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("levle_psi = 1", "unknown key 'levle_psi'"),
        ("level_psi = true", "level_psi must be float"),
        ("significance = 0.9", "significance must be from"),
        ("= 1", "is not TOML"),
        ("", "missing level_psi"),
        ("significance = 0.005\npermutations = 99", "99 can show no p as small as"),
    ],
)
def test_thresholds_are_validated_by_name(change, message, tmp_path):
    changed = {line.split(" ")[0] for line in change.splitlines()} & asdict(THRESHOLDS).keys()
    kept = [
        line
        for line in THRESHOLDS_FILE.read_text().splitlines()
        if line.split(" ")[0] not in (changed or {"level_psi"})
    ]
    file = tmp_path / "drift.toml"
    file.write_text("\n".join([*kept, change]))
    with pytest.raises(ConfigError, match=message):
        read_thresholds(file)


# From here on files, labelled by a tiny bundle whose answers follow from the words.

CALM = ("the parcel {} is fine", "fine the {} !", "the {} is fine , hoping .")
LATE = (
    "parcel {} is late , furious furious !",
    "late ! furious , {} .",
    "furious ! the {} is late",
)


def talks(seed, heated, conversations=60):
    random = np.random.default_rng(seed)
    for number in range(conversations):
        texts = LATE if number < heated * conversations else CALM
        for _ in range(random.integers(1, 4)):
            text = random.choice(texts).format(random.integers(1, 10))
            yield {"conversation_id": f"c{number}", "speaker": "customer", "text": text}


@pytest.fixture(scope="module")
def scored(tmp_path_factory, tiny_bundle):
    """What `deesc score` writes, in each format."""
    folder = tmp_path_factory.mktemp("scored")
    for name, seed, heated in (
        ("reference.jsonl", 1, 0.2),
        ("same.csv", 2, 0.2),
        ("hotter.jsonl", 3, 0.6),
        ("hotter.csv", 3, 0.6),
        ("hotter.parquet", 3, 0.6),
    ):
        given = write_jsonl(folder / "given.jsonl", talks(seed, heated))
        deesc("score", given, "--out", folder / name, "--model", tiny_bundle, check=0)
    return folder


@pytest.fixture
def command(scored, tmp_path, tiny_bundle, empty_store):
    shutil.copy(empty_store, tmp_path / "m.db")

    def run(current, *more, reference=scored / "reference.jsonl", bundle=tiny_bundle):
        changes = [f"run_dir={tmp_path / 'run'}", f"tracking_uri=sqlite:///{tmp_path / 'm.db'}"]
        settings = [part for change in changes for part in ("--set", change)]
        files = ["--reference", reference, "--current", current, "--bundle", bundle]
        return main([*map(str, files), *settings, *map(str, more)])

    return run


@pytest.mark.filterwarnings("ignore", "error:::training")  # MLflow's own
def test_the_command_prints_writes_draws_and_tracks(scored, command, classifier, tmp_path, capsys):
    assert command(scored / "hotter.csv", "--json", tmp_path / "out.json") == 3
    shown = capsys.readouterr().out
    assert "drift: level, trigger.delay" in shown
    assert "only labels can tell" in shown
    report = json.loads((tmp_path / "out.json").read_text())
    assert {"level", "trigger.delay", "content.text"} <= set(report["drifted"])
    assert report["sizes"]["current"]["conversations"] == 60
    assert report["model_version"] == classifier.model_version
    figures = sorted((tmp_path / "run/figures").iterdir())
    assert len(figures) == 3
    assert all(matplotlib.image.imread(figure).std() > 0.05 for figure in figures)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'm.db'}")
    run = mlflow.search_runs(experiment_names=["deesc"], output_format="list")[0]
    assert run.data.metrics["drift/level/drifted"] == 1
    assert all(describe(name) for name in run.data.metrics)
    assert run.data.params["significance"] == "0.05"


@pytest.mark.filterwarnings("ignore", "error:::training")  # MLflow's own
def test_the_command_is_quiet_about_another_sample_of_the_same(scored, command, capsys):
    assert command(scored / "same.csv") == 0
    assert "drift: none" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore", "error:::training")  # MLflow's own
def test_one_set_with_itself_is_quiet_whatever_the_chance(scored, command, capsys):
    assert command(scored / "hotter.csv", reference=scored / "hotter.jsonl") == 0
    assert "drift: none" in capsys.readouterr().out


def test_a_file_to_read_is_not_written_over(scored, command, capsys):
    before = (scored / "same.csv").read_bytes()
    assert command(scored / "same.csv", "--json", scored / "same.csv") == 1
    assert "is a file to read; name another" in capsys.readouterr().err
    assert (scored / "same.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 7}, "not a prediction: 7 is not a valid Level"),
        ({"triggers": ["weather"]}, "not a prediction: 'weather' is none of billing"),
        ({"signals": ["tears"]}, "not a prediction: 'tears' is none of supervisor_request"),
        ({"trigger_scores": {"weather": 0.5}}, "not a prediction: there must be one score each"),
        ({"level_scores": [0.5, 0.5]}, "not a prediction: level_scores must be 5 numbers"),
        ({"level_scores": [0.5] * 5}, "level_scores do not sum to 1"),
        ({"level_scores": ["nan"] * 5}, "not a prediction: nan is not from 0 to 1"),
        ({"level_scores": [2, 0, 0, 0, 0]}, "not a prediction: 2.0 is not from 0 to 1"),
        ({"level_scores": None}, "not a prediction"),
    ],
)
def test_scores_that_cannot_be_are_refused_by_line(change, message, scored, command, capsys):
    row = json.loads((scored / "hotter.jsonl").read_text().splitlines()[0])
    wrong = write_jsonl(scored / "wrong.jsonl", [row, {**row, "deesc": row["deesc"] | change}])
    assert command(wrong) == 1
    assert f"wrong.jsonl: line 2: {message}" in capsys.readouterr().err


@pytest.mark.parametrize("table", ["hotter.csv", "hotter.parquet"])
def test_a_table_gives_the_rows_that_json_lines_give(scored, tiny_bundle, table):
    files = [scored / "hotter.jsonl", scored / table]
    both, homes = read_scored(files, read_bundle(tiny_bundle))
    half = len(both.turns) // 2
    assert homes.tolist() == [0] * 60 + [1] * 60
    assert both.turns[:half] == both.turns[half:]
    assert both.embeddings[:half] == pytest.approx(both.embeddings[half:])
    assert (both.conversations[:half] + 60).tolist() == both.conversations[half:].tolist()
    assert both.scores.triggers[:half] == pytest.approx(both.scores.triggers[half:], abs=1e-4)
    assert both.levels[:half].tolist() == both.levels[half:].tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no rows"),
        ('{"text": "hello"}\n', "line 1: not scored"),
        ('{"text": "hello", "deesc": {"level": 1}}\n', "line 1: prediction lacks the field"),
        ('{"deesc": {}}\n', "line 1: the field text is missing"),
        ('{"text": "hello", "deesc": 3}\n', "line 1: not a prediction"),
        ('{"text": "hello", "deesc_level": null}\n', "line 1: not a prediction"),
        ('{"text": "hello", "deesc_level": 1}\n', "line 1: no column deesc_frustration"),
        ('{"text": NaN}\n', "line 1: not JSON"),
        ("not json\n", "line 1: not JSON"),
    ],
)
def test_files_that_cannot_be_used_are_refused(content, message, command, tmp_path, capsys):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(content)
    assert command(bad) == 1
    assert message in capsys.readouterr().err


def test_other_faults_are_refused(scored, command, tmp_path, capsys):
    lines = (scored / "same.csv").read_text().splitlines()
    few, one, header, narrow = (tmp_path / f"{k}.csv" for k in ("few", "one", "header", "narrow"))
    for file, count in ((few, 12), (one, 2), (header, 1)):
        file.write_text("\n".join(lines[:count]))
    with narrow.open("w", newline="") as stream:
        csv.writer(stream).writerows(cells[:-1] for cells in csv.reader(lines))
    for file, message in (
        (few, "a comparison needs at least 20"),
        (one, "current holds 1 conversations"),
        (header, "no rows"),
        (tmp_path, "the name must end in"),
        (narrow, "line 2: no column deesc_model_version"),
        (tmp_path / "none.jsonl", "cannot read"),
    ):
        assert command(file) == 1
        assert message in capsys.readouterr().err
    assert command(scored / "same.csv", bundle=default_bundle_path()) == 1
    assert "line 1: labelled by tiny" in capsys.readouterr().err

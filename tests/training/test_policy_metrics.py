import dataclasses
import math
import shutil

import mlflow
import numpy as np
import pytest
from conversations import utterance

from deesc_model import DeescError, EscalationClassifier, EscalationPolicy, Level, Turn
from deesc_model.policy import shipped_policy
from deesc_model.risk import RiskModel
from training.corpus import SPLITS, write_corpus
from training.courses import Course, build_courses, predict_rows
from training.descriptions import describe
from training.fit_policy import main
from training.policy_fitting import fit_policy, fit_risk
from training.policy_metrics import keyword_alarms, last_level_alarms, measure_alarms
from training.policy_report import format_rules, measure_risk, measure_rules


def rows(levels, name="c1", **changes):
    """A conversation in which customer and agent take turns."""
    return [
        utterance(
            conversation_id=name,
            turn=position,
            speaker="agent" if position % 2 else "customer",
            text={0: "fine", 1: "hoping", 2: "again", 3: "furious", 4: "idiot"}[level],
            level=level,
            **changes,
        )
        for position, level in enumerate(levels)
    ]


def courses(classifier, *members):
    said = [row for member in members for row in member]
    answers = classifier.predict_batch([Turn(row.speaker, row.text) for row in said])
    return build_courses(said, answers)


def alarms_at(*turns):
    return lambda course: np.isin(np.arange(len(course.turns)), turns)


def test_an_escalation_is_level_three_or_a_call_for_a_superior(classifier):
    asked = rows([0, 0, 0], "asked")
    asked[2] = utterance(**{**vars_of(asked[2]), "signals": ["supervisor_request"]})
    (heated, polite, quiet) = courses(classifier, rows([1, 0, 3]), asked, rows([2, 0, 2], "q"))
    assert (heated.start, polite.start, quiet.start) == (2, 2, None)
    assert (heated.ends_calm, polite.ends_calm) == (False, True)


def vars_of(row):
    names = ("conversation_id", "turn", "speaker", "text", "level")
    return {name: getattr(row, name) for name in names}


def test_posts_and_unmarked_hand_overs_have_no_course(classifier):
    assert courses(classifier, rows([3])) == []
    assert courses(classifier, rows([0, 0, 0], arc="handover")) == []
    assert len(courses(classifier, rows([0, 0, 3], arc="handover"))) == 1


def test_alarms_count_by_hand(classifier):
    told = courses(
        classifier,
        rows([1, 0, 2, 0, 3, 0, 0], "builds up"),
        rows([2, 0, 3], "builds up too"),
        rows([3, 0, 0, 0], "begins so"),
        rows([0, 0, 0], "quiet"),
        rows([0, 0, 0, 0], "quiet too"),
    )
    found = measure_alarms(told, alarms_at(1))
    assert (found.building, found.recall, found.lead_turns, found.lead_turns_all) == (2, 1, 2, 2)
    assert (found.false_alarms, found.false_alarms_quiet) == (40, 100)
    assert found.recovery == 1
    found = measure_alarms(told, alarms_at(2, 6))
    assert (found.recall, found.at_the_latest, found.lead_turns) == (0.5, 1, 2)
    assert found.recovery == 0.5  # on again at the end of the first
    found = measure_alarms(told, alarms_at(4))
    assert (found.recall, found.at_the_latest, found.lead_turns_all) == (0, 0.5, 0)
    assert math.isnan(found.lead_turns)


def test_figures_of_nothing_are_not_there(classifier):
    calm = courses(classifier, rows([0, 0, 0], "quiet"))
    found = measure_alarms(calm, alarms_at(1))
    assert (found.building, found.false_alarms) == (0, 100)
    assert math.isnan(found.recall)
    assert math.isnan(found.lead_turns_all)
    assert "| rule | – | – | – (– of all) | 100.0 | 100.0 | – |" in format_rules({"rule": found})
    at_once = measure_alarms(courses(classifier, rows([3, 0, 0])), alarms_at(1))
    assert math.isnan(at_once.false_alarms_quiet)


def test_naive_rules_keep_their_alarm_until_the_customer_speaks_again(classifier):
    (course,) = courses(classifier, rows([3, 0, 0, 0]))
    assert last_level_alarms(Level.ANGRY)(course).tolist() == [True, True, False, False]
    assert keyword_alarms(course).tolist() == [True, True, False, False]  # "furious"
    (agent,) = courses(classifier, rows([0, 3, 0]))
    assert not last_level_alarms(Level.ANGRY)(agent).any()


def a_world(classifier, split):
    """Conversations that worsen after level 2, and others that stay calm."""
    members = []
    for number in range(30):
        members.append(rows([0, 0, 2, 0, 2, 0, 3, 0], f"{split} hot {number}", split=split))
        members.append(rows([0, 0, 0, 0, 1, 0, 0, 0], f"{split} cold {number}", split=split))
    return courses(classifier, *members)


def test_risk_and_policy_are_learned_and_keep_to_the_budget(classifier):
    train, validation = a_world(classifier, "train"), a_world(classifier, "validation")
    risk = fit_risk(train, validation, "tiny")
    # Nobody can tell them apart by their first turn.
    assert 0.9 < measure_risk(validation, risk)["average_precision"] < 1
    team = dataclasses.replace(shipped_policy(), cool_down=7, hand_over_on=("harm_threat",))
    policy = fit_policy(validation, risk, budget=0.0, team=team)
    assert (policy.cool_down, policy.hand_over_on) == (7, ("harm_threat",))
    slow = dataclasses.replace(team, watch_at=0.5, hysteresis=0.45)
    assert fit_policy(validation, risk, budget=0.0, team=slow).watch_at > 0.45
    found = measure_rules(validation, risk, policy)["policy"]
    assert (found.recall, found.false_alarms) == (1, 0)
    assert 0 <= policy.watch_at <= policy.de_escalate_at <= policy.hand_over_at <= 1
    deaf = fit_risk(train, validation, "tiny", left_out=["smoothed"])
    assert deaf.weights["smoothed"] == 0
    assert risk.weights["smoothed"] != 0


def test_where_levels_alone_break_the_budget_no_policy_is_fitted(classifier):
    train, validation = a_world(classifier, "train"), a_world(classifier, "validation")
    risk = fit_risk(train, validation, "tiny")
    hasty = dataclasses.replace(shipped_policy(), de_escalate_level=1)
    with pytest.raises(DeescError, match=r"levels from 1 .* alone give 50\.0; raise the budget"):
        fit_policy(validation, risk, 5.0, hasty)


def test_a_risk_that_is_upside_down_on_validation_is_refused(classifier):
    turned = [
        dataclasses.replace(course, escalated=np.array([False] * 7 + [course.start is None]))
        for course in a_world(classifier, "validation")
    ]
    with pytest.raises(DeescError, match="lowers it in the validation split"):
        fit_risk(a_world(classifier, "train"), turned, "tiny")


def test_predictions_are_kept_by_model_and_data(classifier, tmp_path, monkeypatch):
    said = rows([0, 0, 3])
    first = predict_rows(said, classifier, tmp_path)
    monkeypatch.setattr(EscalationClassifier, "predict_batch", pytest.fail)
    again = predict_rows(said, classifier, tmp_path)
    assert again == first
    monkeypatch.undo()
    turned = predict_rows(said[::-1], classifier, tmp_path)
    assert [p.level for p in turned] == [p.level for p in first][::-1]
    assert len(predict_rows(said[:2], classifier, tmp_path)) == 2


def test_a_course_knows_where_it_starts():
    course = Course("c", "test", (), (), np.array([False, True, True]), ends_calm=False)
    assert course.start == 1


@pytest.mark.filterwarnings("ignore", "error:::training")  # MLflow's own
def test_the_command_writes_risk_and_policy_and_logs_every_figure(
    tiny_bundle, empty_store, tmp_path, capsys
):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    said = [
        turn
        for split in SPLITS
        for number in range(12)
        for turn in (
            *rows([0, 0, 2, 0, 2, 0, 3, 0], f"{split} hot {number}", split=split),
            *rows([0, 0, 0, 0, 1, 0, 0, 0], f"{split} cold {number}", split=split),
        )
    ]
    (tmp_path / "corpus").mkdir()
    write_corpus(said, tmp_path / "corpus")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = {
        "corpus": tmp_path / "corpus",
        "run_dir": tmp_path / "run",
        "tracking_uri": uri,
    }
    arguments = [
        *("--bundle", str(tiny_bundle), "--cache", str(tmp_path / "cache")),
        *("--risk", str(tmp_path / "risk.json"), "--policy", str(tmp_path / "policy.toml")),
        *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "test: 24 conversations, 12 build up" in printed
    assert EscalationPolicy.read(tmp_path / "policy.toml").de_escalate_at < 1
    RiskModel.read(tmp_path / "risk.json")
    (run,) = mlflow.MlflowClient(uri).search_runs(["1"])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"budget": "5.0", "horizon": "6"}
    assert run.data.metrics["test/policy/recall"] == 1
    assert run.data.metrics["test/policy/recall_low"] == 1
    assert run.data.metrics["test/last_level_3_or_more/recall"] == 0
    assert 0 <= run.data.metrics["validation/risk/brier"] <= 1
    assert all(math.isfinite(value) for value in run.data.metrics.values())
    assert [name for name in run.data.metrics if describe(name) is None] == []
    for kept, told in (("cold", "test: 12 conversations, 0 build up"), ("", "test: no conv")):
        few = [row for row in said if row.split != "test" or (kept and kept in row.conversation_id)]
        write_corpus(few, tmp_path / "corpus")
        assert main(arguments) == 0
        assert told in capsys.readouterr().out


def test_a_corpus_in_which_nothing_escalates_is_refused(tiny_bundle, tmp_path, capsys):
    (tmp_path / "corpus").mkdir()
    write_corpus(rows([0, 0, 0, 0]), tmp_path / "corpus")
    corpus = f"corpus={tmp_path / 'corpus'}"
    cache = str(tmp_path / "cache")
    assert main(["--bundle", str(tiny_bundle), "--cache", cache, "--set", corpus]) == 1
    assert "the train split needs conversations" in capsys.readouterr().err

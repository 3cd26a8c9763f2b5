"""What every figure in MLflow means, in plain words: runs, reports and docs read it here.

python -m training.descriptions        print the table of docs/analysts.md
"""

import re
from dataclasses import dataclass

from deesc_model.labels import SIGNALS, TRIGGERS, Level


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure.

    Attributes:
        words: What it says, in plain words.
        best: What nothing can better; ``""`` where neither way is better.
        in_hundred: For a share of utterances, what ``{n}`` in a hundred of them are.
    """

    words: str
    best: str = ""
    in_hundred: str = ""


OF_LABELS = {
    "micro_f1": Metric("{kind}s found and not invented, each occurrence counting alike", "1"),
    "macro_f1": Metric("{kind}s found and not invented, each {kind} alike, however rare", "1"),
    "macro_ap": Metric("how well scores rank utterances by {kind}, whatever the threshold", "1"),
    "ece": Metric("how far the scores of {kind}s are from real frequencies", "0"),
}
"""Figures of triggers, and again of signals."""

OF_ONE_LABEL = {
    "level": {"f1": Metric("utterances of this one level found and not invented", "1")},
    "trigger": {
        "f1": Metric("this one trigger found and not invented", "1"),
        "ap": Metric("how well its scores rank utterances, whatever the threshold", "1"),
    },
    "signal": {
        "f1": Metric("this one signal found and not invented", "1"),
        "ap": Metric("how well its scores rank utterances, whatever the threshold", "1"),
    },
}
"""Figures of one label: ``level.angry.f1``."""

LABELS = {
    "level": tuple(level.label for level in Level),
    "trigger": TRIGGERS,
    "signal": SIGNALS,
}

EVALUATED = {
    "level_macro_f1": Metric("how well each of the five levels is recognised, all alike", "1"),
    "level_accuracy": Metric("share of utterances with the right level", "1"),
    "level_qwk": Metric(
        "agreement on the level beyond chance; being two off costs four times one off", "1"
    ),
    "level_mae": Metric("levels that a prediction is off by, on average", "0"),
    "level_off_by_two": Metric(
        "share of utterances that are off by two levels or more",
        "0",
        "utterances have a level that is off by two or more",
    ),
    "level_ece": Metric(
        "how far scores are from real frequencies: of all “80 % sure”, are 80 % right?", "0"
    ),
    "level_heated_recall": Metric(
        "share of angry or abusive utterances that are given one of these two levels",
        "1",
        "angry or abusive utterances are found to be so",
    ),
    "level_false_alarms": Metric(
        "share of calm or concerned utterances that are called angry or abusive",
        "0",
        "calm or concerned utterances are called angry or abusive",
    ),
    "level_coverage": Metric(
        "share of utterances whose level is not marked uncertain",
        "1",
        "utterances get a level that is not marked uncertain",
    ),
    "level_certain_error": Metric(
        "share of wrong levels among those; a lower one can be bought with less coverage",
        "0",
        "levels that are not marked uncertain are wrong",
    ),
    **{
        f"{kind}_{name}": Metric(metric.words.format(kind=kind), metric.best)
        for kind in ("trigger", "signal")
        for name, metric in OF_LABELS.items()
    },
}
"""What `training.metrics` measures, but for single labels."""

PLACES = {
    "test": "corpus, test split",
    "test_public": "public texts, test split",
    "validation": "validation split after an epoch, before calibration",
}

SORTS = {
    "": "",
    "_labels": "",
    "_baseline": "of TF-IDF with logistic regression",
    "_difference": "model minus TF-IDF",
    "_seeds": "over the seeds of the child runs",
}

ENDINGS = {
    "": "",
    "_low": "lower end of the 95 % interval",
    "_high": "upper end of the 95 % interval",
    "_mean": "mean",
    "_std": "standard deviation",
}

SLICED_BY = ("context", "source", "speaker", "channel", "domain", "words")

PROBED = {
    "lower_case": "the level changes when all letters are made small",
    "typo": "the level changes when two letters of a word are swapped",
    "no_punctuation": "the level changes when commas, full stops and quotation marks go",
    "trailing_spaces": "the level changes when spaces are added at the end",
    "emoji": "the level changes when a picture of a telephone is added",
    "mention": "the level changes when it begins with @HelpTeam",
    "link": "the level changes when a link is added",
    "insult_never_lowers": "an insult at the end lowers the level",
    "thanks_never_raise": "thanks at the end raise the level",
    "negation_lowers": "a negated complaint is not given a lower level than the complaint",
}
"""What fails in each probe of `training.robustness`."""

CURVES = {
    "train/loss": Metric("loss on training data in this epoch", "0"),
    "train/train_loss": Metric("loss on training data, mean of the run", "0"),
    "train/grad_norm": Metric("length of the last gradient; a jump tells of trouble"),
    "train/learning_rate": Metric("learning rate of the encoder at this step"),
    "train/epoch": Metric("passes over the training data so far"),
    "train/total_flos": Metric("arithmetic operations spent on training"),
    "train/train_runtime": Metric("seconds that training took"),
    "train/train_samples_per_second": Metric("training examples in a second"),
    "train/train_steps_per_second": Metric("training steps in a second"),
    "validation/loss": Metric("loss on the validation split", "0"),
    "validation/selection": Metric(
        "mean of level_macro_f1 and trigger_macro_ap; the epoch with the highest is kept", "1"
    ),
    "validation/mean_selection": Metric(
        "the same of the finished weights, which are the mean of those before and after", "1"
    ),
    "validation/runtime": Metric("seconds that validation took"),
    "validation/samples_per_second": Metric("validation examples in a second"),
    "validation/steps_per_second": Metric("validation batches in a second"),
}

OF_A_RUN = {
    "passed": Metric("1 if the challenger passed the gate, 0 if it was refused", "1"),
    "failed_checks": Metric("checks of the gate that failed", "0"),
    "seeds": Metric("child runs, which differ in their seed alone"),
    "trials": Metric("child runs, which differ in the settings that are searched"),
    "selection": Metric(
        "mean of the level's macro-F1 and the triggers' average precision (best epoch, validation)",
        "1",
    ),
    "drift/count": Metric("rows that drifted", "0"),
    "best_selection": Metric("selection of the best trial (validation)", "1"),
}
"""Of gates, and of runs above others."""

DRIFT = {
    "reference": Metric("value in the reference"),
    "current": Metric("value in the current set"),
    "size": Metric("how large the shift is, as docs/analysts.md says", "0"),
    "p_value": Metric("chance of a shift of this size where nothing changed", "1"),
    "drifted": Metric("1 if chance does not explain the shift and it is large", "0"),
}
"""Of each row of `training.drift`."""

RISK = {
    "escalate": Metric("share of turns that are followed by an escalation within six turns"),
    "average_precision": Metric("how well the risk ranks turns by what follows", "1"),
    "calibration_error": Metric("how far the risk is from real frequencies", "0"),
    "brier": Metric("mean squared distance of the risk from what follows", "0"),
}
"""Of the risk that `training.policy_fitting` fits."""

ALARMS = {
    "building": Metric("conversations that escalate after their first turn"),
    "recall": Metric("share of those with an alarm before they escalate", "1"),
    "at_the_latest": Metric("share with an alarm before or in the turn that escalates", "1"),
    "lead_turns": Metric("turns from alarm to escalation, median of those with an alarm"),
    "lead_turns_all": Metric(
        "turns from alarm to escalation, median with 0 where none came before"
    ),
    "false_alarms": Metric("alarms in conversations that never escalate, per 100 of all", "0"),
    "false_alarms_quiet": Metric("alarms per 100 conversations that never escalate", "0"),
    "recovery": Metric("share of calmed conversations whose alarm is off at the end", "1"),
}
"""Of the policy and of simpler rules, as `training.policy_metrics` measures them."""

RULES = {
    "policy": "the policy",
    "last_level_3_or_more": "an alarm while the last level is angry or more",
    "last_level_2_or_more": "an alarm while the last level is frustrated or more",
    "keywords": "an alarm while the last utterance has one of some words",
    "policy_deaf_to_the_agent": "the policy without what the agent's wording tells",
}


_EVALUATION = re.compile(
    rf"({'|'.join(PLACES)})({'|'.join(SORTS)})(?:_slices/({'|'.join(SLICED_BY)})\.([^/]+))?"
    rf"/([^/]+?)({'|'.join(ENDINGS)})"
)
_ROBUSTNESS = re.compile(r"test_robustness/(\w+)_failures")
_ALARMS = re.compile(rf"(validation|test)/({'|'.join(RULES)})/(\w+?)(|_low|_high)")
_DRIFT = re.compile(rf"drift/([\w.]+)/({'|'.join(DRIFT)})")
_RISK = re.compile(r"(validation|test)/risk/(\w+)")


def describe(name: str) -> Metric | None:
    """Return what a figure of MLflow means; None if nothing is known of that name."""
    if known := CURVES.get(name) or OF_A_RUN.get(name) or _of_drift(name):
        return known
    if found := _ALARMS.fullmatch(name):
        split, rule, figure, ending = found.groups()
        return _in_place(ALARMS.get(figure), ENDINGS[ending], RULES[rule], f"{split} split")
    if found := _RISK.fullmatch(name):
        return _in_place(RISK.get(found[2]), f"{found[1]} split")
    if found := _ROBUSTNESS.fullmatch(name):
        probe = PROBED.get(found[1])
        return probe and _in_place(Metric(f"share of texts in which {probe}", "0"), PLACES["test"])
    if found := _EVALUATION.fullmatch(name):
        place, sort, attribute, value, figure, ending = found.groups()
        rows = f"only {attribute} {value}" if attribute else ""
        metric = _of_one_label(figure) if sort == "_labels" else EVALUATED.get(figure)
        metric = _in_place(metric, ENDINGS[ending], SORTS[sort], rows, PLACES[place])
        # Of a difference or a spread, the best value of the figure itself says nothing.
        return metric and Metric(
            metric.words, "" if sort == "_difference" or ending == "_std" else metric.best
        )
    return None


def metric_table() -> str:
    """Return every figure of an evaluation with what it says, as a Markdown table."""
    lines = ["| metric | in plain words | best |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {metric.words} | {metric.best} |" for name, metric in _named()]
    return "\n".join(lines)


def _named() -> list[tuple[str, Metric]]:
    single = [
        (f"{kind}.….{name}", metric)
        for kind, figures in OF_ONE_LABEL.items()
        for name, metric in figures.items()
    ]
    return [*EVALUATED.items(), *single]


def _of_drift(name: str) -> Metric | None:
    found = _DRIFT.fullmatch(name)
    return _in_place(DRIFT[found[2]], found[1]) if found else None


def _of_one_label(figure: str) -> Metric | None:
    kind, label, name = ([*figure.split("."), "", ""])[:3]
    return OF_ONE_LABEL[kind].get(name) if label in LABELS.get(kind, ()) else None


def _in_place(metric: Metric | None, *where: str) -> Metric | None:
    """Add to a figure's words of what it is."""
    return metric and Metric(f"{metric.words} ({'; '.join(filter(None, where))})", metric.best)


if __name__ == "__main__":
    print(metric_table())

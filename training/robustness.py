"""Behaviour under changes to a text that should not matter, or should push one way.

Source: Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList", 2020.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deesc_model.scoring import BoolArray, IntArray
from training.corpus import DataError, Utterance

NEGATIONS = Path("data/negations.jsonl")
"""Pairs of a displeased text and its calm negation."""

SAMPLE = 300
"""Utterances that are changed in each way."""

SEED = 2026

PredictLevels = Callable[[Sequence[Utterance]], IntArray]
"""Predicted levels 0–4 of utterances, int64 of shape (n,)."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One kind of change.

    Attributes:
        change: The changed text, or None where the change does not apply to a text.
        fails: From levels before and after the change to which rows fail.
    """

    change: Callable[[str, random.Random], str | None]
    fails: Callable[[IntArray, IntArray], BoolArray]


def _lower(text: str, _: random.Random) -> str | None:
    shouted = re.search(r"\b[A-Z]{3,}\b", text)  # capitals carry heat: leave those alone
    return None if shouted or text == text.lower() else text.lower()


def _typo(text: str, chance: random.Random) -> str | None:
    words = list(re.finditer(r"[^\W\d_]{5,}", text))
    if not words:
        return None
    word = chance.choice(words)
    at = chance.randrange(word.start() + 1, word.end() - 2)
    return f"{text[:at]}{text[at + 1]}{text[at]}{text[at + 2 :]}"


def _without_punctuation(text: str, _: random.Random) -> str | None:
    bare = " ".join(re.sub(r"(?<!\w)['’]|['’](?!\w)|[.,;:…\"“”()–—]", " ", text).split())
    return None if bare == text or not bare else bare


def _changed(before: IntArray, after: IntArray) -> BoolArray:
    return np.asarray(before != after)


def _lowered(before: IntArray, after: IntArray) -> BoolArray:
    return np.asarray(after < before)


def _raised(before: IntArray, after: IntArray) -> BoolArray:
    return np.asarray(after > before)


PROBES = {
    "lower_case": Probe(_lower, _changed),
    "typo": Probe(_typo, _changed),
    "no_punctuation": Probe(_without_punctuation, _changed),
    "trailing_spaces": Probe(lambda text, _: f"{text}   ", _changed),
    "emoji": Probe(lambda text, _: f"{text} 📱", _changed),
    "mention": Probe(lambda text, _: f"@HelpTeam {text}", _changed),
    "link": Probe(lambda text, _: f"{text} https://t.co/q7Lm2xV9", _changed),
    "insult_never_lowers": Probe(lambda text, _: f"{text} You are an idiot.", _lowered),
    "thanks_never_raise": Probe(lambda text, _: f"{text} Thank you so much!", _raised),
}
"""By name. What fails is a level that changes, or changes the wrong way."""

NEGATION = "negation_lowers"
"""The probe that has pairs of its own: a negated complaint is no complaint."""

PROBE_NAMES = (*PROBES, NEGATION)


def measure_robustness(
    rows: Sequence[Utterance], predict_levels: PredictLevels
) -> dict[str, dict[str, Any]]:
    """Return failures of every probe.

    Args:
        rows: Test utterances; `SAMPLE` of the customers' are drawn from them.
        predict_levels: The model.

    Returns:
        By probe: ``rows`` that it applies to, and ``failures`` as a share 0–1, which says nothing
        if there are no rows. The gate bounds them.

    Raises:
        DataError: The pairs of negations cannot be read.
    """
    chance = random.Random(SEED)  # noqa: S311
    customers = [row for row in rows if row.speaker == "customer"]
    sample = chance.sample(customers, min(SAMPLE, len(customers)))
    changed: list[Utterance] = []
    places: dict[str, list[int]] = {name: [] for name in PROBES}
    for name, probe in PROBES.items():
        for position, row in enumerate(sample):
            text = probe.change(row.text, chance)
            if text is not None:
                places[name].append(position)
                changed.append(replace(row, text=text))
    pairs = _read_negations()
    plain, negated = ([replace(_ALONE, text=pair[side]) for pair in pairs] for side in (0, 1))
    levels = predict_levels([*sample, *changed, *plain, *negated])
    before, levels = np.split(levels, [len(sample)])
    found = {}
    for name, probe in PROBES.items():
        after, levels = np.split(levels, [len(places[name])])
        failed = probe.fails(before[places[name]], after)
        found[name] = _result(failed)
    first, second = np.split(levels, 2)
    return found | {NEGATION: _result(second >= first)}


def robustness_table(found: dict[str, dict[str, Any]]) -> str:
    """Return what `measure_robustness` found as a Markdown table."""
    lines = ["| change | rows | failures |", "| --- | ---: | ---: |"]
    for name, part in found.items():
        failures = f"{part['failures']:.1%}" if part["rows"] else "–"
        lines.append(f"| {name} | {part['rows']} | {failures} |")
    return "\n".join(lines)


def _result(failed: BoolArray) -> dict[str, Any]:
    share = round(float(failed.mean()), 5) if len(failed) else 0.0
    return {"rows": len(failed), "failures": share}


_ALONE = Utterance("negation", 0, "customer", "-", 0, (), (), "chat", "mixed", "", "test")


def _read_negations() -> list[tuple[str, str]]:
    try:
        rows = [json.loads(line) for line in NEGATIONS.read_text(encoding="utf-8").splitlines()]
        return [(row["text"], row["negated"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {NEGATIONS}: {error!r}") from None

"""The labels that public sources carry themselves: which emotion, how severe, how abusive.

They follow other rules than ours, so they never stand in for ours; an encoder that learned them
first is nearer to our task, see `training.intermediate`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.corpus import Utterance
from training.sources import Annotation, read_about, read_rows, to_utterance
from training.unlabelled import UNLABELLED, without_near

TEXTS_OF_EACH = 20_000
"""Texts of one source at most: the largest is chatter, and would outweigh all others."""


@dataclass(frozen=True, slots=True)
class OwnLabelled:
    """A public text with its source's labels.

    Attributes:
        text: The text; its level and labels say nothing.
        labels: The source's labels, each as source, field and value.
    """

    text: Utterance
    labels: tuple[str, ...]


def load_own_labelled(
    folder: Path, held: Sequence[Utterance], *, held_out: str, seed: int
) -> list[OwnLabelled]:
    """Return the texts whose source labelled them, of all sources that are here.

    Args:
        folder: Where the sources' files may be; what is not there is left out.
        held: Texts for validation and testing: neither they nor what says nearly the same are
            returned.
        held_out: A source of which nothing is returned; "" for none.
        seed: Seed of the draw from a source that has more than `TEXTS_OF_EACH`.

    Raises:
        DataError: A file cannot be read.
    """
    chance = random.Random(seed)  # noqa: S311
    found = []
    for source, about in read_about().items():
        fields = about.get("own_labels", ())
        rows = list(read_rows(folder, source)) if fields and source != held_out else []
        for row in chance.sample(rows, min(len(rows), TEXTS_OF_EACH)):
            labels = tuple(
                f"{source} {field} {value}"
                for field in fields
                if field in row
                for value in values(row[field])
            )
            if labels and row["text"].strip():
                blank = Annotation(row["id"], "", 0, (), (), 0)
                text = to_utterance(blank, row["text"], UNLABELLED, source, about)
                found.append(OwnLabelled(text, labels))
    kept = {id(row) for row in without_near([each.text for each in found], held)}
    return [each for each in found if id(each.text) in kept]


def values(field: Any) -> list[str]:
    """Return what a field of a source says: one value, "None" too, or each of a list.

    Of a list of numbers, which are the votes of several people, it is the rounded mean.
    """
    if not isinstance(field, list):
        return [str(field)]
    if field and all(isinstance(value, int | float) for value in field):
        return [str(round(sum(field) / len(field)))]
    return [str(value) for value in field]


def label_places(texts: Sequence[OwnLabelled]) -> dict[str, int]:
    """Return the place of each label among all of them."""
    names = sorted({label for each in texts for label in each.labels})
    return {name: place for place, name in enumerate(names)}

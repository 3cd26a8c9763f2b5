"""Public texts that nobody labelled: a teacher labels them, a vocabulary is counted in them."""

import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path

from training.corpus import Utterance
from training.near_duplicates import SimilarTexts
from training.sources import (
    Annotation,
    read_about,
    read_annotations,
    read_texts,
    to_utterance,
)

UNLABELLED = "unlabelled"
"""The split of these texts. Their level is 0 and their labels are none, which says nothing."""


def load_unlabelled(folder: Path, annotations: Path, *, held_out: str = "") -> list[Utterance]:
    """Return the texts of all sources that are here and have no annotation.

    Args:
        folder: Where the sources' files may be; what is not there is left out.
        annotations: Folder of labels, one file for each source.
        held_out: A source of which nothing is returned.

    Raises:
        DataError: A file cannot be read.
    """
    about = read_about()
    rows = []
    for file in sorted(annotations.glob("*.jsonl")):
        labelled = {row.id for row in read_annotations(file)}
        for row in read_texts(folder, file.stem) if file.stem != held_out else ():
            if row.id not in labelled and row.text.strip():
                blank = Annotation(row.id, "", 0, (), (), 0)
                rows.append(to_utterance(blank, row, UNLABELLED, file.stem, about[file.stem]))
    return rows


def draw_evenly(rows: Sequence[Utterance], count: int, seed: int) -> list[Utterance]:
    """Return some rows by chance, as many of each source as it has and the others leave room for.

    Args:
        rows: What to draw from.
        count: How many to draw at most.
        seed: Seed of the draw.
    """
    by_source: dict[str, list[Utterance]] = defaultdict(list)
    for row in rows:
        by_source[row.source].append(row)
    chance = random.Random(seed)  # noqa: S311
    shuffled = [chance.sample(members, len(members)) for members in by_source.values()]
    turns = chain.from_iterable(zip_longest(*shuffled))
    return list(islice((row for row in turns if row is not None), count))


def without_near(
    rows: Sequence[Utterance], held: Sequence[Utterance], context_turns: int
) -> list[Utterance]:
    """Return the rows in which a network reads nothing that is nearly one of `held`.

    Args:
        rows: What to choose from.
        held: What is for validation or testing.
        context_turns: How many of the turns before a text are read. Those of customers count,
            unless they are of few words, as everybody says "yes please".
    """
    said, similar = {_words(row.text) for row in held}, SimilarTexts()
    for row in held:
        similar.add(row.text, None)

    def is_near(row: Utterance) -> bool:
        before = row.context[max(0, len(row.context) - context_turns) :]
        texts = [row.text, *(turn.text for turn in before if turn.speaker == "customer")]
        return _words(row.text) in said or any(map(similar.has, texts))

    return [row for row in rows if not is_near(row)]


def _words(text: str) -> str:
    return " ".join(text.lower().split())

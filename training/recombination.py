"""New texts made of parts of two: nobody has learned their labels by heart, a teacher gives them.

After the data augmentation of TinyBERT (Jiao et al. 2020, section 3.2), which changes words where
this one changes neighbours. What networks answer to texts that they were trained on is nearly what
their labels say; how they judge what they never read is what a student can learn from them alone.
"""

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from training.corpus import Utterance
from training.unlabelled import UNLABELLED


def recombine(rows: Sequence[Utterance], count: int, seed: int) -> list[Utterance]:
    """Return texts of which each is the beginning of one text and the end of another.

    Both are cut between sentences and are of one source.

    Args:
        rows: Texts of customers; those without a partner of their source are not used.
        count: How many to make, at most.
        seed: Seed of everything random.

    Returns:
        Texts without context, split `UNLABELLED`. Their level is 0 and their labels are none, which
        says nothing.
    """
    by_source: dict[str, list[Utterance]] = defaultdict(list)
    for row in rows:
        by_source[row.source].append(row)
    usable = [row for row in rows if len(by_source[row.source]) > 1]
    chance = random.Random(seed)  # noqa: S311
    found: dict[str, Utterance] = {}
    for first in chance.choices(usable, k=count if usable else 0):
        second = chance.choice(by_source[first.source])
        text = f"{_beginning(first.text, chance)} {_end(second.text, chance)}"
        found[text] = replace(
            first, text=text, level=0, triggers=(), signals=(), context=(), split=UNLABELLED
        )
    return list(found.values())


def _beginning(text: str, chance: random.Random) -> str:
    parts = _sentences(text)
    return " ".join(parts[: chance.randint(1, len(parts))])


def _end(text: str, chance: random.Random) -> str:
    parts = _sentences(text)
    return " ".join(parts[-chance.randint(1, len(parts)) :])


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?…])\s+", text.strip())

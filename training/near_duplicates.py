"""Texts that say almost the same."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

from training.corpus import Utterance

SIMILARITY = 0.7
"""Jaccard similarity of word pairs from which two texts count as near-duplicates."""

SHORTEST = 6
"""Texts of fewer words ("yes please", "still the same") repeat in real life and are left out."""


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two utterances whose texts are nearly the same, and how similar they are, 0–1."""

    first: Utterance
    second: Utterance
    similarity: float

    def __str__(self) -> str:
        """Return one line that names both turns and shows one text."""
        places = [
            f"{row.conversation_id}#{row.turn} ({row.split or 'no split'})"
            for row in (self.first, self.second)
        ]
        where = " and ".join(places)
        return f"near-duplicate {self.similarity:.2f}: {where}: {self.first.text[:60]!r}"


def shingles(text: str) -> frozenset[str]:
    """Return the pairs of neighbouring words, lower case, punctuation dropped."""
    words = re.findall(r"\w+", text.lower())
    return frozenset(" ".join(pair) for pair in pairwise(words))


class SimilarTexts:
    """Texts seen so far, and which of them a new one nearly repeats. Misses none.

    Two sets that are similar share a member among the first few of each, in any order that is the
    same for both; so only those few are indexed. The order begins with long word pairs, which are
    rare. (Prefix filtering: Chaudhuri, Ganti and Kaushik, "A Primitive Operator for Similarity
    Joins in Data Cleaning", 2006.)
    """

    def __init__(self) -> None:
        self._index: defaultdict[str, list[int]] = defaultdict(list)
        self._seen: list[tuple[object, frozenset[str]]] = []

    def add(self, text: str, name: object) -> list[tuple[Any, float]]:
        """Remember a text by a name, unless it is too short to compare.

        Returns:
            Name and similarity of each earlier text that it nearly repeats.
        """
        mine, first = _parts(text)
        found = self._find(mine, first)
        for pair in first:
            self._index[pair].append(len(self._seen))
        self._seen.append((name, mine))
        return found

    def has(self, text: str) -> bool:
        """Return whether a text nearly repeats one that was added; it is not remembered."""
        return bool(self._find(*_parts(text)))

    def _find(self, mine: frozenset[str], first: Sequence[str]) -> list[tuple[Any, float]]:
        candidates = {position for pair in first for position in self._index.get(pair, ())}
        found = []
        for position in sorted(candidates):
            other, theirs = self._seen[position]
            shared = len(mine & theirs)
            similarity = shared / (len(mine) + len(theirs) - shared)
            if similarity >= SIMILARITY:
                found.append((other, similarity))
        return found


def _parts(text: str) -> tuple[frozenset[str], list[str]]:
    """Return the word pairs of a text, and the first few of them; none of one that is too short."""
    mine = shingles(text) if len(text.split()) >= SHORTEST else frozenset()
    ordered = sorted(mine, key=lambda pair: (-len(pair), pair))
    return mine, ordered[: len(mine) - ceil(SIMILARITY * len(mine)) + 1]


def find_near_duplicates(rows: Sequence[Utterance]) -> list[NearDuplicate]:
    """Return all pairs of customers' turns that are near-duplicates, the most similar first.

    Agents greet all alike: by what they say, all conversations would hang together.
    """
    seen = SimilarTexts()
    pairs = [
        NearDuplicate(other, row, similarity)
        for row in rows
        if row.speaker == "customer"
        for other, similarity in seen.add(row.text, row)
    ]
    return sorted(pairs, key=lambda pair: -pair.similarity)

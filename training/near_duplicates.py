"""Texts that say almost the same, found by MinHash and confirmed exactly."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from datasketch import MinHash, MinHashLSH

from training.corpus import Utterance

SIMILARITY = 0.7
"""Jaccard similarity of word pairs from which two texts count as near-duplicates."""

SHORTEST = 6
"""Texts of fewer words ("yes please", "still the same") repeat in real life and are left out."""

PERMUTATIONS = 128

CANDIDATES = 0.4
"""Estimated similarity from which a pair is measured: far below, so that hardly any is missed."""


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
    """Texts seen so far, and which of them a new one nearly repeats.

    Source: Broder, "On the resemblance and containment of documents", 1997.
    """

    def __init__(self) -> None:
        self._blank = MinHash(num_perm=PERMUTATIONS)  # a copy spares drawing permutations anew
        self._index = MinHashLSH(threshold=CANDIDATES, num_perm=PERMUTATIONS)
        self._seen: list[tuple[object, frozenset[str]]] = []

    def add(self, text: str, name: object) -> list[tuple[Any, float]]:
        """Remember a text by a name, unless it is too short to compare.

        Returns:
            Name and similarity of each earlier text that it nearly repeats.
        """
        if len(text.split()) < SHORTEST:
            return []
        mine = shingles(text)
        sketch = self._blank.copy()
        sketch.update_batch([shingle.encode() for shingle in mine])
        found = []
        for position in self._index.query(sketch):
            other, theirs = self._seen[position]
            similarity = len(mine & theirs) / max(len(mine | theirs), 1)
            if similarity >= SIMILARITY:
                found.append((other, similarity))
        self._index.insert(len(self._seen), sketch)
        self._seen.append((name, mine))
        return found


def find_near_duplicates(rows: Sequence[Utterance]) -> list[NearDuplicate]:
    """Return all pairs of near-duplicates, the most similar first."""
    seen = SimilarTexts()
    pairs = [
        NearDuplicate(other, row, similarity)
        for row in rows
        for other, similarity in seen.add(row.text, row)
    ]
    return sorted(pairs, key=lambda pair: -pair.similarity)

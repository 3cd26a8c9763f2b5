"""Texts that say almost the same, found by MinHash and confirmed exactly."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

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


def find_near_duplicates(rows: Sequence[Utterance]) -> list[NearDuplicate]:
    """Return all pairs of near-duplicates, the most similar first.

    Source: Broder, "On the resemblance and containment of documents", 1997.
    """
    index = MinHashLSH(threshold=CANDIDATES, num_perm=PERMUTATIONS)
    seen: dict[int, frozenset[str]] = {}
    pairs = []
    for position, row in enumerate(rows):
        if len(row.text.split()) < SHORTEST:
            continue
        mine = shingles(row.text)
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([shingle.encode() for shingle in mine])
        for other in index.query(sketch):
            similarity = len(mine & seen[other]) / max(len(mine | seen[other]), 1)
            if similarity >= SIMILARITY:
                pairs.append(NearDuplicate(rows[other], row, similarity))
        index.insert(position, sketch)
        seen[position] = mine
    return sorted(pairs, key=lambda pair: -pair.similarity)

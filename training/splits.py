"""Give conversations to train, validation and test, 80/10/10; what has a split keeps it."""

import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sklearn.model_selection import StratifiedGroupKFold

from training.assembly import origin
from training.corpus import DataError, Utterance
from training.near_duplicates import find_near_duplicates

SEED = 2026

FOLDS = 10
"""One of them for testing, one for validation; fewer conversations are all for training."""


def assign_splits(rows: Sequence[Utterance]) -> list[Utterance]:
    """Return the rows with a split each.

    Conversations whose customers say nearly the same, and parts of one conversation, stay together
    (and join the split of a member that already has one); the rest is spread evenly over arcs and
    channels. What has a split keeps it.

    Raises:
        DataError: A conversation without a split nearly repeats conversations of two.
    """
    cluster = _clusters(rows)
    assigned = _held_splits(rows, cluster)
    first = {row.conversation_id: row for row in reversed(rows)}
    new = [row for row in first.values() if cluster[row.conversation_id] not in assigned]
    groups = [cluster[row.conversation_id] for row in new]
    if len(set(groups)) >= FOLDS:
        folds = StratifiedGroupKFold(n_splits=FOLDS, shuffle=True, random_state=SEED)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # strata of fewer than ten cannot be spread evenly
            parts = [members for _, members in folds.split(new, _strata(new), groups)]
        for split, members in zip(("test", "validation"), parts, strict=False):
            assigned |= {groups[member]: split for member in members}
    return [
        row
        if row.split
        else replace(row, split=assigned.get(cluster[row.conversation_id], "train"))
        for row in rows
    ]


def _strata(rows: Sequence[Utterance]) -> list[str]:
    """Return what is spread evenly: arcs and channels, or less where no kind has enough members."""
    for kinds in ([f"{row.arc} {row.channel}" for row in rows], [row.arc for row in rows]):
        if max(Counter(kinds).values()) >= FOLDS:  # scikit-learn refuses anything else
            return kinds
    return [""] * len(rows)


def _held_splits(rows: Sequence[Utterance], cluster: Mapping[str, str]) -> dict[str, str]:
    """Map each cluster that has conversations with a split to that split."""
    held: dict[str, dict[str, str]] = defaultdict(dict)  # by cluster: a conversation of each split
    for row in rows:
        if row.split:
            held[cluster[row.conversation_id]].setdefault(row.split, row.conversation_id)
    for row in rows:
        near = held.get(cluster[row.conversation_id], {})
        if not row.split and len(near) > 1:
            where = " and ".join(f"{name} ({split})" for split, name in near.items())
            raise DataError(
                f"{row.conversation_id} nearly repeats conversations of several splits, such as"
                f" {where}: whichever it joined would give the other away; leave it out"
            )
    return {name: next(iter(splits)) for name, splits in held.items()}


def _clusters(rows: Sequence[Utterance]) -> dict[str, str]:
    """Map each conversation to the representative of those that it must not part from."""
    parent = {row.conversation_id: row.conversation_id for row in rows}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    whole: dict[str, str] = {}
    pairs = [
        (whole.setdefault(origin(row)[0], row.conversation_id), row.conversation_id) for row in rows
    ]
    pairs += [
        (pair.first.conversation_id, pair.second.conversation_id)
        for pair in find_near_duplicates(rows)
    ]
    for first, second in pairs:
        parent[root(second)] = root(first)
    return {name: root(name) for name in parent}

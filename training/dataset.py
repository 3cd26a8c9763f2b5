"""Everything that is labelled and here, corpus and public texts, and the views of it."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deesc_model.scoring import BoolArray
from training.config import Config
from training.corpus import (
    CORPUS,
    SPLITS,
    DataError,
    Utterance,
    fingerprint,
    load_corpus,
    select_split,
    why_empty,
)
from training.sources import load_sources

log = logging.getLogger("training")


@dataclass(frozen=True, slots=True)
class DataVersion:
    """What one split held of one source.

    Attributes:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        source: `training.corpus.CORPUS`, or the name of a public source.
        rows: Utterances.
        conversations: Conversations that they are of.
        digest: First 16 hexadecimal digits of the rows' `fingerprint`.
    """

    split: str
    source: str
    rows: int
    conversations: int
    digest: str


def data_versions(splits: Mapping[str, Sequence[Utterance]]) -> list[DataVersion]:
    """Return what was in each split, source by source."""
    found = []
    for split, members in splits.items():
        for source in dict.fromkeys(row.source for row in members):
            rows = [row for row in members if row.source == source]
            conversations = len({row.conversation_id for row in rows})
            digest = fingerprint(rows)[:16]
            found.append(DataVersion(split, source, len(rows), conversations, digest))
    return found


def load_dataset(config: Config) -> dict[str, list[Utterance]]:
    """Return the utterances of each split, and log how many come from which source.

    Raises:
        DataError: Corpus or sources cannot be read, a split is empty, the corpus has nothing to
            test on, or the source to hold out is not there.
    """
    rows = load_corpus(Path(config.corpus))
    rows += load_sources(
        Path(config.sources), Path(config.annotations), held_out=config.held_out_source
    )
    splits = {split: select_split(rows, split, config.max_conversations) for split in SPLITS}
    for split, members in splits.items():
        counts = ", ".join(f"{name} {count:,}" for name, count in count_sources(members).items())
        log.info("%s: %s", split, counts)
    if not any(row.source == CORPUS for row in splits["test"]):
        raise DataError(
            f"{config.corpus} has no turn in its test split, on which every model is reported:"
            f" {why_empty('test', (row for row in rows if row.source == CORPUS))}"
        )
    return splits


def count_sources(rows: Iterable[Utterance]) -> Counter[str]:
    """Return how many utterances come from each source, most first."""
    return Counter(dict(Counter(row.source for row in rows).most_common()))


def public_rows(rows: Sequence[Utterance]) -> BoolArray:
    """Return which rows are public texts, not of our corpus, bool (n,)."""
    return np.array([row.source != CORPUS for row in rows], dtype=bool)


def without_context(rows: Sequence[Utterance]) -> list[Utterance]:
    """Return the same utterances as a caller without history would send them."""
    return [replace(row, context=()) for row in rows]


def both_views(rows: Sequence[Utterance]) -> list[Utterance]:
    """Return every utterance with its context, then every utterance without."""
    return [*rows, *without_context(rows)]

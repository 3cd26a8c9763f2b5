"""Rows that are labelled together, and the part of the output that each belongs to.

Both follow from the input alone: a window is so many rows of a file from its beginning, a part
begins with the first conversation that begins when the part before has its rows.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from deesc_model.archive.sources import Source
from deesc_model.records import BadRecord, Record

WINDOW: Final = 4096
"""Rows that are held and labelled together; the larger, the less padding. Scores depend on it."""


@dataclass(frozen=True, slots=True)
class Window:
    """Rows of one source that follow each other.

    Attributes:
        source: Where they come from.
        items: The rows, good and bad, each with the number of its part, from 0.
        size: Bytes of the source that they take; 0 if it has no size.
        left: Bytes of this and all other sources that come after them.
    """

    source: Source
    items: Sequence[tuple[int, Record | BadRecord]]
    size: int
    left: int

    @property
    def records(self) -> list[Record]:
        """The rows that can be labelled."""
        return [item for _, item in self.items if isinstance(item, Record)]


def windows_of(
    sources: Sequence[Source],
    context_turns: int,
    part_rows: int | None = None,
    left_out: Counter[str] | None = None,
    size: int = WINDOW,
) -> Iterator[Window]:
    """Cut all rows into windows.

    Args:
        sources: What to read.
        context_turns: How many turns before it come with each record.
        part_rows: Rows after which a part ends with the conversation; None makes one part.
        left_out: Counts what of transcripts was not said to the other side.
        size: Rows of a window.

    Raises:
        InvalidInputError: A source cannot be read; the message names it.
    """
    part = rows = 0
    left = sum(source.size or 0 for source in sources)
    for source in sources:
        after = left - (source.size or 0)
        with source.open(context_turns, left_out) as opened:
            while items := list(islice(opened.records, size)):
                placed: list[tuple[int, Record | BadRecord]] = []
                for item in items:
                    full = part_rows is not None and rows >= part_rows
                    if full and isinstance(item, Record) and item.starts:
                        part, rows = part + 1, 0
                    rows += 1
                    placed.append((part, item))
                before, left = left, max(after, after + (source.size or 0) - opened.position())
                yield Window(source, placed, before - left, left)
        left = after

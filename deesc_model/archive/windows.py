"""Rows that are labelled together, and the part of the output that each belongs to.

Both follow from the input alone: a window is so many rows or characters of a file, a part
begins with the first conversation that begins when the part before has its rows.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from deesc_model.archive.sources import Source
from deesc_model.records import BadRecord, Record

WINDOW: Final = 4096
"""Rows that are held and labelled together; the larger, the less padding. Scores depend on it."""

CHARACTERS: Final = 8_000_000
"""Characters from which on a window is full, however few its rows: rows may be of a megabyte."""


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
    columns: list[str] | None = None,
    size: int = WINDOW,
    characters: int = CHARACTERS,
) -> Iterator[Window]:
    """Cut all rows into windows.

    Args:
        sources: What to read.
        context_turns: How many turns before it come with each record.
        part_rows: Rows after which a part ends with the conversation; None makes one part.
        left_out: Counts what of transcripts was not said to the other side.
        columns: Gets the columns of the first table, if it is an empty list.
        size: Most rows of a window.
        characters: Characters, of all fields, with which a window is full.

    Raises:
        InvalidInputError: A source cannot be read; the message names it.
    """
    part = rows = 0
    left = sum(source.size or 0 for source in sources)
    for source in sources:
        after = left - (source.size or 0)
        with source.open(context_turns, left_out) as opened:
            if columns is not None and not columns:
                columns += opened.columns
            while items := _take(opened.records, size, characters):
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


def _take(
    records: Iterator[Record | BadRecord], size: int, characters: int
) -> list[Record | BadRecord]:
    taken: list[Record | BadRecord] = []
    held = 0
    while len(taken) < size and held < characters:
        if (item := next(records, None)) is None:
            break
        taken.append(item)
        held += item.size
    return taken

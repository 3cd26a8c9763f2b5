"""Rows that are labelled together, and the part of the output that each belongs to.

Both follow from the input alone: a window is so many rows or characters of a file, a part
begins with the first conversation that begins when the part before has its rows. So a part may
cut only those conversations whose rows stand among others'.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from deesc_model.archive.sources import Source, refuse_bad
from deesc_model.records import BadRecord, Record
from deesc_model.scored_rows import ADDED

WINDOW: Final = 4096
"""Rows that are held and labelled together; the larger, the less padding. Scores depend on it."""

CHARACTERS: Final = 8_000_000
"""Characters from which on a window is full, however few its rows: rows may be of a megabyte."""


@dataclass(frozen=True, slots=True)
class Window:
    """Rows of one source that follow each other.

    Attributes:
        source: What messages call where they come from.
        number: Which of the sources that is, from 1.
        items: The rows, good and bad, each with the number of its part, from 0.
        size: Bytes of the source that they take; 0 if it has no size.
        left: Bytes of this and all other sources that come after them.
        left_out: How often what of its transcript was not said to the other side; of the first
            window of a source.
        silent: Customers who were named and speak in no source: of a last window without rows.
    """

    source: str
    number: int
    items: Sequence[tuple[int, Record | BadRecord]]
    size: int
    left: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    silent: Sequence[str] = ()

    @property
    def records(self) -> list[Record]:
        """The rows that can be labelled."""
        return [item for _, item in self.items if isinstance(item, Record)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The windows of which a row is still to be labelled; it can be sent to another process.

    A window is labelled whole, so that scores do not depend on what is there already.

    Attributes:
        sources: As in `windows_of`.
        context_turns: As in `windows_of`.
        part_rows: As in `windows_of`.
        there: Parts that need nothing more.
        skip: Whether a row that cannot be labelled is passed on, or else ends the reading.
        columns: As in `windows_of`.
        size: As in `windows_of`.
    """

    sources: Sequence[Source]
    context_turns: int
    part_rows: int | None = None
    there: frozenset[int] = frozenset()
    skip: bool = False
    columns: list[str] | None = None
    size: int = WINDOW

    def __iter__(self) -> Iterator[Window]:
        """Yield the windows in order.

        Raises:
            InvalidInputError: A row cannot be labelled or a source not be read, and `skip` is off.
        """
        for window in windows_of(
            self.sources, self.context_turns, self.part_rows, self.columns, self.size
        ):
            wanted = [item for part, item in window.items if part not in self.there]
            bad = next((item for item in wanted if isinstance(item, BadRecord)), None)
            if bad is not None and not self.skip:
                refuse_bad(window.source, bad)
            if wanted or window.silent:
                yield window


def windows_of(
    sources: Sequence[Source],
    context_turns: int,
    part_rows: int | None = None,
    columns: list[str] | None = None,
    size: int = WINDOW,
    characters: int = CHARACTERS,
) -> Iterator[Window]:
    """Cut all rows into windows.

    Args:
        sources: What to read.
        context_turns: How many turns before it come with each record.
        part_rows: Rows after which a part ends as soon as a conversation begins; None makes one
            part.
        columns: The fields that there is a column for: a row with another cannot be labelled. An
            empty list gets those of the first table, or row.
        size: Most rows of a window.
        characters: Characters, of all fields, with which a window is full.
    """
    part = rows = 0
    silent = list(dict.fromkeys(name for source in sources for name in source.customers))
    left = sum(source.size or 0 for source in sources)
    for number, source in enumerate(sources, start=1):
        after = left - (source.size or 0)
        with source.open(context_turns) as opened:
            left_out = opened.left_out
            silent = [name for name in silent if name in opened.silent]
            if columns is not None and not columns:
                columns += opened.columns
            records = opened.records if columns is None else _fitting(opened.records, columns)
            while items := _take(records, size, characters):
                placed: list[tuple[int, Record | BadRecord]] = []
                for item in items:
                    full = part_rows is not None and rows >= part_rows
                    if full and isinstance(item, Record) and item.starts:
                        part, rows = part + 1, 0
                    rows += 1
                    placed.append((part, item))
                before, left = left, max(after, after + (source.size or 0) - opened.position())
                yield Window(source.name, number, placed, before - left, left, left_out)
                left_out = {}
        left = after
    if silent:  # what is read once cannot be asked before
        yield Window(sources[-1].name, len(sources), (), 0, 0, silent=silent)


def _fitting(
    records: Iterator[Record | BadRecord], columns: list[str]
) -> Iterator[Record | BadRecord]:
    known = ADDED.union(columns)
    for item in records:
        if isinstance(item, BadRecord):
            yield item
            continue
        if not columns:
            columns += item.row
            known = ADDED.union(columns)
        if extra := item.row.keys() - known:
            message = (
                f"the field {min(extra)} is not in the first row, so a CSV table has no column for"
                " it; write JSON Lines instead"
            )
            yield BadRecord.of_row(item.line, item.row, message)
        else:
            yield item


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

"""Where labelled rows go: one file, or a folder of parts of which each is whole or not there."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Protocol, TextIO

from deesc_model.archive.folders import Folder
from deesc_model.archive.ledger import Ledger
from deesc_model.archive.manifest import claimed
from deesc_model.archive.places import Place, open_bytes, remove
from deesc_model.archive.sources import refuse_bad
from deesc_model.archive.windows import Window
from deesc_model.errors import InvalidInputError
from deesc_model.files import as_text, open_output
from deesc_model.records import BadRecord, Record
from deesc_model.scored_rows import RowWriter, record_writer
from deesc_model.types import Prediction


class Output(Protocol):
    """Takes rows in order."""

    @property
    def there(self) -> frozenset[int]:
        """Parts that were there when this run began."""

    @property
    def kept(self) -> int:
        """Rows of these parts, labelled and skipped."""

    def write(self, part: int, window: Window, record: Record, prediction: Prediction) -> None:
        """Write a row of a window."""

    def spoil(self, part: int, window: Window, record: BadRecord) -> None:
        """Write a row aside that cannot be labelled."""


@contextlib.contextmanager
def open_file(
    out: Place | None, file_format: str, columns: Any, aside: Place | None
) -> Iterator[Output]:
    """Open one file, or standard output, for all rows.

    Args:
        out: The file; None is standard output.
        file_format: One of `records.FORMATS`.
        columns: What `columns.table_columns` returned.
        aside: Where skipped rows go; it is made at the first one. If there is none, what an earlier
            run left there is removed at the end. None if no rows are skipped.
    """
    # Skipped rows are complete after the file is: what fails in that leaves neither.
    with contextlib.ExitStack() as later, _all_rows(out, file_format, columns) as write:
        output = _OneFile(later, write, aside)
        yield output
    if aside is not None and not output.has_skipped:
        remove(aside)


@contextlib.contextmanager
def open_parts(
    folder: Folder, file_format: str, columns: Any, plan: Mapping[str, Any]
) -> Iterator[Output]:
    """Open a folder of parts, or go on with it. A part appears when it is whole and on the disk.

    Args:
        folder: The folder; it is made.
        file_format: One of `records.FORMATS`.
        columns: What `columns.table_columns` returned.
        plan: What `manifest.plan_of` returned.

    Raises:
        InvalidInputError: The folder is not for this run, see `manifest.claimed`.
    """
    with claimed(folder, file_format, plan) as ledger:
        try:
            with _Parts(folder, file_format, columns, ledger) as parts:
                yield parts
        except BaseException as error:
            if sys.stderr is not None:
                print(
                    f"{len(ledger.parts):,} parts are complete in {folder.place}"
                    + _way_on(error, [item["file"] for item in plan["inputs"][: ledger.inputs]]),
                    file=sys.stderr,
                )
            raise


def _way_on(error: BaseException, used: Sequence[str]) -> str:
    """Say how a run can be gone on with, of which so many inputs are in parts already."""
    if not isinstance(error, InvalidInputError):
        return "; the same command goes on from there"
    return f"; a run goes on from there while no input up to {used[-1]} changes" if used else ""


class _OneFile:
    def __init__(self, stack: contextlib.ExitStack, write: RowWriter, aside: Place | None) -> None:
        self._stack = stack
        self._write = write
        self._aside = aside
        self._skipped: TextIO | None = None

    there: frozenset[int] = frozenset()
    kept = 0

    @property
    def has_skipped(self) -> bool:
        """Whether a row was written aside."""
        return self._skipped is not None

    def write(self, part: int, window: Window, record: Record, prediction: Prediction) -> None:
        """Write a row."""
        self._write(record, prediction)

    def spoil(self, part: int, window: Window, record: BadRecord) -> None:
        """Write a row aside."""
        if self._skipped is None:
            if self._aside is None:
                refuse_bad(window.source, record)
            raw = self._stack.enter_context(open_bytes(self._aside, keep=True))
            self._skipped = self._stack.enter_context(as_text(raw))
        self._skipped.write(_skipped_row(window.source, record))


class _Parts:
    def __init__(self, folder: Folder, file_format: str, columns: Any, ledger: Ledger) -> None:
        self._folder = folder
        self._format = file_format
        self._columns = columns
        self._part = -1
        self._stack = contextlib.ExitStack()
        self._write: RowWriter | None = None
        self._skipped: TextIO | None = None
        self._ledger = ledger
        self.there, self.kept = ledger.parts, ledger.rows
        self._rows = self._aside = self._inputs = 0

    def __enter__(self) -> "_Parts":
        """Return itself."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Complete the last part, or after an error leave it out; there is at least one."""
        if error[0] is not None:
            self._stack.__exit__(*error)
            return
        if self._write is None and not self.there:
            self._turn_to(0)  # tools that read the folder learn the columns from it
        self._complete()
        self._ledger.tidy()

    def write(self, part: int, window: Window, record: Record, prediction: Prediction) -> None:
        """Write a row."""
        self._turn_to(part)(record, prediction)
        self._rows += 1
        self._inputs = window.number

    def spoil(self, part: int, window: Window, record: BadRecord) -> None:
        """Write a row aside, into a file for the part."""
        self._turn_to(part)
        if self._skipped is None:
            raw = self._stack.enter_context(self._folder.open(self._ledger.files_of(part)[1]))
            self._skipped = self._stack.enter_context(as_text(raw))
        self._skipped.write(_skipped_row(window.source, record))
        self._aside += 1
        self._inputs = window.number

    def _turn_to(self, part: int) -> RowWriter:
        if self._write is None or part != self._part:
            self._complete()
            self._part, self._skipped = part, None
            # Skipped rows are entered later, so they are complete before the part is.
            raw = self._stack.enter_context(self._folder.open(self._ledger.files_of(part)[0]))
            self._write = self._stack.enter_context(_row_writer(raw, self._format, self._columns))
        return self._write

    def _complete(self) -> None:
        self._stack.close()
        if self._write is not None:
            self._ledger.enter(self._part, self._rows, self._aside, self._inputs)
            self._rows = self._aside = self._inputs = 0


@contextlib.contextmanager
def _all_rows(out: Place | None, file_format: str, columns: Any) -> Iterator[RowWriter]:
    if out is None:
        with open_output(None) as stream, record_writer(stream, file_format, columns) as write:
            yield write
        return
    # What text has so far is kept; half a Parquet file is none.
    with (
        open_bytes(out, keep=file_format != "parquet") as raw,
        _row_writer(raw, file_format, columns) as write,
    ):
        yield write


@contextlib.contextmanager
def _row_writer(raw: BinaryIO, file_format: str, columns: Any) -> Iterator[RowWriter]:
    if file_format == "parquet":
        from deesc_model.parquet_writer import parquet_writer  # noqa: PLC0415 - an extra

        with parquet_writer(raw, columns) as write:
            yield write
    else:
        with as_text(raw) as stream, record_writer(stream, file_format, columns) as write:
            yield write


def _skipped_row(source: str, record: BadRecord) -> str:
    row = {
        "file": source,
        "line": record.line or None,
        "error": record.message,
        "row": record.raw,
    }
    return json.dumps(row) + "\n"

"""What `deesc score` is given: files, patterns, folders; and the fields that folders name."""

import contextlib
import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import unquote

from deesc_model.archive.places import Place, fits, lie_in_one_another, matching, seen, within
from deesc_model.errors import InvalidInputError
from deesc_model.files import is_regular, refuse_same_file, shown_name
from deesc_model.inputs import COLUMN_IS_FOR_ROWS, open_rows, row_format, transcript_records
from deesc_model.records import BadRecord, Record, in_context
from deesc_model.renaming import AS_NAMED
from deesc_model.transcripts.detection import read_transcript
from deesc_model.transcripts.naming import names_by_file
from deesc_model.transcripts.speakers import who_is_silent

_NULL: Final = "__HIVE_DEFAULT_PARTITION__"
"""What Hive, Spark and Arrow call the folder of rows whose key is null."""

_LINE: Final = re.compile(r"line (\d+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A source that is being read.

    Attributes:
        records: Its rows in order, good and bad; the last is a bad one if the file, or the rest of
            it, cannot be read.
        position: Says how many of its bytes were read so far; 0 if it has no size.
        columns: The fields that a table has, whether it has rows or not; none of all else.
        left_out: How often what of a transcript was not said to the other side.
        silent: Which of the customers that were named do not speak in it.
    """

    records: Iterator[Record | BadRecord]
    position: Callable[[], int]
    columns: Sequence[str] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    silent: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One file to label.

    Attributes:
        file: The file; ``-`` is standard input.
        file_format: One of `records.FORMATS`, or None for a transcript.
        fields: What its folders named ``key=value`` say of each row.
        named: The input format that was asked for, if any.
        customers: Names of customers, for transcripts.
        called: What a conversation of a transcript is called that has no id.
        elsewhere: Whether some of the customers may speak in other sources only.
        columns: What rows call fields otherwise, as in `records.read_rows`.
    """

    file: Place
    file_format: str | None
    fields: Mapping[str, str | None]
    named: str | None = None
    customers: tuple[str, ...] = ()
    called: str | None = None
    elsewhere: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What messages call it."""
        return shown_name(self.file)

    @property
    def size(self) -> int | None:
        """Its size in bytes, or None if it is no ordinary file."""
        return self.file.stat().st_size if is_regular(self.file) else None

    @property
    def stamp(self) -> object:
        """As `stamp_of`."""
        return stamp_of(self.file)

    @contextlib.contextmanager
    def open(self, context_turns: int) -> Iterator[OpenSource]:
        """Open the file.

        Args:
            context_turns: How many turns before it come with each record.
        """
        with contextlib.ExitStack() as stack:
            try:
                opened = self._opened(stack, context_turns)
            except InvalidInputError as error:
                size = self.size or 0
                yield OpenSource(iter((self._unreadable(error),)), lambda: size)
            else:
                yield replace(opened, records=self._as_far_as_possible(opened.records))

    def _opened(self, stack: contextlib.ExitStack, context_turns: int) -> OpenSource:
        if self.file_format is None:
            found = read_transcript(
                self.file,
                customers=self.customers,
                format_name=self.named,
                called=self.called,
                elsewhere=self.elsewhere,
            )
            names = (item.name for conversation in found for item in conversation.spoken)
            left_out = sum((Counter(item.left_out) for item in found), Counter[str]())
            size = self.size or 0
            turns = transcript_records(found, context_turns, self.fields)
            silent = who_is_silent(self.customers, names)
            return OpenSource(turns, lambda: size, left_out=left_out, silent=silent)
        opened = stack.enter_context(
            open_rows(self.file, self.file_format, self.fields, self.columns)
        )
        records = in_context(opened.rows, context_turns)
        return OpenSource(records, opened.position, opened.columns)

    def _as_far_as_possible(
        self, records: Iterator[Record | BadRecord]
    ) -> Iterator[Record | BadRecord]:
        try:
            yield from records
        except InvalidInputError as error:
            yield self._unreadable(error)

    def _unreadable(self, error: InvalidInputError) -> BadRecord:
        """Return what the error says beyond the name of the file, with the line if it knows it."""
        message = str(error).removeprefix(f"{self.file}: ").removeprefix(f"{self.name}: ")
        if found := _LINE.fullmatch(message):
            return BadRecord(int(found[1]), "", found[2])
        return BadRecord(0, "", message)


def stamp_of(file: Place) -> object:
    """Return what changes with a file; None if it is no ordinary file."""
    if not is_regular(file):
        return None
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def find_sources(
    given: Sequence[Place],
    named: str | None = None,
    customers: Sequence[str] = (),
    columns: Mapping[str, str] = AS_NAMED,
) -> list[Source]:
    """Return the files that are meant, in order; those of a folder or pattern by name.

    Args:
        given: Files, folders, or patterns such as ``calls/**/*.json``; ``-`` is standard input,
            which stands alone. Of a folder, what begins with ``.`` or ``_`` is passed over.
        named: One of `INPUT_FORMATS`, or None to find it out for each file.
        customers: Names of customers, for transcripts that do not say who is who.
        columns: What rows call fields otherwise, as in `records.read_rows`.

    Raises:
        InvalidInputError: Nothing is there, a file is meant twice or may not be read, or there are
            `columns` and no rows.
        FileNotFoundError: A file is not there, or a link leads nowhere.
    """
    files = [file for path in seen(given) for file in _files(path)]
    for file in files:
        _check_readable(file)
    if len(files) > 1 and Path("-") in files:
        raise InvalidInputError("standard input (-) cannot be read together with files")
    refuse_same_file(*files)
    sources = [
        Source(
            file,
            row_format(file, named, customers, columns),
            _fields(file),
            named,
            tuple(customers),
            called,
            elsewhere=len(files) > 1,
            columns=columns,
        )
        for file, called in zip(files, names_by_file(files), strict=True)
    ]
    if columns and all(source.file_format is None for source in sources):
        raise InvalidInputError(f"there are only transcripts; {COLUMN_IS_FOR_ROWS}")
    return sources


def refuse_bad(source: str, record: BadRecord) -> NoReturn:
    """Say where there is something that cannot be labelled, and how to go on without it.

    Raises:
        InvalidInputError: Always.
    """
    raise InvalidInputError(f"{source}: {record} (--on-error skip writes it aside)")


def refuse_streams(sources: Sequence[Source], why: str) -> None:
    """Refuse what can be read only once.

    Args:
        sources: What `find_sources` returned.
        why: What says that it must be read elsewhere or again.

    Raises:
        InvalidInputError: A source is no ordinary file.
    """
    for source in sources:
        if source.size is None:
            raise InvalidInputError(
                f"{source.name} can be read only once, but {why}; put it into a file"
            )


def refuse_inside(written: Place, given: Sequence[Place], sources: Sequence[Source]) -> None:
    """Refuse an output that the next run would read.

    Args:
        written: A file or folder for output.
        given: What `find_sources` was given.
        sources: What it returned.

    Raises:
        InvalidInputError: It is in a folder that is read or fits a pattern, or a file that is read
            is in it.
    """
    files = [source.file for source in sources]
    walked = {path for path in given if isinstance(path, Path) and path.is_dir()}
    parents = {file.parent for file in files if isinstance(file, Path)}
    # A folder that is walked may hold links to others elsewhere.
    below = {
        folder
        for parent in parents
        for folder in (parent, *parent.parents)
        if walked & {*folder.parents}
    }
    for path in (*given, *sorted(below), *files):
        if lie_in_one_another(written, path):
            raise InvalidInputError(f"{written} and {path} lie in one another; write it elsewhere")
    for path in given:
        if fits(written, path):
            raise InvalidInputError(
                f"{written} fits {path}, so the next run would read it; write it elsewhere"
            )


def _files(path: Place) -> Iterator[Place]:
    if path.is_dir():
        found = _once(_sorted(within(path)))
        if not found:
            raise InvalidInputError(f"{path} holds no files")
        yield from found
    elif str(path) == "-" or path.exists() or not glob.has_magic(str(path)):
        yield path
    else:
        # A pattern with ** fits folders and, once more, what is in them; some may hold no files.
        fitting = {
            file
            for match in matching(path)
            for file in (within(match) if match.is_dir() else _files(match))
        }
        if not fitting:
            raise InvalidInputError(f"no file fits {path}")
        yield from _once(_sorted(fitting))


def _check_readable(file: Place) -> None:
    """Say now, and not when its turn comes, that a file is not there or may not be read."""
    if str(file) == "-":
        return
    file.stat()
    if isinstance(file, Path) and not os.access(file, os.R_OK):
        raise InvalidInputError(f"{file} may not be read")


def _once(files: Sequence[Place]) -> list[Place]:
    """Leave out links to other files of a folder, as ``latest.jsonl``."""
    real = {str(file) for file in files if not (isinstance(file, Path) and file.is_symlink())}
    linked = {os.path.realpath(name) for name in real}
    return [
        file for file in files if str(file) in real or os.path.realpath(str(file)) not in linked
    ]


def _sorted(files: Iterable[Place]) -> list[Place]:
    return sorted(files, key=lambda file: file.parts)


def _fields(file: Place) -> dict[str, str | None]:
    """Return what the folders of a path as it was given say: ``day=2026-01-31`` and the like."""
    pairs = [part.split("=", 1) for part in file.parts[:-1] if "=" in part]
    return {unquote(key): None if value == _NULL else unquote(value) for key, value in pairs if key}

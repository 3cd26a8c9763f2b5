"""Parquet files of rows; the only module that needs pyarrow, the extra `parquet`.

A row stays where it was read, in its batch, and is made plain only where JSON or CSV is
written. Parquet that is written from Parquet takes the columns as they are, of every type.
"""

import base64
import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from deesc_model.errors import InvalidInputError, MissingExtraError
from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.records import (
    NumberedRow,
    Record,
    Row,
    RowWriter,
    flat_prediction,
    storable_text,
)
from deesc_model.types import Prediction

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise MissingExtraError(f"the package {error.name}", "parquet") from None

BATCH: Final = 1024
"""Rows that are read, and made into columns, at a time."""

GROUP: Final = 65_536
"""Most rows of a row group that is written."""

_READ_AS_TEXT: Final = ("text", "speaker", "conversation_id")
_LABELS: Final = pa.schema(
    [
        ("deesc_level", pa.int8()),
        ("deesc_level_name", pa.string()),
        ("deesc_frustration", pa.float64()),
        ("deesc_uncertain", pa.bool_()),
        ("deesc_triggers", pa.list_(pa.string())),
        ("deesc_signals", pa.list_(pa.string())),
        *((f"deesc_level_{int(level)}", pa.float64()) for level in Level),
        *((f"deesc_{name}", pa.float64()) for name in (*TRIGGERS, *SIGNALS)),
        ("deesc_model_version", pa.string()),
    ]
)


class ArrowRow(Mapping[str, Any]):
    """One row of a batch; a field is made a plain JSON type when it is asked for.

    Attributes:
        batch: The rows that were read together.
        index: Which of them it is, from 0.
    """

    __slots__ = ("batch", "index")

    def __init__(self, batch: pa.RecordBatch, index: int) -> None:
        self.batch = batch
        self.index = index

    def __getitem__(self, name: str) -> Any:
        """Return a field; numbers that JSON lacks are None, bytes are Base64, times are text."""
        column = self.batch.schema.get_field_index(name)
        if column < 0:
            raise KeyError(name)
        scalar = self.batch.column(column)[self.index]
        # Some writers do not mark text as text.
        return _text(scalar) if name in _READ_AS_TEXT and _is_bytes(scalar) else _plain(scalar)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the columns."""
        return iter(self.batch.schema.names)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self.batch.schema)


@contextlib.contextmanager
def open_parquet(
    file: Path, fields: Mapping[str, str | None]
) -> Iterator[tuple[Iterator[NumberedRow], Callable[[], int]]]:
    """Open a file of rows; memory does not depend on its length nor on its row groups.

    Args:
        file: The file.
        fields: Columns that are added where the file has none of the name, the same in each row.

    Yields:
        The rows, numbered from 1, and a function that says how many bytes they were so far.

    Raises:
        InvalidInputError: The file is damaged or no Parquet file, has no column ``text`` or has
            a column twice.
    """
    with _readable(file):
        source = pq.ParquetFile(
            file, pre_buffer=False, buffer_size=2**20, page_checksum_verification=True
        )
    with source:
        _check_names(file, source.schema_arrow.names)
        seen = 0

        def rows() -> Iterator[NumberedRow]:
            nonlocal seen
            with _readable(file):
                for read in source.iter_batches(BATCH, use_threads=False):
                    batch = _with_fields(read, fields)
                    for index in range(len(batch)):
                        seen += 1
                        yield seen, ArrowRow(batch, index)

        size, count = file.stat().st_size, source.metadata.num_rows
        yield rows(), lambda: size * seen // max(1, count)


def parquet_schema(file: Path, fields: Mapping[str, str | None]) -> pa.Schema:
    """Return the columns that `open_parquet` reads.

    Raises:
        InvalidInputError: As `open_parquet`.
    """
    with _readable(file):
        schema = pq.read_schema(file)
    _check_names(file, schema.names)
    for name in fields:
        if name not in schema.names:
            schema = schema.append(pa.field(name, pa.string()))
    return schema


def plain_schema(kinds: Mapping[str, type]) -> pa.Schema:
    """Return columns for plain rows.

    Args:
        kinds: ``bool``, ``int``, ``float`` or ``str`` by field; all else is stored as JSON
            in a column of text.
    """
    types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    return pa.schema([(name, types.get(kind, pa.string())) for name, kind in kinds.items()])


def merge_schemas(schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
    """Return the columns of all files; what a file lacks is null there.

    Args:
        schemas: Name and columns of each file.

    Raises:
        InvalidInputError: Files disagree on the type of a column.
    """
    merged: dict[str, tuple[str, pa.Field]] = {}
    for file, schema in schemas:
        for new in schema:
            first, old = merged.setdefault(new.name, (file, new))
            if pa.types.is_null(old.type):
                old = new.with_nullable(True)
            if not pa.types.is_null(new.type) and new.type != old.type:
                raise InvalidInputError(
                    f"the column {new.name!r} is {old.type} in {first} but {new.type} in {file};"
                    " label these files by themselves"
                )
            merged[new.name] = (first, old.with_nullable(old.nullable or new.nullable))
    complete = [
        found if all(name in schema.names for _, schema in schemas) else found.with_nullable(True)
        for name, (_, found) in merged.items()
    ]
    return pa.schema(complete, metadata=schemas[0][1].metadata if schemas else None)


@contextlib.contextmanager
def parquet_writer(stream: BinaryIO, columns: pa.Schema) -> Iterator[RowWriter]:
    """Open a function that writes one row with its prediction, in columns as of CSV but typed.

    Args:
        stream: Where the file goes; it is complete when the context ends without an error.
        columns: The fields of the rows; what an earlier run added is replaced.
    """
    kept = [field for field in columns if field.name not in _LABELS.names]
    schema = pa.schema([*kept, *_LABELS], metadata=columns.metadata)
    waiting: list[tuple[Row, Prediction]] = []
    batches: list[pa.RecordBatch] = []
    writer = pq.ParquetWriter(stream, schema, write_page_checksum=True)

    def gather() -> None:
        labels = _label_columns([prediction for _, prediction in waiting])
        for start, fields in _columns_of([row for row, _ in waiting], kept):
            end = start + len(fields[0])
            added = [column[start:end] for column in labels]
            batches.append(pa.RecordBatch.from_arrays([*fields, *added], schema=schema))
        waiting.clear()

    def flush() -> None:
        if batches:
            # Files have dictionaries of their own for columns of categories.
            table = pa.Table.from_batches(batches).unify_dictionaries()
            writer.write_table(table, row_group_size=GROUP)
            batches.clear()

    def write(record: Record, prediction: Prediction) -> None:
        waiting.append((record.row, prediction))
        if len(waiting) == BATCH:
            gather()
            if sum(map(len, batches)) >= GROUP:
                flush()

    try:
        yield write
        if waiting:
            gather()
        flush()
        writer.close()
    finally:
        writer.is_open = False  # after an error it would write its end when it is forgotten


def _label_columns(predictions: Sequence[Prediction]) -> list[pa.Array]:
    rows = [
        {
            **flat_prediction(prediction),
            "deesc_uncertain": prediction.uncertain,
            "deesc_triggers": prediction.triggers,
            "deesc_signals": prediction.signals,
        }
        for prediction in predictions
    ]
    return [pa.array([row[field.name] for row in rows], field.type) for field in _LABELS]


def _columns_of(
    rows: Sequence[Row], fields: Sequence[pa.Field]
) -> Iterator[tuple[int, list[pa.Array]]]:
    """Yield the fields of runs of rows as columns, and with which row each run begins.

    Rows that stand together in a batch are taken as they stand.
    """
    start = 0
    while start < len(rows):
        first, end = rows[start], start + 1
        if isinstance(first, ArrowRow):
            while end < len(rows) and _stands_at(rows[end], first, end - start):
                end += 1
            part = first.batch.slice(first.index, end - start)
            yield start, [_column(part, field) for field in fields]
        else:
            while end < len(rows) and not isinstance(rows[end], ArrowRow):
                end += 1
            yield start, [_plain_column(rows[start:end], field) for field in fields]
        start = end


def _stands_at(row: Row, first: ArrowRow, distance: int) -> bool:
    return (
        isinstance(row, ArrowRow)
        and row.batch is first.batch
        and row.index == first.index + distance
    )


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    position = batch.schema.get_field_index(field.name)
    if position < 0:
        return pa.nulls(len(batch), field.type)
    column = batch.column(position)
    return column if column.type == field.type else column.cast(field.type)


def _plain_column(rows: Sequence[Row], field: pa.Field) -> pa.Array:
    values = [row.get(field.name) for row in rows]
    if pa.types.is_string(field.type):
        values = [None if value is None else storable_text(value) for value in values]
    return pa.array(values, field.type)


def _with_fields(batch: pa.RecordBatch, fields: Mapping[str, str | None]) -> pa.RecordBatch:
    for name, value in fields.items():
        if name not in batch.schema.names:
            column = pa.array([value] * len(batch), pa.string())
            batch = batch.append_column(name, column)
    return batch


def _check_names(file: Path, names: Sequence[str]) -> None:
    if "text" not in names:
        raise InvalidInputError(f"{file}: no column named text among {', '.join(names)[:200]}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInputError(f"{file}: the column {twice[0]!r} stands twice")


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Name the file where Arrow does not; errors of the system name it themselves."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidInputError(f"{file} is damaged or no Parquet file: {reason}") from None


def _is_bytes(scalar: pa.Scalar) -> bool:
    kind = scalar.type
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _is_text(scalar: pa.Scalar) -> bool:
    kind = scalar.type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _text(scalar: pa.Scalar) -> str | None:
    """Return text; bytes that are not UTF-8 become surrogates, which `Turn` refuses."""
    if not scalar.is_valid:
        return None
    return str(scalar.as_buffer().to_pybytes().decode("utf-8", "surrogateescape"))


def _plain(scalar: pa.Scalar) -> Any:  # noqa: PLR0911
    """Return a value as a plain JSON type."""
    kind = scalar.type
    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.DictionaryScalar | pa.ExtensionScalar | pa.RunEndEncodedScalar):
        inner = scalar.value
        return _plain(inner) if isinstance(inner, pa.Scalar) else inner
    if _is_text(scalar):
        return _text(scalar)
    if _is_bytes(scalar):
        return base64.b64encode(scalar.as_buffer().to_pybytes()).decode()
    if pa.types.is_struct(kind):
        return {name: _plain(scalar[name]) for name in scalar}
    if pa.types.is_map(kind):
        return [[_plain(pair[0]), _plain(pair[1])] for pair in scalar.values or ()]
    if pa.types.is_nested(kind):
        return [_plain(item) for item in scalar.values or ()]
    if pa.types.is_floating(kind):
        value = scalar.as_py()
        return value if math.isfinite(value) else None
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return scalar.as_py()
    return scalar.cast(pa.string()).as_py()

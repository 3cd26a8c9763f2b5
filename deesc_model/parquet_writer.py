"""Parquet files of labelled rows, written; needs pyarrow, the extra `parquet`.

What comes from Parquet goes out as the columns that it was, of whatever type.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, Final

from deesc_model.arrow import pa, pq
from deesc_model.errors import InvalidInputError
from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.parquet_reader import ArrowRow
from deesc_model.records import Record, Row, storable_text
from deesc_model.scored_rows import ADDED, RowWriter, flat_prediction
from deesc_model.types import Prediction

GROUP: Final = 65_536
"""Most rows of a row group that is written."""

GROUP_BYTES: Final = 64_000_000
"""Bytes from which on a row group is written, however few its rows."""

_STALE: Final = (b"org.apache.spark.sql.parquet.row.metadata", b"parquet.avro.schema")
"""What other writers say of the columns in a file's metadata; their readers believe it, and would
not see the columns that are added."""

_BATCH: Final = 1024
_BATCH_SIZE: Final = 8_000_000

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


def plain_schema(kinds: Mapping[str, type | None]) -> pa.Schema:
    """Return columns for plain rows.

    Args:
        kinds: ``bool``, ``int``, ``float`` or ``str`` by field; all else is stored as JSON
            in a column of text. None: no row has a value. A name that UTF-8 cannot hold is stored
            as `storable_text`.
    """
    types: dict[type | None, pa.DataType] = {
        bool: pa.bool_(),
        int: pa.int64(),
        float: pa.float64(),
        None: pa.null(),
    }
    columns: dict[str, pa.DataType] = {}
    for name, kind in kinds.items():
        stored = storable_text(name)
        columns[stored] = pa.string() if stored in columns else types.get(kind, pa.string())
    return pa.schema(columns.items())


def merge_schemas(schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
    """Return the columns of all files, without labels of an earlier run.

    What a file lacks is null there.

    Args:
        schemas: Name and columns of each file.

    Raises:
        InvalidInputError: Files disagree on the type of a column.
    """
    merged: dict[str, tuple[str, pa.Field]] = {}
    for file, schema in schemas:
        for new in (field for field in schema if field.name not in ADDED):
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


def text_where_unknown(columns: pa.Schema, known: Sequence[pa.Schema]) -> pa.Schema:
    """Return the columns with text for those that have no type yet, nor have one in `known`."""
    names = {name for schema in known for name in schema.names}
    return pa.schema(
        [
            field.with_type(pa.string())
            if pa.types.is_null(field.type) and field.name not in names
            else field
            for field in columns
        ],
        metadata=columns.metadata,
    )


@contextlib.contextmanager
def parquet_writer(stream: BinaryIO, columns: pa.Schema) -> Iterator[RowWriter]:
    """Open a function that writes one row with its prediction, in columns as of CSV but typed.

    Args:
        stream: Where the file goes; it is complete when the context ends without an error.
        columns: The fields of the rows; what an earlier run added is replaced.
    """
    kept = [field for field in columns if field.name not in ADDED]
    told = {key: value for key, value in (columns.metadata or {}).items() if key not in _STALE}
    schema = pa.schema([*kept, *_LABELS], metadata=told)
    waiting: list[tuple[Row, Prediction]] = []
    size = 0
    batches: list[pa.RecordBatch] = []
    writer = pq.ParquetWriter(stream, schema, write_page_checksum=True)

    def gather() -> None:
        nonlocal size
        labels = _label_columns([prediction for _, prediction in waiting])
        for start, fields in _columns_of([row for row, _ in waiting], kept):
            end = start + len(fields[0])
            added = [column[start:end] for column in labels]
            batches.append(pa.RecordBatch.from_arrays([*fields, *added], schema=schema))
        waiting.clear()
        size = 0

    def flush() -> None:
        if batches:
            # Files have dictionaries of their own for columns of categories.
            table = pa.Table.from_batches(batches).unify_dictionaries()
            writer.write_table(table, row_group_size=GROUP)
            batches.clear()

    def write(record: Record, prediction: Prediction) -> None:
        nonlocal size
        waiting.append((record.row, prediction))
        size += record.size
        if len(waiting) == _BATCH or size >= _BATCH_SIZE:
            gather()
            many = sum(map(len, batches)) >= GROUP
            if many or sum(batch.nbytes for batch in batches) >= GROUP_BYTES:
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
    if "\\" in field.name:  # perhaps it is not the name that the rows have
        rows = [{storable_text(name): value for name, value in row.items()} for row in rows]
    values = [row.get(field.name) for row in rows]
    if pa.types.is_string(field.type):
        values = [None if value is None else storable_text(value) for value in values]
    return pa.array(values, field.type)

"""Parquet files of rows, read; needs pyarrow, the extra `parquet`.

A row stays where it was read, in its batch, and is made plain only where that is asked for.
"""

import base64
import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from deesc_model.arrow import pa, pc, pq
from deesc_model.errors import DeescError, InvalidInputError
from deesc_model.files import InputFile
from deesc_model.records import NumberedRow, storable_text
from deesc_model.renaming import AS_NAMED, FIELDS, rename_header

BATCH: Final = 64
"""Rows that are read at a time; few, as they may be of a megabyte each."""

_INT96_UNIT: Final = "us"
"""Of nanoseconds, which Arrow takes, 64 bits end in 2262, and dates beyond would come out wrong."""


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
        """Return a field; numbers that JSON lacks are None, bytes are Base64, times are text.

        How long something took is in seconds.
        """
        column = self.batch.schema.get_field_index(name)
        if column < 0:
            raise KeyError(name)
        scalar = _inner(self.batch.column(column)[self.index])
        # Some writers do not mark text as text.
        return _text(scalar) if name in FIELDS and _is_bytes(scalar) else _plain(scalar)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the columns."""
        return iter(self.batch.schema.names)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self.batch.schema)


@contextlib.contextmanager
def open_parquet(
    file: InputFile,
    fields: Mapping[str, str | None],
    columns: Mapping[str, str] = AS_NAMED,
    raw: bytes | None = None,
) -> Iterator[tuple[Iterator[NumberedRow], Callable[[], int], Sequence[str]]]:
    """Open a file of rows; memory does not depend on its length nor on its row groups.

    Args:
        file: The file.
        fields: Columns that are added where the file has none of the name, the same in each row;
            what UTF-8 cannot hold is as `storable_text` has it.
        columns: As in `records.read_rows`.
        raw: The file's bytes, of one that is not on the disk.

    Yields:
        The rows, numbered from 1, a function that says how many bytes they were so far, and the
        columns.

    Raises:
        InvalidInputError: The file is damaged or no Parquet file, or as `rename_header`.
    """
    fields = _storable(fields)
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(file.open("rb") if raw is None else pa.BufferReader(raw))
        with _readable(file):
            source = stack.enter_context(
                pq.ParquetFile(
                    stream,
                    pre_buffer=False,
                    buffer_size=2**20,
                    page_checksum_verification=True,
                    coerce_int96_timestamp_unit=_INT96_UNIT,
                )
            )
        own = _names(file, source.schema_arrow, columns)
        instants = _instants(source)
        seen = 0

        def rows() -> Iterator[NumberedRow]:
            nonlocal seen
            with _readable(file):
                for read in _batches(source):
                    batch = _in_utc(read, instants).rename_columns(own)
                    batch = _with_fields(batch, fields)
                    for index, size in enumerate(_sizes(batch)):
                        seen += 1
                        yield NumberedRow(seen, ArrowRow(batch, index), size)

        size = file.stat().st_size if raw is None else len(raw)
        count = source.metadata.num_rows
        names = tuple(dict.fromkeys([*own, *fields]))
        yield rows(), lambda: size * seen // max(1, count), names


def _batches(source: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    for group in range(source.num_row_groups):
        # Arrow joins no categories inside lists or structures over the end of a row group.
        for batch in source.iter_batches(BATCH, row_groups=[group], use_threads=False):
            yield _compact(batch)


def _compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Leave out the categories that no row has: each batch holds a copy of the row group's."""
    columns = [
        column.dictionary_decode().dictionary_encode().cast(column.type)
        if _has_spare_categories(column)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _has_spare_categories(column: pa.Array) -> bool:
    kind = column.type
    return (
        pa.types.is_dictionary(kind)
        and not (kind.ordered or pa.types.is_nested(kind.value_type))
        and len(column.dictionary) > len(column)
    )


def _sizes(batch: pa.RecordBatch) -> list[int]:
    """Return the bytes of each row: of texts its own, of all else the same for each."""
    sizes = np.zeros(len(batch), dtype=np.int64)
    for column in batch.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            sizes += pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        else:
            sizes += column.nbytes // max(1, len(batch))
    return list(map(int, sizes))


def parquet_schema(
    file: InputFile, fields: Mapping[str, str | None], columns: Mapping[str, str] = AS_NAMED
) -> pa.Schema:
    """Return the columns that `open_parquet` reads.

    Raises:
        InvalidInputError: As `open_parquet`.
    """
    with _readable(file), file.open("rb") as stream:
        source = pq.ParquetFile(stream, coerce_int96_timestamp_unit=_INT96_UNIT)
        schema = _schema_in_utc(source.schema_arrow, _instants(source))
    names = _names(file, schema, columns)
    schema = pa.schema(map(pa.Field.with_name, schema, names), metadata=schema.metadata)
    for name in _storable(fields):
        if name not in schema.names:
            schema = schema.append(pa.field(name, pa.string()))
    return schema


def _instants(source: pq.ParquetFile) -> frozenset[str]:
    """Return the columns of INT96, Spark's old times: they are instants, which Arrow forgets.

    Those inside of structures and lists stay times of no zone.
    """
    columns = map(source.schema.column, range(len(source.schema)))
    return frozenset(column.path for column in columns if column.physical_type == "INT96")


def _schema_in_utc(schema: pa.Schema, instants: frozenset[str]) -> pa.Schema:
    kind = pa.timestamp(_INT96_UNIT, "UTC")
    return pa.schema(
        [field.with_type(kind) if field.name in instants else field for field in schema],
        metadata=schema.metadata,
    )


def _in_utc(batch: pa.RecordBatch, instants: frozenset[str]) -> pa.RecordBatch:
    return batch.cast(_schema_in_utc(batch.schema, instants)) if instants else batch


def _storable(fields: Mapping[str, str | None]) -> dict[str, str | None]:
    return {
        storable_text(name): None if value is None else storable_text(value)
        for name, value in fields.items()
    }


def _with_fields(batch: pa.RecordBatch, fields: Mapping[str, str | None]) -> pa.RecordBatch:
    for name, value in fields.items():
        if name not in batch.schema.names:
            column = pa.array([value] * len(batch), pa.string())
            batch = batch.append_column(name, column)
    return batch


def _names(file: InputFile, schema: pa.Schema, columns: Mapping[str, str]) -> list[str]:
    try:
        return rename_header(schema.names, columns)
    except InvalidInputError as error:
        raise InvalidInputError(f"{file}: {error}") from None


@contextlib.contextmanager
def _readable(file: InputFile) -> Iterator[None]:
    """Name the file where Arrow does not; errors of the system name it themselves."""
    try:
        yield
    except MemoryError:  # Arrow's is one of its own errors too
        raise DeescError(f"{file}: no memory is left to read it") from None
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidInputError(f"{file}: damaged, or no Parquet file: {reason}") from None


def _inner(scalar: pa.Scalar) -> pa.Scalar:
    """Return what a category, or one of a run of equals, stands for."""
    while isinstance(scalar, pa.DictionaryScalar | pa.RunEndEncodedScalar):
        if not isinstance(scalar.value, pa.Scalar):
            break
        scalar = scalar.value
    return scalar


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


_IN_A_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


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
    if pa.types.is_duration(kind):
        return scalar.cast(pa.int64()).as_py() / _IN_A_SECOND[kind.unit]
    try:
        return scalar.cast(pa.string()).as_py()
    except pa.ArrowInvalid:
        if not pa.types.is_timestamp(kind):
            raise
        # Arrow knows no such zone; the time is stored in that of UTC.
        return scalar.cast(pa.timestamp(kind.unit, "UTC")).cast(pa.string()).as_py()

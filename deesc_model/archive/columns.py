"""Which columns a table of labelled rows has; it is known before the first row is written."""

from collections.abc import Sequence
from typing import Any

from deesc_model.archive.sources import Source, refuse_bad, refuse_streams
from deesc_model.errors import InvalidInputError
from deesc_model.records import Record


def table_columns(sources: Sequence[Source], file_format: str, *, skip: bool = False) -> Any:
    """Return what `outputs.open_file` and `open_parts` need to know of the columns.

    Of a CSV table these are the fields of the first row that can be labelled; without such a row,
    those of the first table. Parquet says of itself what it holds; for a Parquet table all else
    is read once through: a field is a column of whole numbers, numbers, or true and false if all
    its values are; else of text, with JSON for what is no text. Whole numbers beyond 2**53 beside
    others become text.

    Args:
        sources: What will be read.
        file_format: One of `records.FORMATS`.
        skip: Whether what cannot be labelled or read is passed over; else it is said now where all
            is read once through.

    Returns:
        For Parquet its schema, for CSV a list of names; an empty one for JSON Lines, and for CSV
        of what can be read only once, to be filled by `windows.windows_of`.

    Raises:
        InvalidInputError: For Parquet, if a source can be read only once, files disagree on a
            column, or there is what cannot be labelled and `skip` is off.
        MissingExtraError: For Parquet, if pyarrow is not installed.
    """
    if file_format == "parquet":
        return _parquet_columns(sources, skip)
    once = any(source.size is None for source in sources)
    return _first_fields(sources) if file_format == "csv" and not once else []


def _first_fields(sources: Sequence[Source]) -> list[str]:
    named: Sequence[str] = ()
    for source in sources:
        with source.open(context_turns=0) as opened:
            named = named or opened.columns
            for item in opened.records:
                if isinstance(item, Record):
                    return list(item.row)
    return list(named)


def _parquet_columns(sources: Sequence[Source], skip: bool) -> Any:
    from deesc_model.parquet_reader import parquet_schema  # noqa: PLC0415 - an extra
    from deesc_model.parquet_writer import (  # noqa: PLC0415
        merge_schemas,
        plain_schema,
        text_where_unknown,
    )

    refuse_streams(sources, "Parquet needs to know all columns first")
    schemas = []
    for source in sources:
        if source.file_format == "parquet":
            try:
                schema = parquet_schema(source.file, source.fields, source.columns)
                schemas.append((source.name, schema))
            except InvalidInputError:
                if not skip:
                    raise
    others = [source for source in sources if source.file_format != "parquet"]
    plain = [(_names(others), plain_schema(_kinds(others, skip)))] if others else []
    known = [schema for _, schema in schemas]
    return text_where_unknown(merge_schemas([*schemas, *plain]), known)


def _names(sources: Sequence[Source]) -> str:
    more = f" and {len(sources) - 1:,} more" if len(sources) > 1 else ""
    return f"{sources[0].name}{more}"


def _kinds(sources: Sequence[Source], skip: bool) -> dict[str, type | None]:
    """Return what each field of plain rows holds: bool, int, float, or str; None for nothing."""
    found: dict[str, type | None] = {}
    for source in sources:
        with source.open(context_turns=0) as opened:
            for item in opened.records:
                if isinstance(item, Record):
                    for name, value in item.row.items():
                        found[name] = _wider(found.get(name), _kind(value))
                elif not skip:
                    refuse_bad(source.name, item)
    return {name: int if kind is _LongInt else kind for name, kind in found.items()}


class _LongInt(int):
    """A whole number that is none of those which a column of numbers holds exactly."""


def _kind(value: object) -> type | None:
    if value is None:
        return None
    if isinstance(value, int) and not -(2**53) <= value <= 2**53:
        return _LongInt if -(2**63) <= value < 2**63 else str
    return type(value) if isinstance(value, bool | int | float) else str


def _wider(one: type | None, other: type | None) -> type | None:
    if one is None or other is None or one is other:
        return one or other
    if {one, other} == {int, _LongInt}:
        return _LongInt
    return float if {one, other} == {int, float} else str

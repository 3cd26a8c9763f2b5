"""What the fields of rows are called here, where a file calls them otherwise."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from deesc_model.errors import InvalidInputError

FIELDS: Final = ("text", "speaker", "conversation_id", "channel")
"""The fields of a row that mean something here; all others are only kept."""

AS_NAMED: Final[Mapping[str, str]] = {}
"""The file's column for each of `FIELDS` that it calls otherwise: for none."""


def read_pairs(option: str, given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield name and value of what an option was given as ``NAME=VALUE``.

    Raises:
        InvalidInputError: Something is no such pair.
    """
    for pair in given:
        name, separator, value = pair.partition("=")
        if not (name and separator and value):
            raise InvalidInputError(f"{option} takes NAME=VALUE, not {pair!r}")
        yield name, value


def read_columns(given: Sequence[str]) -> dict[str, str]:
    """Return the file's column for each field that ``--column FIELD=COLUMN`` names.

    Raises:
        InvalidInputError: Something is no such pair, or names an unknown field, or a field or a
            column a second time.
    """
    columns: dict[str, str] = {}
    for name, column in read_pairs("--column", given):
        if name not in FIELDS:
            raise InvalidInputError(f"--column takes one of {', '.join(FIELDS)}, not {name!r}")
        if name in columns:
            raise InvalidInputError(f"--column says twice which column is {name}")
        if column in columns.values():
            raise InvalidInputError(f"--column takes the column {column!r} for two fields")
        columns[name] = column
    return columns


def rename_header(header: Sequence[str], columns: Mapping[str, str] | None) -> list[str]:
    """Return what the columns of a table are called here.

    One that differs from a field only in case or in blanks around it is taken for that field if
    no column is called exactly so, and no other is like it.

    Args:
        header: What the file calls them.
        columns: As in `read_columns`; None: they stay as they are, and no text is needed.

    Raises:
        InvalidInputError: A column is missing, or two have or would have one name.
    """
    new_names: dict[str, str] = {}
    if columns is not None:
        alike = _alike(header, columns)
        for name, column in {"text": "text", **columns}.items():
            if column not in header and name not in alike.values():
                raise no_column(name, column, header)
        new_names = alike | {column: name for name, column in columns.items()}
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise InvalidInputError(f"the column {twice[0]!r} stands twice")
    _refuse_both(header, new_names)
    return [new_names.get(name, name) for name in header]


def rename_fields(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Return a row that is in no table with its fields as they are called here.

    Raises:
        InvalidInputError: A field is missing, or two would have one name.
    """
    for name, column in columns.items():
        if column not in row:
            raise InvalidInputError(f"the field {column}, which is to be {name}, is missing")
    new_names = {column: name for name, column in columns.items()}
    _refuse_both(row, new_names)
    return {new_names.get(name, name): value for name, value in row.items()}


def no_column(name: str, column: str, header: Sequence[str]) -> InvalidInputError:
    """Return the error of a table that has no column for a field.

    Args:
        name: The field.
        column: What its column should be called.
        header: What the table's columns are called.
    """
    shown = repr(", ".join(header)[:200])[1:-1]  # what cannot be shown is escaped
    # Where commas do not separate columns no name would help.
    hint = (
        "in CSV commas must separate columns"
        if header and re.search("[;\t]", header[0])
        else f"say which it is: --column {name}=COLUMN"
    )
    return InvalidInputError(f"no column named {column} among {shown}; {hint}")


def _alike(header: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the field for each column that is called nearly like it."""
    found: dict[str, str] = {}
    for name in FIELDS:
        alike = [
            column
            for column in header
            if column.strip().casefold() == name and column not in columns.values()
        ]
        if len(alike) == 1 and name not in columns and name not in header:
            found[alike[0]] = name
    return found


def _refuse_both(names: Collection[str], new_names: Mapping[str, str]) -> None:
    for column, name in new_names.items():
        if name != column and name in names and name not in new_names:
            raise InvalidInputError(
                f"{column!r} is to be {name}, but there is a {name!r} too; take one of them out"
            )

"""Options that several commands share, as typer reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from deesc_model.errors import InvalidInputError
from deesc_model.inputs import INPUT_FORMATS
from deesc_model.playbook import CHANNELS
from deesc_model.renaming import FIELDS, read_columns
from deesc_model.terminal import Output

ModelOption = Annotated[
    Path | None,
    typer.Option("--model", metavar="FOLDER", help="A bundle; default: the shipped one."),
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Threads; default: all CPUs allowed.")
]
FileArgument = Annotated[
    Path,
    typer.Argument(
        help="Rows (.jsonl, .csv, .parquet) with a field 'text', or a transcript; - is stdin."
    ),
]
InputOption = Annotated[
    str | None,
    typer.Option(
        "--input-format",
        help=f"{', '.join(INPUT_FORMATS)}; default: found out by name and content, of stdin jsonl.",
    ),
]
CustomerOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="Who of a transcript is the customer; may be given more than once."
    ),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=COLUMN",
        help=f"What rows call one of {', '.join(FIELDS)}; may be given more than once.",
    ),
]
ChannelOption = Annotated[
    str | None,
    typer.Option(help=f"One of {', '.join(CHANNELS)}; default: as the file says, else chat."),
]
PolicyOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="When to act; default: the shipped one.")
]
PlaybookOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="What to say; default: the shipped one.")
]
RiskOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Weights of the risk, of another model; default: shipped."),
]
FormatOption = Annotated[
    Output, typer.Option("--format", help="auto: a table on a terminal, lines in a pipe.")
]


def known(name: str | None, names: Sequence[str], option: str) -> str | None:
    """Return what was given for an option that takes one of some names.

    Raises:
        typer.BadParameter: It is none of them.
    """
    if name is not None and name not in names:
        raise typer.BadParameter(f"{option} must be one of {', '.join(names)}, not {name!r}")
    return name


def renamed(column: Sequence[str] | None) -> dict[str, str]:
    """Return the file's column for each field that ``--column`` names.

    Raises:
        typer.BadParameter: As `read_columns`.
    """
    try:
        return read_columns(column or ())
    except InvalidInputError as error:
        raise typer.BadParameter(str(error)) from None

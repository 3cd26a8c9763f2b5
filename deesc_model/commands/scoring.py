"""The command that labels files of rows and of transcripts, one or an archive of them."""

from enum import StrEnum
from typing import Annotated

import typer

from deesc_model.archive.job import PART_ROWS, Engine, Job, run
from deesc_model.archive.places import place
from deesc_model.commands.notes import note, note_left_out, plain_name, progress
from deesc_model.commands.options import (
    ColumnOption,
    CustomerOption,
    InputOption,
    ModelOption,
    known,
    renamed,
)
from deesc_model.errors import InvalidInputError
from deesc_model.inputs import INPUT_FORMATS
from deesc_model.records import FORMATS


class OnError(StrEnum):
    """What `deesc score` does with a row that cannot be labelled."""

    FAIL = "fail"
    SKIP = "skip"


def score(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Rows (.jsonl, .csv, .parquet) with a field 'text', or transcripts; files,"
            " folders, patterns, URIs of any as s3://BUCKET/NAME; - is stdin.",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="A file or URI; default: standard output."
        ),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Write parts into a folder or URI; the same call resumes it.",
        ),
    ] = None,
    part_rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Rows after which a part ends as the next conversation begins; {PART_ROWS:,}.",
        ),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that label.")] = 1,
    engine: Annotated[
        Engine, typer.Option(help="ray spreads the processes over the cluster of RAY_ADDRESS.")
    ] = Engine.LOCAL,
    input_format: InputOption = None,
    column: ColumnOption = None,
    customer: CustomerOption = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--format", help=f"{', '.join(FORMATS)}; default: by name, else as the input."
        ),
    ] = None,
    on_error: Annotated[
        OnError,
        typer.Option(help="skip writes rows that cannot be labelled, or files not read, aside."),
    ] = OnError.FAIL,
    skipped: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Where skipped rows go; default with -o OUT: OUT.skipped.jsonl. Needed for"
            " standard output; with --parts it is always FOLDER/_skipped.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Most utterances in a forward pass.")] = 32,
    model: ModelOption = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of a process; default: they share all CPUs allowed."),
    ] = None,
) -> None:
    """Label every row of files, in constant memory, or every turn of transcripts.

    Rows that share a conversation_id are read in context, also where rows of others stand between
    them; a row without one stands alone. What the columns are called is said by --column, as
    --column text=body. An output file appears under its name when it is complete; until then it
    is NAME.….partial. Folders named key=value become fields. URIs of stores (s3, gs, abfs) need
    the extra parquet.
    """
    named = known(input_format, INPUT_FORMATS, "--input-format")
    wanted = known(output_format, FORMATS, "--format")
    skip = on_error is OnError.SKIP
    to_stdout = not (out or parts)
    for wrong, why in (
        (parts and (out or skipped), "--parts is a folder for all; -o and --skipped name files"),
        (part_rows and not parts, "--part-rows is for --parts FOLDER"),
        (skipped and not skip, "--skipped is for --on-error skip; else nothing is skipped"),
        (skip and to_stdout and not skipped, "name a file for skipped rows with --skipped"),
        (wanted == "parquet" and to_stdout, "Parquet is no text; name a file for it with -o"),
    ):
        if wrong:
            raise typer.BadParameter(why)
    given = [place(file) for file in files]
    job = Job(
        given,
        model=model,
        out=None if out is None else place(out),
        parts=None if parts is None else place(parts),
        part_rows=part_rows or PART_ROWS,
        input_format=named,
        customers=customer or (),
        columns=renamed(column),
        output_format=wanted,
        skip=skip,
        skipped=place(skipped) if skipped else None,
        engine=engine,
        processes=processes,
        threads=threads,
        batch_size=batch_size,
    )
    done = run(job, progress(plain_name(given), "rows"))
    counts = done.counts
    note_left_out(counts.left_out)
    note(
        f"{counts.labelled:,} row{'' if counts.labelled == 1 else 's'} labelled"
        + (f", {done.kept:,} were there" if done.kept else "")
        + (f", {counts.skipped:,} skipped, see {done.aside}" if counts.skipped else "")
    )
    if counts.silent:  # a name may be wrong, but so nothing is to be done again
        raise InvalidInputError(f"no speaker of these files is called {counts.silent[0]!r}")

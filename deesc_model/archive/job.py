"""A whole run of `deesc score`: what is asked for, and all that is put together to do it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from deesc_model import __version__
from deesc_model.archive.columns import table_columns
from deesc_model.archive.folders import folder_at
from deesc_model.archive.labelling import Labeller, in_processes, in_this_process
from deesc_model.archive.ledger import LEDGER_FILE, SKIPPED_FOLDER, part_files
from deesc_model.archive.manifest import MANIFEST_FILE, guard, plan_of
from deesc_model.archive.outputs import Output, open_file, open_parts
from deesc_model.archive.pace import Pace
from deesc_model.archive.places import Place, beside, check_place
from deesc_model.archive.scoring import Counts, score
from deesc_model.archive.sources import Source, find_sources, refuse_inside, refuse_streams
from deesc_model.archive.windows import Wanted
from deesc_model.bundle import Bundle, default_bundle_path, read_bundle
from deesc_model.classifier import EscalationClassifier
from deesc_model.files import refuse_same_file
from deesc_model.network import available_cpus
from deesc_model.records import format_of

PART_ROWS: Final = 10_000
"""Rows after which a part ends, unless it is said."""

Progress = AbstractContextManager[tuple[Pace, Callable[[int, float, float], None]]]
"""Opened before the first window; then told that it begins, and of each window, see `score`."""


class Engine(StrEnum):
    """Where rows are labelled."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked for.

    Attributes:
        files: What is read: files, folders, patterns; ``-`` is standard input.
        model: The bundle's folder; None is the shipped one.
        out: The file for all rows; None, without `parts`, is standard output.
        parts: The folder for parts, instead of one file.
        part_rows: Rows after which a part ends as soon as a conversation begins.
        input_format: One of `inputs.INPUT_FORMATS`; None finds it out.
        customers: Who of transcripts is the customer.
        columns: What rows call fields otherwise, as in `records.read_rows`.
        output_format: One of `records.FORMATS`; None goes by the name of the file and the input.
        skip: Whether what cannot be labelled or read is written aside, or else ends the run.
        skipped: Where it is written; None is beside the file, or in the folder for parts.
        engine: Where rows are labelled.
        processes: How many label.
        threads: Threads of each; None shares out the CPUs, with Ray it is 1.
        batch_size: Most utterances in a forward pass.
    """

    files: Sequence[Place]
    model: Path | None = None
    out: Place | None = None
    parts: Place | None = None
    part_rows: int = PART_ROWS
    input_format: str | None = None
    customers: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    output_format: str | None = None
    skip: bool = False
    skipped: Place | None = None
    engine: Engine = Engine.LOCAL
    processes: int = 1
    threads: int | None = None
    batch_size: int = 32


@dataclass(frozen=True, slots=True)
class Done:
    """What a run did.

    Attributes:
        counts: The rows of this run.
        kept: Rows that were there when it began.
        aside: Where skipped rows are, if there are any.
    """

    counts: Counts
    kept: int
    aside: Place | None


def run(job: Job, progress: Progress) -> Done:
    """Do what is asked for; what is wrong with it is said before the work.

    Raises:
        DeescError: Something cannot be read, labelled or written; the message says what.
        OSError: The system does not give or take a file.
    """
    sources = find_sources(job.files, job.input_format, job.customers, job.columns)
    if job.engine is Engine.RAY:
        refuse_streams(sources, "--engine ray reads in another process")
    target = job.output_format or _target_format(job, sources)
    aside = _aside(job)
    _check_outputs(job, sources, target, aside)
    bundle = read_bundle(job.model or default_bundle_path())
    with contextlib.ExitStack() as stack:
        refuse_changes = guard(sources)
        columns = table_columns(sources, target, skip=job.skip)
        output = stack.enter_context(_output(job, sources, target, columns, bundle, aside))
        label = stack.enter_context(_labeller(job, bundle))
        pace, advance = stack.enter_context(progress)
        windows = Wanted(
            sources,
            bundle.config.encoder.context_turns,
            part_rows=None if job.parts is None else job.part_rows,
            there=output.there,
            skip=job.skip,
            columns=columns if target == "csv" else None,
        )
        counts = score(windows, label, output, begin=pace.begin, advance=advance)
        refuse_changes()
    return Done(counts, output.kept, aside)


def _target_format(job: Job, sources: Sequence[Source]) -> str:
    """Return the format that is meant: by the name of the output, else that of all inputs."""
    if job.out is not None:
        return format_of(job.out)
    formats = {source.file_format for source in sources}
    (only,) = formats if len(formats) == 1 else (None,)
    return "jsonl" if only is None or (only == "parquet" and job.parts is None) else only


def _aside(job: Job) -> Place | None:
    """Return where skipped rows go."""
    if job.parts is not None:
        return job.parts / SKIPPED_FOLDER
    if job.skip and job.out is not None and job.skipped is None:
        return beside(job.out, ".skipped.jsonl")
    return job.skipped


def _check_outputs(job: Job, sources: Sequence[Source], target: str, aside: Place | None) -> None:
    """Refuse outputs that cannot be written, or that would be read."""
    if job.parts is not None:
        names = (*part_files(0, target), MANIFEST_FILE, LEDGER_FILE)
        written = [job.parts, *(job.parts / name for name in names)]
        folder_at(job.parts).check()
    else:
        written = [path for path in (job.out, aside) if path is not None]
        refuse_same_file(*(source.file for source in sources), *written)
        for path in written:
            check_place(path)
    for path in written:
        refuse_inside(path, job.files, sources)


def _output(
    job: Job,
    sources: Sequence[Source],
    target: str,
    columns: Any,
    bundle: Bundle,
    aside: Place | None,
) -> AbstractContextManager[Output]:
    """Return the folder of parts or the file, to be opened."""
    if job.parts is None:
        return open_file(job.out, target, columns, aside)
    plan = plan_of(
        sources,
        deesc=__version__,
        model=bundle.manifest.model_version,
        format=target,
        part_rows=job.part_rows,
        batch_size=job.batch_size,
        input_format=job.input_format,
        customers=list(job.customers),
        columns=[str(column) for column in columns],
        # Folders of before there was such an option can be gone on with.
        **({"column": dict(job.columns)} if job.columns else {}),
    )
    return open_parts(folder_at(job.parts), target, columns, plan)


@contextlib.contextmanager
def _labeller(job: Job, bundle: Bundle) -> Iterator[Labeller]:
    """Open the model, in other processes if there are to be several."""
    if job.engine is Engine.RAY:
        from deesc_model.archive.ray_engine import on_ray  # noqa: PLC0415 - an extra

        with on_ray(bundle.path, job.processes, job.threads or 1, job.batch_size) as label:
            yield label
        return
    if job.processes == 1:
        yield in_this_process(EscalationClassifier(bundle, threads=job.threads), job.batch_size)
        return
    each = job.threads or max(1, available_cpus() // job.processes)
    with in_processes(bundle.path, job.processes, each, job.batch_size) as label:
        yield label

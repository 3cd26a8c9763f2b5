"""The command `deesc`. Exit codes: 0 done, 1 something could not be labelled, 2 wrong usage."""

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from deesc_model import __version__
from deesc_model.archive.columns import table_columns
from deesc_model.archive.folders import folder_at
from deesc_model.archive.labelling import Labeller, in_processes, in_this_process
from deesc_model.archive.ledger import SKIPPED_FOLDER, part_files
from deesc_model.archive.manifest import guard, plan_of
from deesc_model.archive.outputs import open_file, open_parts
from deesc_model.archive.pace import Pace
from deesc_model.archive.places import Place, beside, check_place, place
from deesc_model.archive.scoring import score as score_windows
from deesc_model.archive.sources import Source, find_sources, refuse_inside, refuse_streams
from deesc_model.archive.windows import Wanted
from deesc_model.bundle import Bundle, default_bundle_path, read_bundle
from deesc_model.classifier import EscalationClassifier
from deesc_model.companion import ConversationCompanion
from deesc_model.errors import DeescError, InvalidInputError, MissingExtraError
from deesc_model.evidence import FRUSTRATION, explain_turns, find_evidence
from deesc_model.files import check_writable, open_output, refuse_same_file, utf8_stdout
from deesc_model.inputs import INPUT_FORMATS, read_conversations
from deesc_model.labels import SPEAKERS
from deesc_model.network import available_cpus
from deesc_model.playbook import CHANNELS, Playbook, channel_of, check_channel
from deesc_model.policy import EscalationPolicy
from deesc_model.records import FORMATS, format_of
from deesc_model.report import follow, render_report
from deesc_model.risk import RiskModel
from deesc_model.transcripts import Conversation
from deesc_model.types import Turn

try:
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from deesc_model.terminal import Output, print_conversation, print_predictions, step_lines
except ModuleNotFoundError as error:
    raise SystemExit(str(MissingExtraError(f"the package {error.name}", "cli"))) from None

PART_ROWS = 10_000
"""Rows after which a part ends, unless it is said."""

LOG_EVERY_S = 60.0
"""Seconds between two lines about the progress where standard error is no terminal."""

app = typer.Typer(
    help="Frustration level, triggers and escalation signals of customer-service utterances.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class OnError(StrEnum):
    """What `deesc score` does with a row that cannot be labelled."""

    FAIL = "fail"
    SKIP = "skip"


class Engine(StrEnum):
    """Where `deesc score` labels."""

    LOCAL = "local"
    RAY = "ray"


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


@app.command()
def classify(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Customer utterances.")],
    conversation: Annotated[
        bool,
        typer.Option(
            "--conversation",
            help="The texts are turns of one conversation; 'agent: …' marks agents.",
        ),
    ] = False,
    output: FormatOption = Output.AUTO,
    model: ModelOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Label texts given on the command line."""
    turns = [_parse_turn(text, number, conversation) for number, text in enumerate(texts, 1)]
    classifier = EscalationClassifier.from_pretrained(model, threads=threads)
    label = classifier.predict_conversation if conversation else classifier.predict_batch
    print_predictions(turns, label(turns), output)


@app.command()
def show(
    file: FileArgument,
    output: FormatOption = Output.AUTO,
    input_format: InputOption = None,
    customer: CustomerOption = None,
    model: ModelOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Label a conversation and draw it turn by turn."""
    conversation = _conversation(file, input_format, customer)
    classifier = EscalationClassifier.from_pretrained(model, threads=threads)
    print_conversation(conversation, classifier.predict_conversation(conversation.turns), output)


@app.command()
def watch(
    file: FileArgument,
    channel: ChannelOption = None,
    policy: PolicyOption = None,
    playbook: PlaybookOption = None,
    risk: RiskOption = None,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a turn.")] = False,
    input_format: InputOption = None,
    customer: CustomerOption = None,
    model: ModelOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Follow a conversation: risk, action and advice after each turn."""
    accompany = _companions(channel, policy, playbook, risk)
    conversation = _conversation(file, input_format, customer)
    companion, turns = accompany(conversation), conversation.turns
    classifier = EscalationClassifier.from_pretrained(model, threads=threads)
    utf8_stdout()
    for turn, prediction in zip(turns, classifier.predict_conversation(turns), strict=True):
        step = companion.update(turn, prediction)
        if json_lines:
            print(json.dumps(step.to_dict(), ensure_ascii=False))
        else:
            print("\n".join(step_lines(step)))


@app.command()
def why(
    text: Annotated[str, typer.Argument(help="A customer's utterance.")],
    model: ModelOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Name the words behind each label, strongest first, by leaving each out."""
    classifier = EscalationClassifier.from_pretrained(model, threads=threads)
    turn = Turn("customer", text)
    prediction = classifier.predict(turn)
    labels = (FRUSTRATION, *prediction.triggers, *prediction.signals)
    utf8_stdout()
    for found in find_evidence(classifier, turn, labels=labels):
        words = ", ".join(f"{word.text} {word.effect:+.2f}" for word in found.top(5))
        noise = f"effects up to {found.noise:.3f} are noise"
        print(f"{found.label} {found.score:.2f}\t{words or 'no single word'}\t({noise})")


@app.command()
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
            help=f"Rows after which a part ends with the conversation; default: {PART_ROWS:,}.",
        ),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that label.")] = 1,
    engine: Annotated[
        Engine, typer.Option(help="ray spreads the processes over the cluster of RAY_ADDRESS.")
    ] = Engine.LOCAL,
    input_format: InputOption = None,
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
            help="Where skipped rows go; default with -o OUT: OUT.skipped.jsonl, else needed.",
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

    Rows that share a conversation_id and follow each other are read in context; a row without one
    stands alone. An output file appears under its name when it is complete; until then it is
    NAME.….partial. Folders named key=value become fields. URIs of stores (s3, gs, abfs) need the
    extra parquet.
    """
    named = _known(input_format, INPUT_FORMATS, "--input-format")
    wanted = _known(output_format, FORMATS, "--format")
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
    single = None if out is None else place(out)
    folder = None if parts is None else folder_at(place(parts))
    sources = find_sources(given, named, customer or ())
    if engine is Engine.RAY:
        refuse_streams(sources, "--engine ray reads in another process")
    target = wanted or _target_format(sources, single, to_parts=folder is not None)
    aside = place(skipped) if skipped else None
    if folder:
        aside = folder.place / SKIPPED_FOLDER
        written = [folder.place, folder.place / part_files(0, target)[0]]
        folder.check()
    else:
        if single and skip:
            aside = aside or beside(single, ".skipped.jsonl")
        written = [path for path in (single, aside) if path]
        refuse_same_file(*(source.file for source in sources), *written)
        for path in written:
            check_place(path)
    for path in written:
        refuse_inside(path, given, sources)
    bundle = read_bundle(model or default_bundle_path())
    reach = bundle.config.encoder.context_turns
    with contextlib.ExitStack() as stack:
        refuse_changes = guard(sources)
        columns = table_columns(sources, target, skip=skip)
        if folder:
            plan = plan_of(
                sources,
                deesc=__version__,
                model=bundle.manifest.model_version,
                format=target,
                part_rows=part_rows or PART_ROWS,
                batch_size=batch_size,
                input_format=named,
                customers=customer or [],
                columns=[str(column) for column in columns],
            )
            output = stack.enter_context(open_parts(folder, target, columns, plan))
        else:
            output = stack.enter_context(open_file(single, target, columns, aside))
        label = stack.enter_context(_labeller(bundle, engine, processes, threads, batch_size))
        pace, advance = stack.enter_context(_progress(_plain_name(given), "rows"))
        windows = Wanted(
            sources,
            reach,
            part_rows=(part_rows or PART_ROWS) if folder else None,
            there=output.there,
            skip=skip,
            columns=columns if target == "csv" else None,
        )
        counts = score_windows(windows, label, output, begin=pace.begin, advance=advance)
        refuse_changes()
    _note_left_out(counts.left_out)
    _note(
        f"{counts.labelled:,} rows labelled"
        + (f", {output.kept:,} were there" if output.kept else "")
        + (f", {counts.skipped:,} skipped, see {aside}" if counts.skipped else "")
    )


@app.command()
def report(
    file: FileArgument,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Default: NAME.html in this folder."),
    ] = None,
    evidence: Annotated[
        bool,
        typer.Option("--evidence/--no-evidence", help="Mark the words behind each label; slow."),
    ] = True,
    channel: ChannelOption = None,
    policy: PolicyOption = None,
    playbook: PlaybookOption = None,
    risk: RiskOption = None,
    input_format: InputOption = None,
    customer: CustomerOption = None,
    model: ModelOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Write one HTML page of a conversation or of many: course, advice, hand-over, evidence."""
    target = out or Path(f"{file.stem if str(file) != '-' else 'stdin'}.html")
    refuse_same_file(file, target)
    check_writable(target)
    accompany = _companions(channel, policy, playbook, risk)
    conversations = _conversations(file, input_format, customer)
    classifier = EscalationClassifier.from_pretrained(model, threads=threads)
    followed = []
    left = sum(len(item.turns) for item in conversations)
    with _progress(_plain_name([file]), "turns") as (pace, advance):
        pace.begin()

        def done(count: int) -> None:
            nonlocal left
            left -= count
            advance(count, count, left)

        for item in conversations:
            predictions = classifier.predict_conversation(item.turns)
            found = []
            for words in explain_turns(classifier, item.turns, predictions) if evidence else ():
                found.append(words)
                done(1)
            followed.append(follow(item, predictions, accompany(item), found))
            done(len(item.turns) - len(found))
    page = render_report(followed, file.name if str(file) != "-" else "standard input")
    with open_output(target) as stream:
        stream.write(page)
    _note(f"{target}: {len(followed):,} conversation{'s' if len(followed) > 1 else ''}")


@app.command()
def info(
    model: ModelOption = None,
    output: Annotated[
        Output, typer.Option("--format", help="json, or anything else for lines.")
    ] = Output.AUTO,
) -> None:
    """Say which model is used, where it comes from and how good it is."""
    bundle = EscalationClassifier.from_pretrained(model).bundle
    manifest = bundle.manifest
    about: dict[str, object] = {
        "deesc": __version__,
        "model": manifest.model_version,
        "folder": str(bundle.path),
        "base model": manifest.base_model,
        "weights": manifest.weights,
        "trained in run": manifest.training_run,
        "commit": manifest.git_commit,
        "data sha256": manifest.data_fingerprint,
        "longest input": f"{bundle.config.encoder.max_length} tokens, then windows",
        "context": f"{bundle.config.encoder.context_turns} turns, at most"
        f" {bundle.config.encoder.context_tokens} tokens",
    }
    if output is Output.JSON:
        print(json.dumps({**about, "metrics": bundle.metrics.get("metrics", {})}, indent=1))
        return
    for name, value in about.items():
        print(f"{name:16}{value}")
    for name in ("level_macro_f1", "level_qwk", "trigger_macro_f1", "signal_macro_f1"):
        if figure := _figure(bundle, name):
            print(f"{name:16} {figure} on its test split")


def main() -> None:
    """Run `deesc`; deliberate errors become a message on standard error and exit code 1."""
    try:
        app()
    except (DeescError, OSError) as error:
        _note(f"error: {error}")
        raise SystemExit(1) from None


def _figure(bundle: Bundle, name: str) -> str | None:
    """Return a figure of metrics.json in words; None if it holds no such one."""
    try:
        figure = bundle.metrics["metrics"][name]
        return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
    except (KeyError, TypeError, ValueError, OverflowError):  # whoever made the bundle wrote it
        return None


def _target_format(sources: Sequence[Source], out: Place | None, *, to_parts: bool) -> str:
    """Return the format that is meant: by the name of the output, else that of all inputs."""
    if out:
        return format_of(out)
    formats = {source.file_format for source in sources}
    (only,) = formats if len(formats) == 1 else (None,)
    return "jsonl" if only is None or (only == "parquet" and not to_parts) else only


def _plain_name(files: Sequence[Place]) -> str:
    """Return what progress is called by."""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return (files[0].name if str(files[0]) != "-" else "stdin") + more


@contextlib.contextmanager
def _labeller(
    bundle: Bundle, engine: Engine, processes: int, threads: int | None, batch_size: int
) -> Iterator[Labeller]:
    """Open the model, in other processes if there are to be several."""
    if engine is Engine.RAY:
        from deesc_model.archive.ray_engine import on_ray  # noqa: PLC0415 - an extra

        with on_ray(bundle.path, processes, threads or 1, batch_size) as label:
            yield label
        return
    if processes == 1:
        yield in_this_process(EscalationClassifier(bundle, threads=threads), batch_size)
        return
    each = threads or max(1, available_cpus() // processes)
    with in_processes(bundle.path, processes, each, batch_size) as label:
        yield label


def _companions(
    channel: str | None, policy: Path | None, playbook: Path | None, risk: Path | None
) -> Callable[[Conversation], ConversationCompanion]:
    """Check the settings; return what makes a companion for a conversation."""
    wanted = check_channel(channel) if channel else None
    decides = EscalationPolicy.read(policy) if policy else EscalationPolicy.read()
    advises = Playbook.read(playbook) if playbook else Playbook.read()
    weighs = RiskModel.read(risk) if risk else None

    def accompany(conversation: Conversation) -> ConversationCompanion:
        used = wanted or channel_of(conversation.metadata)
        return ConversationCompanion(used, decides, advises, weighs)

    return accompany


@contextlib.contextmanager
def _progress(name: str, unit: str) -> Iterator[tuple[Pace, Callable[[int, float, float], None]]]:
    """Show on standard error what is done, how fast, and how long the rest will take.

    A terminal gets a bar, anything else a line now and then.
    """
    console = Console(stderr=True)
    pace = Pace(unit)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pace]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None, pace="")
        said = time.monotonic()

        def advance(count: int, work: float, left: float) -> None:
            nonlocal said
            pace.advance(count, work, left)
            if console.is_terminal:
                share = pace.share
                total = None if share is None else 1
                progress.update(task, total=total, completed=share or 0, pace=str(pace))
            elif time.monotonic() - said >= LOG_EVERY_S:
                said = time.monotonic()
                _note(f"{name}: {pace}")

        yield pace, advance


def _known(name: str | None, names: Sequence[str], option: str) -> str | None:
    if name is not None and name not in names:
        raise typer.BadParameter(f"{option} must be one of {', '.join(names)}, not {name!r}")
    return name


def _conversations(
    file: Path, input_format: str | None, customers: list[str] | None, *, together: bool = False
) -> list[Conversation]:
    """Read a file whole and say what of it was nothing that anybody said to the other."""
    named = _known(input_format, INPUT_FORMATS, "--input-format")
    found = read_conversations(file, named=named, customers=customers or (), together=together)
    _note_left_out(sum((Counter(item.left_out) for item in found), Counter[str]()))
    return found


def _note_left_out(counts: Counter[str]) -> None:
    if counts:
        _note(f"left out: {', '.join(f'{kind} ({count})' for kind, count in counts.items())}")


def _conversation(
    file: Path, input_format: str | None, customers: list[str] | None
) -> Conversation:
    """Read a file that holds one conversation; so rows that do not say are of that one."""
    conversation, *others = _conversations(file, input_format, customers, together=True)
    if others:
        raise InvalidInputError(
            f"{file} holds more than one conversation, {1 + len(others):,} of them;"
            " deesc score labels such files"
        )
    return conversation


def _parse_turn(text: str, number: int, conversation: bool) -> Turn:
    """Read one argument; in a conversation "agent: …" names the speaker."""
    speaker, separator, said = text.partition(":")
    named = conversation and separator and speaker.strip().lower() in SPEAKERS
    try:
        return Turn(speaker.strip().lower(), said.strip()) if named else Turn("customer", text)
    except InvalidInputError as error:
        raise InvalidInputError(f"text {number}: {error}") from None


def _note(message: str) -> None:
    if sys.stderr is not None:
        print(message, file=sys.stderr)


if __name__ == "__main__":
    main()

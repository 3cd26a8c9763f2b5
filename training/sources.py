"""Public texts: their labels are in the repository, joined here with texts that are not.

python -m training.sources                     from data/raw
python -m training.sources --sources FOLDER --out data/raw/joined.jsonl

A source is a file NAME.jsonl or NAME.jsonl.gz of objects with ``id``, ``text`` and, where the
turns before it are known, ``context``: a list of ``"SPEAKER: what was said"``, oldest first. What
stands in data/sources.toml says where the originals are published and how the ids follow from them.
"""

import gzip
import hashlib
import json
import logging
import sys
import tomllib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deesc_model.errors import InvalidInputError
from deesc_model.files import open_output
from deesc_model.rendering import render_turn
from deesc_model.types import Turn
from training.command import command_parser, errors_in_one_line
from training.corpus import DataError, Utterance

log = logging.getLogger("training")

ANNOTATIONS = Path("data/annotations")
SPLIT_LISTS = Path("data/splits")
ABOUT = Path("data/sources.toml")

UNUSED = "unused"
"""List of texts that say nearly the same as one of validation or test: they are left out."""

HASH_DIGITS = 16
"""Hexadecimal digits of a text's sha256 that an annotation carries."""

UNSAID = "_"
"""What stands in a context for a turn in which nothing was said."""


@dataclass(frozen=True, slots=True)
class SourceText:
    """One row of a source's file.

    Attributes:
        id: Source and place in it, for example ``"xci:17"``.
        text: The utterance.
        context: The turns before it, oldest first, if the source has them.
    """

    id: str
    text: str
    context: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Annotation:
    """The labels of one public text.

    Attributes:
        id: Source and place in it, for example ``"xci:17"``.
        text_sha256: First `HASH_DIGITS` digits of the sha256 of what was labelled: the turns
            before it, if its labeller saw any, and the text; see `text_hash`.
        level: Frustration level, 0–4.
        triggers: Trigger types.
        signals: Escalation signals.
        passes: How many labellers read it: 1, or 2 with differences settled by a third.
        skip: Not the utterance of a customer: not for training.
    """

    id: str
    text_sha256: str
    level: int
    triggers: tuple[str, ...]
    signals: tuple[str, ...]
    passes: int
    skip: bool = False


@dataclass(frozen=True, slots=True)
class JoinedSource:
    """The labelled texts of one source that are here, and how many are not.

    Attributes:
        name: The source's name.
        texts: Labels and text of each row that was found and is the one that was labelled.
        customers: Labelled rows that are a customer's utterance, here or not.
        missing: Labelled rows whose id the file lacks, or all if there is no file.
        changed: Rows whose text, or the turns before it, are not those that were labelled.
    """

    name: str
    texts: tuple[tuple[Annotation, SourceText], ...]
    customers: int
    missing: int
    changed: int


def read_annotations(file: Path) -> list[Annotation]:
    """Read the labels of one source.

    Raises:
        DataError: A line is no annotation; the message names file and line.
    """
    annotations = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            row |= {"triggers": tuple(row["triggers"]), "signals": tuple(row["signals"])}
            annotations.append(Annotation(**row))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}:{number}: not an annotation: {error!r}") from None
    return annotations


def text_hash(text: str, context: Sequence[Turn] = ()) -> str:
    """Return the digits that `Annotation.text_sha256` holds for a text after these turns."""
    read = "\n".join([*map(render_turn, context), text])
    return hashlib.sha256(read.encode()).hexdigest()[:HASH_DIGITS]


def join_source(annotations: Path, folder: Path) -> JoinedSource:
    """Join one source's labels with its texts, by id and hash.

    Args:
        annotations: The file of labels; its name is the source's.
        folder: Where ``NAME.jsonl`` or ``NAME.jsonl.gz`` may be.

    Raises:
        DataError: A line of either file cannot be read.
    """
    labelled = {row.id: row for row in read_annotations(annotations)}
    texts, changed, found = [], 0, set()
    for row in read_texts(folder, annotations.stem):
        if row.id not in labelled or row.id in found:
            continue
        found.add(row.id)
        if text_hash(row.text, row.context) == labelled[row.id].text_sha256:
            texts.append((labelled[row.id], row))
        else:
            changed += 1
    customers = sum(not row.skip for row in labelled.values())
    missing = len(labelled) - len(found)
    return JoinedSource(annotations.stem, tuple(texts), customers, missing, changed)


def load_sources(
    folder: Path, annotations: Path = ANNOTATIONS, *, held_out: str = ""
) -> list[Utterance]:
    """Return the labelled customers' texts that are in a folder, each with its split.

    Validation and test are lists of ids in `SPLIT_LISTS`, frozen so that no later label moves a
    text from test to training. A text that is not the one that was labelled is left out.

    Args:
        folder: Where the sources' files may be; what is not there is left out.
        annotations: Folder of labels, one file for each source.
        held_out: A source of which every text is for testing and none for training, to
            measure how a model does on customers of an unknown kind. Then only this source
            is tested on.

    Raises:
        DataError: A file cannot be read, or there is no text of the source to hold out.
    """
    about = read_about()
    split_of = {
        name: split
        for split in ("validation", "test", UNUSED)
        for name in (SPLIT_LISTS / f"{split}.txt").read_text(encoding="utf-8").split()
    }
    rows = []
    for joined in join_sources(folder, about, annotations):
        if joined.changed:
            log.warning(
                "%s: %d texts are not the labelled ones, left out", joined.name, joined.changed
            )
        for label, row in joined.texts:
            split = split_of.get(label.id, "train")
            if joined.name == held_out:
                split = "test"
            elif held_out and split == "test":
                split = UNUSED
            if label.skip or split == UNUSED:
                continue
            rows.append(to_utterance(label, row, split, joined.name, about[joined.name]))
    if held_out and not any(row.source == held_out for row in rows):
        raise DataError(f"no labelled text of {held_out!r} in {folder}, so it cannot be held out")
    return rows


def to_utterance(
    label: Annotation, row: SourceText, split: str, source: str, about: Mapping[str, str]
) -> Utterance:
    """Return a public text and its labels as an utterance of a customer.

    Args:
        label: The labels.
        row: What was labelled.
        split: Where it belongs.
        source: The source's name.
        about: What `read_about` says of this source.
    """
    return Utterance(
        conversation_id=label.id,
        turn=0,
        speaker="customer",
        text=row.text,
        level=label.level,
        triggers=label.triggers,
        signals=label.signals,
        channel=about["channel"],
        domain=about["domain"],
        arc="",
        split=split,
        context=row.context,
        source=source,
    )


def read_about(file: Path = ABOUT) -> dict[str, dict[str, str]]:
    """Read what is known of each source: origin, licence, channel, domain.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"cannot read {file}: {error}") from None


def join_sources(
    folder: Path, about: Mapping[str, object], annotations: Path = ANNOTATIONS
) -> list[JoinedSource]:
    """Join every source's labels with its texts.

    Raises:
        DataError: A line cannot be read, or `about` lacks a source.
    """
    files = sorted(annotations.glob("*.jsonl"))
    if unknown := [file.stem for file in files if file.stem not in about]:
        raise DataError(f"{ABOUT} says nothing of {', '.join(unknown)}")
    return [join_source(file, folder) for file in files]


def read_texts(folder: Path, source: str) -> Iterator[SourceText]:
    """Yield each row of a source's file, if there is one.

    Raises:
        DataError: A line cannot be read; the message names file and line.
    """
    for file, opener in (
        (folder / f"{source}.jsonl", open),
        (folder / f"{source}.jsonl.gz", gzip.open),
    ):
        if not file.is_file():
            continue
        with opener(file, "rt", encoding="utf-8") as lines:
            number = 0
            try:
                for number, line in enumerate(lines, start=1):  # noqa: B007
                    row = json.loads(line)
                    context = tuple(_turns(row.get("context", ())))
                    if not isinstance(row["text"], str):
                        raise TypeError(f"text must be a string, not {row['text']!r}")
                    if row["text"].strip():
                        Turn("customer", row["text"])
                    yield SourceText(str(row["id"]), row["text"], context)
            except (
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
                EOFError,
                OSError,
                zlib.error,
                InvalidInputError,
            ) as error:
                raise DataError(f"{file}:{number}: not a source text: {error!r}") from None
        return


def _turns(context: Sequence[str]) -> Iterator[Turn]:
    """Yield the turns of a row's context; `UNSAID` ones are none."""
    for line in context:
        speaker, _, text = line.partition(": ")
        if text.strip() not in ("", UNSAID):
            yield Turn(speaker, text)


def report(joined: Sequence[JoinedSource], about: Mapping[str, Mapping[str, str]]) -> str:
    """Return as Markdown what was joined, what was not, and where each original is."""
    lines = [
        "| source | licence | joined | not here | other text |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {part.name} | {about[part.name]['licence']} | {len(part.texts):,} | {part.missing:,}"
        f" | {part.changed:,} |"
        for part in joined
    ]
    labelled = sum(len(part.texts) + part.missing + part.changed for part in joined)
    customers = sum(part.customers for part in joined)
    lines += ["", f"{labelled:,} texts are labelled, {customers:,} of them customers'.", ""]
    for part in joined:
        origin = about[part.name]
        lines += [
            f"- {part.name}: {origin['what']} ({origin['by']}), {origin['licence']}; in"
            f" {origin['repository']}, {origin['file']}. Ids: {origin['id']}."
            + (f" Context: {origin['context']}." if "context" in origin else "")
        ]
    return "\n".join(lines)


def _write(joined: Sequence[JoinedSource], out: Path) -> None:
    """Write labels with their texts, the file whole or not at all."""
    rows = (
        asdict(label) | {"text": row.text, "context": [render_turn(turn) for turn in row.context]}
        for part in joined
        for label, row in part.texts
    )
    with open_output(out, keep=False) as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 1 if a text is not the labelled one."""
    parser = command_parser("sources", __doc__)
    parser.add_argument("--sources", type=Path, default=Path("data/raw"), metavar="FOLDER")
    parser.add_argument("--annotations", type=Path, default=ANNOTATIONS)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write labels with their texts")
    options = parser.parse_args(arguments)
    about = read_about()
    joined = join_sources(options.sources, about, options.annotations)
    if options.out:
        _write(joined, options.out)
    print(report(joined, about))
    return 1 if any(part.changed for part in joined) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Take conversations in: check, mask personal data, drop what is known, save a dataset.

python -m training.ingest calls.csv chats/*.jsonl --out data/ingested/march --domain telecom
python -m training.ingest tickets.parquet --out data/ingested/april \
    --column text=body --speaker inbound=customer --speaker outbound=agent

Files are JSON Lines, CSV, Parquet, or any transcript that deesc reads. The folder gets a Hugging
Face dataset (`datasets.load_from_disk`), report.json and rejected.jsonl, and its name only once all
of it is there. Everything is masked before it is looked at; see `training.masking` for what is
found. A file is read into memory whole; its rows without a conversation_id stand alone.

A conversation is dropped if another says the same word for word, or if half of its customer's
turns of six words or more nearly repeat another's: in the corpus, in public texts that are here,
in the other sets of the same folder and in those of --against, and in the files themselves, where
the longer one stays. Rows of one conversation are gathered within a file, not over files, which
may number different conversations alike.
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deesc_model.inputs import INPUT_FORMATS
from training.command import command_parser, errors_in_one_line
from training.corpus import DataError, load_corpus
from training.incoming import NewTurn, Rejected, read_file, read_mapping
from training.ingested import (
    PARTIAL,
    IngestedTurn,
    ingested_sets,
    load_ingested,
    save_ingested,
)
from training.known import KnownConversations
from training.masking import Masker
from training.names import name_finder
from training.sources import ANNOTATIONS, load_sources


@dataclass(slots=True)
class Report:
    """What became of the rows; counts only.

    Attributes:
        files: Files that were read.
        rows: Rows or turns in them.
        turns: Turns that were kept.
        conversations: Conversations that were kept.
        rejected: Rows that cannot be used, by the field that is wrong.
        duplicates: Conversations that were dropped, by ``exact`` and ``near``.
        masked: What was masked by kind, in all that was read.
    """

    files: int = 0
    rows: int = 0
    turns: int = 0
    conversations: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Return all counts by name, those of kinds as a `Counter`."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        """Return a few lines for people."""
        lines = [
            f"{self.rows:,} rows in {self.files} files: {self.turns:,} turns in"
            f" {self.conversations:,} conversations kept"
        ]
        for title, counts in (
            ("rejected rows", self.rejected),
            ("dropped conversations", self.duplicates),
            ("masked", self.masked),
        ):
            shown = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
            lines.append(f"{title}: {shown or 'none'}")
        return "\n".join(lines)


class Intake:
    """Keeps conversations that are new.

    Attributes:
        report: What became of all so far.
        turns: What is kept.
        rejected: What cannot be used.
    """

    def __init__(self, name: str, known: KnownConversations) -> None:
        """Take the name of the set, and what is known."""
        self.report = Report()
        self.turns: list[IngestedTurn] = []
        self.rejected: list[Rejected] = []
        self._name = name
        self._known = known
        self._read: list[Sequence[NewTurn]] = []

    def take(
        self, conversations: Iterable[Sequence[NewTurn]], rejected: Sequence[Rejected]
    ) -> None:
        """Take in what a file holds; what is kept of it shows in the end, see `sift`."""
        self.report.files += 1
        self._read += conversations
        self.report.rows += sum(item.line is not None for item in rejected)
        self.report.rejected.update(item.field for item in rejected)
        self.rejected += rejected

    def sift(self) -> None:
        """Keep of all that was taken in what says something new, the longest first.

        Of exports that overlap, an earlier one may hold the beginning of a conversation.
        """
        repeats = {
            id(conversation): self._known.add(
                [(new.turn.speaker, new.turn.text) for new in conversation]
            )
            for conversation in sorted(self._read, key=len, reverse=True)
        }
        for number, conversation in enumerate(self._read, start=1):
            self.report.rows += len(conversation)
            if kind := repeats[id(conversation)]:
                self.report.duplicates[kind] += 1
                first = conversation[0]
                reason = (
                    f"conversation repeats another ({kind}): one as long, longer or known before"
                )
                self.rejected.append(Rejected(first.file, first.line, "conversation", reason))
            else:
                self._keep(number, conversation)

    def _keep(self, number: int, conversation: Sequence[NewTurn]) -> None:
        self.report.conversations += 1
        self.report.turns += len(conversation)
        # One conversation has one channel and domain, whatever its rows say.
        channel, domain = conversation[0].channel, conversation[0].domain
        self.turns += [
            IngestedTurn(
                conversation_id=f"{self._name}-{number:06}",
                turn=turn,
                speaker=new.turn.speaker,
                text=new.turn.text,
                channel=channel,
                domain=domain,
                file=new.file,
                line=new.line,
            )
            for turn, new in enumerate(conversation)
        ]


def read_known(corpus: Path, sources: Path, sets: Iterable[Path]) -> KnownConversations:
    """Read all that a new conversation may repeat.

    Raises:
        DataError: The corpus or a set cannot be read.
    """
    known = KnownConversations()
    rows = [*load_corpus(corpus), *load_sources(sources, ANNOTATIONS)]
    known.add_all((row.conversation_id, row.speaker, row.text) for row in rows)
    for folder in sets:
        known.add_all((t.conversation_id, t.speaker, t.text) for t in load_ingested(folder))
    return known


def write(intake: Intake, out: Path) -> None:
    """Write dataset, report and rejected rows into a folder that gets its name at the end.

    Raises:
        OSError: Something cannot be written, or the folder has come to be meanwhile.
    """
    partial = out.with_name(out.name + PARTIAL)
    if partial.exists():  # a run was killed
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    save_ingested(intake.turns, partial)
    lines = (json.dumps(asdict(row)) + "\n" for row in intake.rejected)
    (partial / "rejected.jsonl").write_text("".join(lines), encoding="utf-8")
    report = json.dumps(intake.report.to_dict(), indent=1) + "\n"
    (partial / "report.json").write_text(report, encoding="utf-8")
    partial.rename(out)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("ingest", __doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--format", choices=INPUT_FORMATS, help="default: by content")
    parser.add_argument(
        "--column", action="append", default=[], metavar="FIELD=COLUMN", help="such as text=body"
    )
    parser.add_argument(
        "--speaker", action="append", default=[], metavar="WORD=ROLE", help="inbound=customer"
    )
    parser.add_argument("--mapping", type=Path, metavar="TOML", help="the same in a file")
    parser.add_argument("--channel", help="of rows that name none, and of transcripts")
    parser.add_argument("--domain", help="of rows that name none; default: general")
    parser.add_argument(
        "--customer", action="append", default=[], metavar="NAME", help="for transcripts"
    )
    parser.add_argument(
        "--names", metavar="MODEL", help="mask names too, by a spaCy model; needs the extra pii"
    )
    parser.add_argument("--corpus", type=Path, default=Path("data/corpus"))
    parser.add_argument("--sources", type=Path, default=Path("data/raw"))
    parser.add_argument("--against", action="append", type=Path, default=[], metavar="FOLDER")
    return parser


def _take_in(options: argparse.Namespace) -> Intake:
    """Read and check everything; nothing is written.

    Raises:
        DataError: An option is wrong, or there is nothing to keep.
    """
    if options.out.exists():
        raise DataError(f"{options.out} is there already; name another folder")
    if missing := [file for file in options.files if not file.is_file()]:
        raise DataError(f"there is no file {missing[0]}")
    mapped = read_mapping(
        options.mapping, options.column, options.speaker, options.channel, options.domain
    )
    mask = Masker([name_finder(options.names)] if options.names else [])
    known = read_known(
        options.corpus, options.sources, [*ingested_sets(options.out.parent), *options.against]
    )
    intake = Intake(options.out.name, known)
    for file in options.files:
        intake.take(
            *read_file(file, mapped, mask, named=options.format, customers=options.customer)
        )
    intake.sift()
    intake.report.masked = mask.counts
    if not intake.turns:
        shown = [*map(str, intake.rejected[:10]), str(intake.report)]
        raise DataError("\n".join([*shown, "there is nothing to keep; nothing was written"]))
    return intake


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 1 if nothing was written."""
    options = _parser().parse_args(arguments)
    intake = _take_in(options)
    write(intake, options.out)
    for row in intake.rejected:
        if row.line is None:
            print(row, file=sys.stderr)
    print(intake.report)
    print(f"written to {options.out}; rejected.jsonl there says why rows or conversations are not")
    return 0


if __name__ == "__main__":
    sys.exit(main())

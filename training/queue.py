"""Choose what to label, and take the labels into a corpus.

python -m training.queue choose data/ingested/march --out to_label.csv --count 200
python -m training.queue choose data/ingested/* --out to_label.jsonl --previous old_bundle
python -m training.queue import to_label.csv --corpus my_corpus

`choose` ranks unlabelled turns of sets that training.ingest wrote; `training.selection` says how.
Turns that the corpus holds already are left out. `import` reads the file back, or Label Studio's
JSON export (.json) of tasks made from the CSV file, refuses what is not a legal labelling by line,
and adds to the corpus, with its other files as they are; then training.data split and check.

A corpus has no turns without labels. So labelled neighbours become one conversation, and a turn
whose neighbours have none stands alone, without the context that its labeller saw; with
--label-context the turns that the model reads before a chosen one are there to be labelled too.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deesc_model.classifier import EscalationClassifier
from deesc_model.errors import DeescError
from deesc_model.labels import SPEAKERS, Level
from deesc_model.rendering import render_turn
from deesc_model.types import Prediction, Turn
from training.corpus import DataError, Utterance, load_corpus, write_corpus
from training.ingested import IngestedTurn, conversations, load_ingested
from training.label_files import QueuedTurn, read_labelled, write_queue
from training.selection import (
    MEASURES,
    choose,
    disagreement,
    rarity,
    text_vectors,
    uncertainty,
)

Place = tuple[str, int]
"""Conversation and turn."""


def predict(
    classifier: EscalationClassifier, wanted: Iterable[Place], by_id: Mapping[str, list[Turn]]
) -> list[Prediction]:
    """Return what a bundle says of turns, each read with the turns before it."""
    reach = classifier.bundle.config.encoder.context_turns
    places = list(wanted)
    return classifier.predict_batch(
        [by_id[name][turn] for name, turn in places],
        [by_id[name][max(0, turn - reach) : turn] for name, turn in places],
    )


def labelled_places(rows: Iterable[Utterance]) -> set[Place]:
    """Return where in the ingested sets the labelled turns of a corpus were."""
    places = set()
    for row in rows:
        name, _, start = row.conversation_id.rpartition("@")
        if name and start.isdecimal():
            places.add((name, int(start) + row.turn))
        else:
            places.add((row.conversation_id, row.turn))
    return places


def arc_of(rows: Sequence[Utterance]) -> str:
    """Return how a labelled conversation goes; a rule, where the corpus has a writer's word.

    It is for spreading conversations evenly over the splits.
    """
    levels = [row.level for row in rows if row.speaker == "customer"] or [0]
    if levels[0] == Level.ABUSIVE:
        return "abusive"
    if max(levels) <= Level.CONCERNED:
        return "calm"
    if any("supervisor_request" in row.signals for row in rows):
        return "handover"
    if levels[-1] <= Level.CONCERNED:
        return "calmed"
    provoked = any(row.speaker == "agent" and row.triggers for row in rows)
    return "worsened" if provoked and levels[-1] > levels[0] else "rises"


def corpus_conversations(rows: Iterable[Utterance]) -> list[Utterance]:
    """Make conversations of labelled turns: neighbours together, counted from 0.

    One that does not begin with its first turn is called ``conversation@turn``.
    """
    by_id: defaultdict[str, list[Utterance]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.conversation_id, row.turn)):
        by_id[row.conversation_id].append(row)
    made = []
    for name, members in by_id.items():
        breaks = [i for i in range(1, len(members)) if members[i].turn != members[i - 1].turn + 1]
        for first, last in zip([0, *breaks], [*breaks, len(members)], strict=True):
            part = members[first:last]
            start, arc = part[0].turn, arc_of(part)
            called = f"{name}@{start}" if start else name
            made += [
                replace(row, conversation_id=called, turn=row.turn - start, arc=arc) for row in part
            ]
    return made


def _choose(options: argparse.Namespace) -> int:
    told = [turn for folder in options.sets for turn in load_ingested(folder)]
    rows = {(turn.conversation_id, turn.turn): turn for turn in told}
    by_id = {
        members[0].conversation_id: [Turn(turn.speaker, turn.text) for turn in members]
        for members in conversations(told)
    }
    done = labelled_places(load_corpus(options.corpus)) if options.corpus.exists() else set()
    speakers = SPEAKERS if options.speaker == "all" else (options.speaker,)
    pool = [place for place, row in rows.items() if row.speaker in speakers and place not in done]
    if not pool:
        raise DataError("there is no turn to label: all are labelled, or nobody speaks")
    classifier = EscalationClassifier.from_pretrained(options.bundle)
    predictions = predict(classifier, pool, by_id)
    parts = [uncertainty(predictions, options.measure), rarity(predictions)]
    if options.previous:
        before = EscalationClassifier.from_pretrained(options.previous)
        parts.append(disagreement(predictions, predict(before, pool, by_id)))
    interest = np.mean(parts, axis=0)
    chosen = choose(interest, text_vectors([rows[place].text for place in pool]), options.count)
    values = {pool[i]: [round(float(part[i]), 4) for part in parts] for i in chosen}
    reach = classifier.bundle.config.encoder.context_turns
    queued: dict[Place, QueuedTurn] = {}
    for name, turn in values:
        first = max(0, turn - reach) if options.label_context else turn
        for number in range(first, turn + 1):
            place = (name, number)
            if place not in done:
                queued[place] = _queued(
                    rows[place], by_id[name], values.get(place), options.context
                )
    write_queue(list(queued.values()), options.out)
    print(f"{len(values)} of {len(pool)} turns chosen, {len(queued)} to label in {options.out}")
    return 0


def _queued(
    row: IngestedTurn, turns: Sequence[Turn], values: Sequence[float] | None, context: int
) -> QueuedTurn:
    """Return a row to label; turns that are only context have no values of their own."""
    before = turns[max(0, row.turn - context) : row.turn]
    uncertain, rare, differs = [*(values or ()), None, None, None][:3]
    return QueuedTurn(
        row.conversation_id,
        row.turn,
        row.speaker,
        "\n".join(map(render_turn, before)),
        row.text,
        row.channel,
        row.domain,
        uncertain,
        rare,
        differs,
    )


def _import(options: argparse.Namespace) -> int:
    rows, faults, blank = read_labelled(options.file)
    if faults:
        shown = "\n".join(str(fault) for fault in faults)
        raise DataError(f"{shown}\n{len(faults)} faults; nothing was written")
    made = corpus_conversations(rows)
    if not made:
        raise DataError(f"{options.file} holds no labels")
    options.corpus.mkdir(parents=True, exist_ok=True)
    held = load_corpus(options.corpus) if any(options.corpus.glob("*.jsonl")) else []
    again = {row.conversation_id for row in held} & {row.conversation_id for row in made}
    if again:
        raise DataError(f"{min(again)} is in {options.corpus} already; nothing was written")
    write_corpus([*held, *made], options.corpus)
    count = len({row.conversation_id for row in made})
    print(
        f"{len(made)} labelled turns in {count} conversations added to {options.corpus},"
        f" {blank} rows without labels left out;"
        f" now run: python -m training.data split --corpus {options.corpus}"
    )
    return 0


def _whole_number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m training.queue", description=__doc__, formatter_class=raw
    )
    commands = parser.add_subparsers(required=True)
    choosing = commands.add_parser("choose", help="write a file of turns to label")
    choosing.set_defaults(command=_choose)
    choosing.add_argument("sets", nargs="+", type=Path, metavar="SET")
    choosing.add_argument(
        "--out", type=Path, required=True, help="a name that ends in .csv, .jsonl"
    )
    choosing.add_argument("--count", type=_whole_number, default=100, help="turns to choose")
    choosing.add_argument("--bundle", type=Path, help="default: the one of the package")
    choosing.add_argument("--previous", type=Path, metavar="FOLDER", help="an older bundle")
    choosing.add_argument("--measure", choices=MEASURES, default="entropy")
    choosing.add_argument("--speaker", choices=(*SPEAKERS, "all"), default="customer")
    choosing.add_argument(
        "--context", type=_whole_number, default=6, help="turns before it to show"
    )
    choosing.add_argument(
        "--label-context", action="store_true", help="also label what the model reads before it"
    )
    choosing.add_argument("--corpus", type=Path, default=Path("data/corpus"))
    importing = commands.add_parser("import", help="add the labels of a file to a corpus")
    importing.set_defaults(command=_import)
    importing.add_argument("file", type=Path)
    importing.add_argument("--corpus", type=Path, required=True)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (DeescError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""Choose what to label, and take the labels into a corpus.

python -m training.queue choose data/ingested/march --out to_label.csv --count 200
python -m training.queue choose data/ingested/* --out to_label.jsonl --previous old_bundle
python -m training.queue import to_label.csv --corpus my_corpus --split train
python -m training.queue choose data/ingested/march --out to_test.csv --random
python -m training.queue import to_test.csv --corpus my_corpus --split test
python -m training.queue correct suspects.csv --corpus my_corpus

`choose` ranks unlabelled turns of sets that training.ingest wrote; `training.selection` says how.
Turns that the corpus holds already are left out. Those that are ranked are harder than others, so
they belong into the train split; what is to test a model is chosen by ``--random``. `import` reads
the file back, or Label Studio's JSON export (.json) of tasks made from the CSV file, refuses what
is not a legal labelling by line or task, and adds to the corpus; then training.data split and
check. What an earlier import of the same file added is left as it is. `correct` changes the labels
of turns that the corpus has, by a file that training.label_errors wrote and somebody filled in; a
cell that is left empty keeps its labels, and the word none takes them away. An annotation of Label
Studio's is whole: what is not chosen there is taken away.

Labelled neighbours become one conversation, and a turn whose neighbours have no labels stands
alone, without the context that its labeller saw. With --label-context the turns that the model
reads before a chosen one are there to be labelled too.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deesc_model.classifier import EscalationClassifier
from deesc_model.labels import SPEAKERS
from deesc_model.rendering import render_turn
from deesc_model.types import Prediction, Turn
from training.assembly import Place, assemble, origin
from training.command import command_parser, errors_in_one_line
from training.corpus import SPLITS, DataError, Utterance, load_corpus, write_corpus
from training.embeddings import embed
from training.ingested import IngestedTurn, load_ingested
from training.label_files import Labelled, QueuedTurn, check_new, read_labelled, write_queue
from training.selection import MEASURES, choose, disagreement, rarity, uncertainty

Turns = Mapping[Place, IngestedTurn]

HELD_OUT = ("validation", "test")
SEED = 2026
"""Of what is chosen by chance."""


def load_sets(folders: Iterable[Path]) -> dict[Place, IngestedTurn]:
    """Read ingested sets.

    Raises:
        DataError: A folder is no set, or two are of one name, so that their turns would mix.
    """
    turns: dict[Place, IngestedTurn] = {}
    for folder in folders:
        for turn in load_ingested(folder):
            place = (turn.conversation_id, turn.turn)
            if place in turns:
                raise DataError(
                    f"{folder}: the conversation {turn.conversation_id} is in another set too;"
                    " name each set once, and no two alike"
                )
            turns[place] = turn
    return turns


def predict(
    classifier: EscalationClassifier, turns: Turns, places: Iterable[Place]
) -> list[Prediction]:
    """Return what a bundle says of turns, each read with the turns before it."""
    reach = classifier.bundle.config.encoder.context_turns
    wanted = list(places)
    return classifier.predict_batch(
        [_said(turns[place]) for place in wanted],
        [_said_before(turns, place, reach) for place in wanted],
    )


def _said(turn: IngestedTurn) -> Turn:
    return Turn(turn.speaker, turn.text)


def _said_before(turns: Turns, place: Place, count: int) -> list[Turn]:
    """Return the last turns before one in its conversation, at most `count`."""
    name, turn = place
    return [_said(turns[name, number]) for number in range(max(0, turn - count), turn)]


def _choose(options: argparse.Namespace) -> int:
    check_new(options.out, overwrite=options.overwrite)
    turns = load_sets(options.sets)
    corpus = load_corpus(options.corpus)
    labelled = {origin(row) for row in corpus}
    # A conversation is of one split: what is drawn to test may be in no other, and the other way.
    taken = {origin(row)[0] for row in corpus if options.random or row.split in HELD_OUT}
    speakers = SPEAKERS if options.speaker == "all" else (options.speaker,)
    pool = [
        place
        for place, turn in turns.items()
        if turn.speaker in speakers and place not in labelled and place[0] not in taken
    ]
    if not pool:
        raise DataError("there is no turn to label: all are labelled, or nobody speaks")
    classifier = EscalationClassifier.from_pretrained(options.bundle)
    if options.random:
        drawn = random.Random(SEED).sample(pool, min(options.count, len(pool)))  # noqa: S311
        values: dict[Place, dict[str, float]] = {place: {} for place in drawn}
    else:
        values = _most_useful(options, classifier, turns, pool)
    reach = classifier.bundle.config.encoder.context_turns if options.label_context else 0
    wanted = dict.fromkeys(
        (name, number)
        for name, turn in values
        for number in range(max(0, turn - reach), turn + 1)
        if (name, number) not in labelled
    )
    queued = [_queued(turns, place, values.get(place, {}), options.context) for place in wanted]
    write_queue(queued, options.out, overwrite=options.overwrite)
    print(f"{len(values)} of {len(pool)} turns chosen, {len(queued)} to label in {options.out}")
    return 0


def _most_useful(
    options: argparse.Namespace,
    classifier: EscalationClassifier,
    turns: Turns,
    pool: Sequence[Place],
) -> dict[Place, dict[str, float]]:
    """Return the turns that are most worth labelling, each with its measures."""
    predictions = predict(classifier, turns, pool)
    measures = {
        "uncertainty": uncertainty(predictions, options.measure),
        "rarity": rarity(predictions),
    }
    if options.previous:
        previous = EscalationClassifier.from_pretrained(options.previous)
        measures["disagreement"] = disagreement(predictions, predict(previous, turns, pool))
    chosen = choose(
        np.mean(list(measures.values()), axis=0),
        embed(classifier.bundle, [_said(turns[place]) for place in pool]),
        options.count,
    )
    return {
        pool[row]: {name: round(float(all_of[row]), 4) for name, all_of in measures.items()}
        for row in chosen
    }


def _queued(turns: Turns, place: Place, values: Mapping[str, float], context: int) -> QueuedTurn:
    turn = turns[place]
    return QueuedTurn(
        speaker=turn.speaker,
        context="\n".join(map(render_turn, _said_before(turns, place, context))),
        text=turn.text,
        conversation_id=turn.conversation_id,
        turn=turn.turn,
        channel=turn.channel,
        domain=turn.domain,
        **values,
    )


def _import(options: argparse.Namespace) -> int:
    file, corpus = options.file, options.corpus
    found = read_labelled(file)
    held = load_corpus(corpus) if any(corpus.glob("*.jsonl")) else []
    in_corpus = {origin(row): _labels(row) for row in held}
    splits = {origin(row)[0]: row.split for row in held if row.split}
    new, again = [], 0
    for place, row in found.rows:
        split = splits.get(row.conversation_id, options.split)
        if options.split not in ("", split):
            found.faults.append(f"{place}: turns of its conversation are in the split {split}")
        before = in_corpus.get((row.conversation_id, row.turn))
        if before is None:
            new.append(row)
        elif before == _labels(row):
            again += 1
        else:
            found.faults.append(f"{place}: {corpus} has other labels or another text for this turn")
    _refuse_faults(file, found)
    made = [replace(row, split=options.split) for row in assemble(new)]
    if made:
        corpus.mkdir(parents=True, exist_ok=True)
        write_corpus([*held, *made], corpus)
    count = len({row.conversation_id for row in made})
    print(f"{len(made)} labelled turns in {count} conversations added to {corpus}")
    print(f"left out: {found.blank} rows without labels, {again} that {corpus} has already")
    print(f"now run: python -m training.data split --corpus {corpus}")
    return 0


def _correct(options: argparse.Namespace) -> int:
    file, corpus = options.file, options.corpus
    held = load_corpus(corpus)
    index_of = {origin(row): index for index, row in enumerate(held)}
    found = read_labelled(file, {place: held[index] for place, index in index_of.items()})
    changed = 0
    for place, row in found.rows:
        index = index_of.get(origin(row))
        if index is None:
            found.faults.append(
                f"{place}: {corpus} has no such turn; of a public text, change the line in"
                " data/annotations, and leave it empty here"
            )
            continue
        before = held[index]
        if (before.speaker, before.text.split()) != (row.speaker, row.text.split()):
            found.faults.append(f"{place}: {corpus} has another text for this turn")
        labels = {"level": row.level, "triggers": row.triggers, "signals": row.signals}
        held[index] = replace(before, **labels)
        changed += held[index] != before
    _refuse_faults(file, found)
    write_corpus(held, corpus)
    print(f"{len(found.rows)} turns read again, the labels of {changed} changed in {corpus}")
    print(f"left out: {found.blank} rows without labels")
    print(f"now run: python -m training.data check --corpus {corpus}")
    return 0


def _refuse_faults(file: Path, found: Labelled) -> None:
    """Refuse a file that has a fault or no labels.

    Raises:
        DataError: With every fault.
    """
    if found.faults:
        shown = "\n".join(found.faults)
        raise DataError(f"{shown}\n{len(found.faults)} faults; nothing was written")
    if not found.rows:
        raise DataError(f"{file} holds no labels; fill in level, triggers and signals")


def _labels(row: Utterance) -> tuple[object, ...]:
    """Return what an import may not change; a spreadsheet may change line breaks."""
    return row.speaker, row.text.split(), row.level, row.triggers, row.signals


def _whole_number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isdecimal() and int(text) >= least):
            raise argparse.ArgumentTypeError(f"must be a whole number from {least}, not {text!r}")
        return int(text)

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("queue", __doc__)
    commands = parser.add_subparsers(required=True)
    choosing = commands.add_parser("choose", help="write a file of turns to label")
    choosing.set_defaults(command=_choose)
    choosing.add_argument("sets", nargs="+", type=Path, metavar="SET")
    choosing.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a name that ends in .csv, .jsonl"
    )
    choosing.add_argument(
        "--overwrite", action="store_true", help="replace FILE, and what was filled in there"
    )
    choosing.add_argument("--count", type=_whole_number(1), default=100, help="turns to choose")
    choosing.add_argument("--bundle", type=Path, help="default: the one of the package")
    choosing.add_argument("--previous", type=Path, metavar="FOLDER", help="an older bundle")
    choosing.add_argument(
        "--random", action="store_true", help="choose by chance, as what is to test a model must be"
    )
    choosing.add_argument("--measure", choices=MEASURES, default="entropy")
    choosing.add_argument("--speaker", choices=(*SPEAKERS, "all"), default="customer")
    choosing.add_argument(
        "--context", type=_whole_number(0), default=6, help="turns before it to show"
    )
    choosing.add_argument(
        "--label-context", action="store_true", help="also label what the model reads before it"
    )
    choosing.add_argument("--corpus", type=Path, default=Path("data/corpus"))
    importing = commands.add_parser("import", help="add the labels of a file to a corpus")
    importing.set_defaults(command=_import)
    importing.add_argument(
        "--split", choices=SPLITS, default="", help="theirs; without it data split gives them one"
    )
    correcting = commands.add_parser("correct", help="change labels that a corpus has")
    correcting.set_defaults(command=_correct)
    for command in (importing, correcting):
        command.add_argument("file", type=Path)
        command.add_argument("--corpus", type=Path, required=True)
    return parser


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    return int(options.command(options))


if __name__ == "__main__":
    sys.exit(main())

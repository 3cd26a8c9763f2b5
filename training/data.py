"""Look after the corpus.

python -m training.data check      every fault by file, line and field; customers' near-duplicates
python -m training.data split      give a split to conversations that have none
python -m training.data describe   the counts of the data card
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from training.command import command_parser, errors_in_one_line
from training.corpus import SPLITS, DataError, load_corpus, read_corpus, why_empty, write_corpus
from training.data_card import describe
from training.near_duplicates import find_near_duplicates
from training.splits import assign_splits


def _check(folder: Path) -> int:
    rows, faults = read_corpus(folder)
    unsplit = sorted({row.conversation_id for row in rows if not row.split})
    for fault in faults:
        print(fault)
    if unsplit:
        command = f"python -m training.data split --corpus {folder}"
        print(f"{len(unsplit)} conversations have no split; run: {command}")
    pairs = find_near_duplicates(rows)
    across = [pair for pair in pairs if pair.first.split != pair.second.split]
    for pair in pairs:
        print(pair)
    conversations = len({row.conversation_id for row in rows})
    print(
        f"{conversations} conversations, {len(rows)} turns, {len(faults)} faults,"
        f" {len(pairs)} near-duplicates, {len(across)} of them across splits"
    )
    return 1 if faults or across or unsplit else 0


def _split(folder: Path) -> int:
    rows, faults = read_corpus(folder)
    if faults:
        raise DataError(f"{len(faults)} faults; see: python -m training.data check")
    before = {row.conversation_id for row in rows if row.split}
    rows = assign_splits(rows)
    write_corpus(rows, folder)
    for split in SPLITS:
        members = {row.conversation_id for row in rows if row.split == split}
        print(f"{split}: {len(members)} conversations, {len(members - before)} of them new")
        if not members:
            print(why_empty(split, rows))
    return 0


def _describe(folder: Path) -> int:
    print(describe(load_corpus(folder)))
    return 0


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 good, 1 faults found."""
    parser = command_parser("data", __doc__)
    parser.add_argument("command", choices=("check", "split", "describe"))
    parser.add_argument("--corpus", type=Path, default=Path("data/corpus"))
    options = parser.parse_args(arguments)
    command = {"check": _check, "split": _split, "describe": _describe}[options.command]
    return command(options.corpus)


if __name__ == "__main__":
    sys.exit(main())

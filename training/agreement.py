"""How far two labellings of the same utterances agree.

python -m training.agreement FIRST SECOND
python -m training.agreement FIRST SECOND --annotators     also who differs, and in which direction

Each is a JSON Lines file, or a folder of them, with ``level``, ``triggers``, ``signals`` and
either ``id`` or ``conversation_id`` and ``turn``. What only one of them holds is left out.
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deesc_model.labels import SIGNALS, TRIGGERS, Level
from training.command import command_parser, errors_in_one_line
from training.corpus import DataError


@dataclass(frozen=True, slots=True)
class Labels:
    """What one labeller gave to one utterance."""

    level: int
    triggers: frozenset[str]
    signals: frozenset[str]


def read_labels(path: Path) -> dict[str, Labels]:
    """Read labels by id; a corpus turn's id is ``conversation_id#turn``.

    Raises:
        DataError: Nothing is there, or a line is not a labelled utterance.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"no labels at {path}: give a .jsonl file or a folder of them")
    labels: dict[str, Labels] = {}
    for file in files:
        for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                name = row["id"] if "id" in row else f"{row['conversation_id']}#{row['turn']}"
                level = int(Level(row["level"]))
                labels[name] = Labels(level, frozenset(row["triggers"]), frozenset(row["signals"]))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise DataError(f"{file}:{number}: not a labelled utterance: {error!r}") from None
    return labels


def ordinal_alpha(ratings: npt.ArrayLike) -> float:
    """Return Krippendorff's alpha for ordinal data: 1 is perfect, 0 is chance, nan undefined.

    It is undefined where the units that were rated twice have one and the same value throughout.

    Source: Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011, with the ordinal
    metric. The package ``krippendorff`` computes the same, but its licence does not fit here.

    Args:
        ratings: Whole numbers from 0, shape (raters, units); nan where a rater gave none.
    """
    table = np.asarray(ratings, dtype=np.float64)
    size = int(np.nanmax(table)) + 1
    counts = np.stack([(table == value).sum(axis=0) for value in range(size)], axis=1)
    counts = counts[counts.sum(axis=1) > 1].astype(np.float64)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(size)
    observed = (pairs / (counts.sum(axis=1) - 1)[:, None, None]).sum(axis=0)
    totals = observed.sum(axis=0)
    middles = np.cumsum(totals) - totals / 2
    distance = np.subtract.outer(middles, middles) ** 2
    if np.count_nonzero(totals) < 2:
        return float("nan")
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    return float(1 - (observed * distance).sum() / (expected * distance).sum())


def compare(first: Mapping[str, Labels], second: Mapping[str, Labels]) -> str:
    """Return agreement as Markdown: alpha, equality and confusion of levels, F1 of each label.

    F1 is the same whichever labelling counts as the truth.

    Raises:
        DataError: The labellings share no utterance.
    """
    shared = _shared(first, second)
    levels = _levels(first, second, shared)
    gap = np.abs(levels[0] - levels[1])
    lines = [
        f"{len(shared):,} utterances labelled twice: the level is the same in"
        f" {(gap == 0).mean():.1%}, off by two or more in {(gap >= 2).mean():.1%};"
        f" Krippendorff's alpha (ordinal) {ordinal_alpha(levels):.3f}.",
        "",
        *_confusion(levels),
        "",
        "| label | first | second | F1 |",
        "| --- | ---: | ---: | ---: |",
    ]
    for names, kind in ((TRIGGERS, "triggers"), (SIGNALS, "signals")):
        for name in names:
            given = [[name in getattr(side[i], kind) for i in shared] for side in (first, second)]
            lines.append(_row(name, given))
    return "\n".join(lines)


def compare_annotators(first: Mapping[str, Labels], second: Mapping[str, Labels]) -> str:
    """Return as Markdown how the second labelling's levels differ from each first annotator's.

    An annotator is what an id begins with, up to the first ``-``, ``:`` or ``#``: the author of a
    corpus conversation, the source of a public text. Most differences first.

    Raises:
        DataError: The labellings share no utterance.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in _shared(first, second):
        groups[re.split("[-:#]", name, maxsplit=1)[0]].append(name)
    rows = []
    for annotator, names in groups.items():
        before, after = _levels(first, second, names)
        lower, higher = (after < before).sum(), (after > before).sum()
        share = (lower + higher) / len(names)
        rows.append(
            (-share, f"| {annotator} | {len(names):,} | {share:.1%} | {lower} | {higher} |")
        )
    header = ["| annotator | utterances | other level | second lower | second higher |"]
    return "\n".join(
        [*header, "| --- | ---: | ---: | ---: | ---: |", *(row for _, row in sorted(rows))]
    )


def _shared(first: Mapping[str, Labels], second: Mapping[str, Labels]) -> list[str]:
    shared = [name for name in first if name in second]
    if not shared:
        raise DataError("the two labellings have no utterance in common; are the ids the same?")
    return shared


def _levels(
    first: Mapping[str, Labels], second: Mapping[str, Labels], names: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Return the levels of both labellings, shape (2, n)."""
    return np.array([[side[name].level for name in names] for side in (first, second)])


def _confusion(levels: npt.NDArray[np.int64]) -> list[str]:
    counts = np.zeros((len(Level), len(Level)), dtype=np.int64)
    np.add.at(counts, (levels[0], levels[1]), 1)
    lines = [
        f"| first \\ second | {' | '.join(str(int(level)) for level in Level)} |",
        f"| --- |{' ---: |' * len(Level)}",
    ]
    return lines + [
        f"| {int(level)} | {' | '.join(f'{count:,}' for count in counts[level])} |"
        for level in Level
    ]


def _row(name: str, given: Sequence[Sequence[bool]]) -> str:
    first, second = sum(given[0]), sum(given[1])
    both = sum(a and b for a, b in zip(*given, strict=True))
    f1 = f"{2 * both / (first + second):.2f}" if first + second else "–"
    return f"| {name} | {first:,} | {second:,} | {f1} |"


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("agreement", __doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--annotators", action="store_true", help="also a table by annotator")
    options = parser.parse_args(arguments)
    first, second = read_labels(options.first), read_labels(options.second)
    print(compare(first, second))
    if options.annotators:
        print("", compare_annotators(first, second), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

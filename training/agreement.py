"""How far two labellings of the same utterances agree.

python -m training.agreement FIRST SECOND

Each is a JSON Lines file, or a folder of them, with ``level``, ``triggers``, ``signals`` and
either ``id`` or ``conversation_id`` and ``turn``. What only one of them holds is left out.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deesc_model.errors import DeescError
from deesc_model.labels import SIGNALS, TRIGGERS, Level
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
    """Return Krippendorff's alpha for ordinal data: 1 is perfect, 0 is chance.

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
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    return float(1 - (observed * distance).sum() / (expected * distance).sum())


def compare(first: Mapping[str, Labels], second: Mapping[str, Labels]) -> str:
    """Return agreement as Markdown: alpha and equality of levels, F1 of each label.

    F1 is the same whichever labelling counts as the truth.

    Raises:
        DataError: The labellings share no utterance.
    """
    shared = [name for name in first if name in second]
    if not shared:
        raise DataError("the two labellings have no utterance in common; are the ids the same?")
    levels = np.array([[side[name].level for name in shared] for side in (first, second)])
    gap = np.abs(levels[0] - levels[1])
    lines = [
        f"{len(shared):,} utterances labelled twice: the level is the same in"
        f" {(gap == 0).mean():.1%}, off by two or more in {(gap >= 2).mean():.1%};"
        f" Krippendorff's alpha (ordinal) {ordinal_alpha(levels):.3f}.",
        "",
        "| label | first | second | F1 |",
        "| --- | ---: | ---: | ---: |",
    ]
    for names, kind in ((TRIGGERS, "triggers"), (SIGNALS, "signals")):
        for name in names:
            given = [[name in getattr(side[i], kind) for i in shared] for side in (first, second)]
            lines.append(_row(name, given))
    return "\n".join(lines)


def _row(name: str, given: Sequence[Sequence[bool]]) -> str:
    first, second = sum(given[0]), sum(given[1])
    both = sum(a and b for a, b in zip(*given, strict=True))
    f1 = f"{2 * both / (first + second):.2f}" if first + second else "–"
    return f"| {name} | {first:,} | {second:,} | {f1} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.agreement", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    options = parser.parse_args(arguments)
    try:
        print(compare(read_labels(options.first), read_labels(options.second)))
    except DeescError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

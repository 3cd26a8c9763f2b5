"""List labels that are probably wrong, for somebody to read again.

python -m training.label_errors --out suspects.csv
python -m training.label_errors --out suspects.jsonl --top 300 --split train

The rows are the corpus and the public texts that are here, each scored by a simple model that did
not see its conversation's labels; `training.label_noise` measures how well that finds known errors.
Columns ``suspected`` and ``suggested_…`` say what is doubted. Fill ``level``, ``triggers`` and
``signals`` in by reading, with data/labelling-guide.md: a suggestion is no label; what you leave
empty stays as it is, and ``none`` takes triggers or signals away; then run
`training.queue correct`. Test labels are doubted only when asked for: changed where a model
disagrees, they would flatter models.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from deesc_model.labels import SIGNALS, TRIGGERS
from deesc_model.rendering import render_turn
from deesc_model.scoring import Scores, predicted_levels
from training.command import command_parser, errors_in_one_line
from training.config import Config, add_config_arguments, read_config
from training.corpus import SPLITS, Utterance
from training.dataset import load_dataset
from training.label_files import TurnToLabel, check_new, write_queue
from training.metrics import Gold, gold_labels
from training.out_of_fold import conversation_folds, features_of, out_of_fold
from training.suspicion import KINDS, error_counts, suspicion

MODEL: Final = "both"
RANKING: Final = {"level": "distance", "triggers": "self_confidence", "signals": "self_confidence"}
"""`training.label_noise` compares them with the others. For levels far off is worse than near."""

CONTEXT_TURNS = 6
"""Turns before the utterance that the table shows."""


@dataclass(frozen=True, slots=True)
class Suspect(TurnToLabel):
    """One utterance to read again.

    Attributes:
        split: As in the corpus.
        suspected: What is doubted, the most doubtful first: ``level 3→1``, ``+delay`` for a label
            that seems to lack, ``-delay`` for one that seems too much.
        score: 1 minus the probability of the given label, of the most doubtful one, 0–1.
        given_level: The level as it is.
        given_triggers: The triggers as they are.
        given_signals: The signals as they are.
        suggested_level: The level with what is doubted changed.
        suggested_triggers: The triggers with what is doubted changed.
        suggested_signals: The signals with what is doubted changed.
    """

    split: str
    suspected: str
    score: float
    given_level: int
    given_triggers: tuple[str, ...]
    given_signals: tuple[str, ...]
    suggested_level: int
    suggested_triggers: tuple[str, ...]
    suggested_signals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Doubt:
    """One doubtful label: of which row, of which kind, in which column, how probably wrong."""

    row: int
    kind: str
    column: int
    score: float


def find_doubts(
    gold: Gold, scores: Scores, allowed: Sequence[int], top: int
) -> dict[int, list[Doubt]]:
    """Return the doubtful labels of the `top` most doubtful rows, the most doubtful row first.

    The kinds take turns, since their scores cannot be compared: the most doubtful level, the most
    doubtful trigger, the most doubtful signal, the next level, and so on.

    Args:
        gold: The labels as they are.
        scores: Out-of-fold probabilities of the same rows.
        allowed: Rows that may be named.
        top: How many rows to name at most.
    """
    queues = [_ranked(gold, scores, kind, set(allowed)) for kind in KINDS]
    found: dict[int, list[Doubt]] = {}
    for depth in range(max(map(len, queues))):
        for queue in queues:
            if depth >= len(queue):
                continue
            doubt = queue[depth]
            if doubt.row not in found and len(found) == top:
                return found
            found.setdefault(doubt.row, []).append(doubt)
    return found


def _ranked(gold: Gold, scores: Scores, kind: str, allowed: set[int]) -> list[Doubt]:
    """Return the labels of one kind that the model would change, the most doubtful first."""
    ranks = suspicion(gold, scores, RANKING[kind], shift=False)[kind]
    doubtful = suspicion(gold, scores, "self_confidence", shift=False)[kind]
    if kind == "level":
        ranks, doubtful = ranks[:, None], doubtful[:, None]
        differs = (predicted_levels(scores) != gold.levels)[:, None]
    else:
        differs = doubtful > 0.5
    rows, columns = np.nonzero(differs)
    order = np.argsort(-ranks[rows, columns], kind="stable")
    return [
        Doubt(int(rows[i]), kind, int(columns[i]), float(doubtful[rows[i], columns[i]]))
        for i in order
        if int(rows[i]) in allowed
    ]


def make_suspect(row: Utterance, doubts: Sequence[Doubt], predicted_level: int) -> Suspect:
    """Return an utterance to read again."""
    level, changed = row.level, {"triggers": set(row.triggers), "signals": set(row.signals)}
    words = []
    for doubt in doubts:
        if doubt.kind == "level":
            level = predicted_level
            words.append(f"level {row.level}→{level}")
        else:
            name = (TRIGGERS if doubt.kind == "triggers" else SIGNALS)[doubt.column]
            words.append(f"{'-' if name in changed[doubt.kind] else '+'}{name}")
            changed[doubt.kind] ^= {name}
    return Suspect(
        conversation_id=row.conversation_id,
        turn=row.turn,
        speaker=row.speaker,
        context="\n".join(render_turn(turn) for turn in row.context[-CONTEXT_TURNS:]),
        text=row.text,
        channel=row.channel,
        domain=row.domain,
        split=row.split,
        suspected=", ".join(words),
        score=round(max(doubt.score for doubt in doubts), 3),
        given_level=row.level,
        given_triggers=row.triggers,
        given_signals=row.signals,
        suggested_level=level,
        suggested_triggers=tuple(name for name in TRIGGERS if name in changed["triggers"]),
        suggested_signals=tuple(name for name in SIGNALS if name in changed["signals"]),
    )


def label_errors(config: Config, splits: Sequence[str], top: int, folds: int) -> list[Suspect]:
    """Return the utterances whose labels are most doubtful, and print estimates of how many are.

    Raises:
        DeescError: The data or the base model cannot be read.
    """
    rows = [row for members in load_dataset(config).values() for row in members]
    gold = gold_labels(rows)
    folds_of = conversation_folds(rows, folds, config.seed)
    scores = out_of_fold(features_of(rows, config), gold, folds_of)[MODEL]
    _print_counts(error_counts(gold, scores), gold)
    allowed = [number for number, row in enumerate(rows) if row.split in splits]
    doubts, levels = find_doubts(gold, scores, allowed, top), predicted_levels(scores)
    return [make_suspect(rows[i], found, int(levels[i])) for i, found in doubts.items()]


def _print_counts(counts: Mapping[str, float], gold: Gold) -> None:
    sizes = {
        "level": gold.levels.size,
        "triggers": gold.triggers.size,
        "signals": gold.signals.size,
    }
    for kind, count in counts.items():
        print(f"{kind}: confident learning takes {count:,.0f} of {sizes[kind]:,} labels for wrong")


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("label_errors", __doc__)
    add_config_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="a .csv or .jsonl file")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the file, and what was filled in there"
    )
    parser.add_argument("--top", type=int, default=150, help="utterances at most")
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=("train", "validation"))
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args(arguments)
    check_new(options.out, overwrite=options.overwrite)
    config = read_config(options.config, options.overrides)
    suspects = label_errors(config, options.split, options.top, options.folds)
    write_queue(suspects, options.out, Suspect, overwrite=options.overwrite)
    print(f"{len(suspects)} utterances to read again are in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure how often `training.drift` alarms, and how good the expected metrics are.

python -m training.measure_drift --halvings 200

The test split is labelled by the bundle and halved at random by conversation: drift between the
halves is a false alarm. Then conversations of one kind are taken out of the current half, which
is drift of a known size. At last the metrics that the scores let expect are held beside those
that the labels give.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deesc_model.bundle import default_bundle_path
from deesc_model.classifier import EscalationClassifier
from deesc_model.labels import Level
from deesc_model.scoring import BoolArray, Scores
from deesc_model.types import Turn
from training.command import command_parser, errors_in_one_line
from training.config import add_config_arguments, read_config
from training.corpus import CHANNELS, Utterance, load_corpus, select_split
from training.courses import predict_rows
from training.drift import FEWEST_CONVERSATIONS
from training.drift_features import build_features
from training.drift_shifts import THRESHOLDS_FILE, DriftThresholds, find_shifts, read_thresholds
from training.embeddings import embed
from training.expected_performance import EXPECTED, expected_counts, expected_metrics
from training.metrics import gold_labels, wilson_interval
from training.scored_files import ScoredFileError, ScoredRows

TAKEN_OUT = (("mild", 0.3), ("mild", 0.6), ("social", 0.5), ("social", 1.0))
"""Kinds of conversations, and the share 0–1 of them that the current half loses."""
NAMED = 3


def measure_alarms(
    rows: ScoredRows,
    kind: BoolArray,
    taken_out: float,
    halvings: int,
    thresholds: DriftThresholds,
) -> list[list[str]]:
    """Return what drifted in each of many random halvings.

    Args:
        rows: One set.
        kind: Which conversations may be taken out of the current half, bool (conversations,).
        taken_out: Share 0–1 of them that are.
        halvings: How many.
        thresholds: What counts as drift.
    """
    features = build_features(rows)
    found = []
    for seed in range(halvings):
        random = np.random.default_rng(seed)
        current = np.arange(len(kind)) < len(kind) // 2
        current = random.permutation(current)
        kept = ~(current & kind & (random.random(len(kind)) < taken_out))
        parts = features if kept.all() else build_features(rows.keep(kept))
        shifts = find_shifts(parts, current[kept], thresholds, seed)
        found.append([shift.name for shift in shifts if shift.drifted])
    return found


def expected_and_measured(
    rows: ScoredRows, labelled: Sequence[Utterance]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the `EXPECTED` metrics, expected and measured, by channel and ``"all"``."""
    gold = gold_labels(labelled)
    known = Scores(
        np.eye(len(Level))[gold.levels], gold.triggers.astype(float), gold.signals.astype(float)
    )
    counts = [
        expected_counts(scores, rows.levels, rows.triggers) for scores in (rows.scores, known)
    ]
    channels = np.array([row.channel for row in labelled])
    masks = {"all": np.ones(len(labelled), dtype=bool)}
    masks |= {name: channels == name for name in CHANNELS if name in channels}
    found = {}
    for name, mask in masks.items():
        metrics = expected_metrics(np.stack([part[mask].sum(axis=0) for part in counts]))
        found[name] = {metric: (float(v[0]), float(v[1])) for metric, v in metrics.items()}
    return found


def _kinds(rows: ScoredRows, labelled: Sequence[Utterance]) -> dict[str, BoolArray]:
    """Return which conversations are mild, by what the model says, or social media posts."""
    hottest = np.zeros(rows.conversation_count, dtype=np.int64)
    np.maximum.at(hottest, rows.conversations, rows.levels)
    social = np.zeros(rows.conversation_count, dtype=bool)
    social[rows.conversations] = [row.channel == "social" for row in labelled]
    return {"mild": hottest < Level.FRUSTRATED, "social": social}


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("measure_drift", __doc__)
    parser.add_argument("--bundle", type=Path, default=default_bundle_path(), metavar="FOLDER")
    parser.add_argument("--halvings", type=int, default=200)
    parser.add_argument("--thresholds", type=Path, default=THRESHOLDS_FILE, metavar="FILE")
    parser.add_argument("--cache", type=Path, default=Path("runs/predictions"), metavar="FOLDER")
    add_config_arguments(parser)
    options = parser.parse_args(arguments)
    if options.halvings < 1:
        parser.error("--halvings must be 1 or more")
    config = read_config(options.config, options.overrides)
    thresholds = read_thresholds(options.thresholds)
    chosen = select_split(load_corpus(Path(config.corpus)), "test", config.max_conversations)
    rows = _label(chosen, EscalationClassifier.from_pretrained(options.bundle), options.cache)
    if rows.conversation_count < 4 * FEWEST_CONVERSATIONS:
        raise ScoredFileError(f"needs {4 * FEWEST_CONVERSATIONS} conversations or more")
    kinds = _kinds(rows, chosen)
    print(f"{len(chosen):,} utterances, {rows.conversation_count:,} conversations\n")
    print("| taken out of the current half | drift found | 95 % interval | most often |")
    print("| --- | ---: | ---: | --- |")
    for name, share in (("mild", 0.0), *TAKEN_OUT):
        found = measure_alarms(rows, kinds[name], share, options.halvings, thresholds)
        alarms = sum(map(bool, found))
        low, high = wilson_interval(alarms, len(found))
        names = Counter(feature for names in found for feature in names).most_common(NAMED)
        shown = ", ".join(f"{feature} {count}" for feature, count in names) or "–"
        what = f"{share:.0%} of {name} conversations" if share else "nothing: false alarms"
        print(
            f"| {what} | {alarms} of {len(found)} | {low:.1%} to {high:.1%} | {shown} |", flush=True
        )
    print(f"\n| expected / measured | {' | '.join(EXPECTED)} |")
    print(f"| --- |{' ---: |' * len(EXPECTED)}")
    for part, metrics in expected_and_measured(rows, chosen).items():
        cells = (f"{expected:.3f} / {measured:.3f}" for expected, measured in metrics.values())
        print(f"| {part} | {' | '.join(cells)} |")
    return 0


def _label(
    chosen: Sequence[Utterance], classifier: EscalationClassifier, cache: Path
) -> ScoredRows:
    turns = [Turn(row.speaker, row.text) for row in chosen]
    return ScoredRows.gather(
        turns,
        [row.conversation_id for row in chosen],
        predict_rows(chosen, classifier, cache),
        embed(classifier.bundle, turns, [row.context for row in chosen]),
    )


if __name__ == "__main__":
    sys.exit(main())

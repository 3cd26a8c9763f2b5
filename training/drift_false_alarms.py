"""Measure how often `training.drift` alarms on two halves of one set, and on shifts of known size.

python -m training.drift_false_alarms --halvings 200

The test split is labelled once by the bundle and halved at random by conversation. Then a share
of the conversations that stay below level 2 is taken out of the current half: drift that is real.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deesc_model.bundle import default_bundle_path
from deesc_model.classifier import EscalationClassifier
from deesc_model.errors import DeescError
from deesc_model.labels import Level
from deesc_model.scoring import BoolArray
from deesc_model.types import Turn
from training.config import add_config_arguments, read_config
from training.corpus import load_corpus, select_split
from training.courses import predict_rows
from training.drift_features import DriftFeatures, build_features, keep_conversations
from training.drift_tests import FEWEST_CONVERSATIONS, find_shifts
from training.drift_thresholds import DRIFT_FILE, DriftThresholds, read_thresholds
from training.scored_files import ScoredFileError, ScoredRows

TAKEN_OUT = (0.0, 0.5, 0.9)
"""Shares of the current half's mild conversations that are taken out."""


def measure_alarms(
    features: DriftFeatures,
    taken_out: float,
    halvings: int,
    thresholds: DriftThresholds,
) -> list[list[str]]:
    """Return what drifted in each of many random halvings.

    Args:
        features: Of one set of rows.
        taken_out: Share 0–1 of mild conversations that the current half loses.
        halvings: How many.
        thresholds: What counts as drift.
    """
    mild = _mild_conversations(features.rows)
    found = []
    for seed in range(halvings):
        random = np.random.default_rng(seed)
        current = np.zeros(len(mild), dtype=bool)
        current[random.permutation(len(mild))[: len(mild) // 2]] = True
        lost = current & mild & (random.random(len(mild)) < taken_out)
        kept = keep_conversations(features, ~lost)
        shifts = find_shifts(kept, current[~lost], thresholds, seed)
        found.append([shift.name for shift in shifts if shift.drifted])
    return found


def _mild_conversations(rows: ScoredRows) -> BoolArray:
    """Return which conversations stay below level 2 by what the model says."""
    hottest = np.zeros(rows.conversation_count, dtype=np.int64)
    np.maximum.at(hottest, rows.conversations, rows.levels)
    return hottest < Level.FRUSTRATED


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share. Source: Wilson, 1927."""
    z, share = 1.96, hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.drift_false_alarms")
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--bundle", type=Path, default=default_bundle_path(), metavar="FOLDER")
    parser.add_argument("--halvings", type=int, default=200)
    parser.add_argument("--thresholds", type=Path, default=DRIFT_FILE, metavar="FILE")
    parser.add_argument("--cache", type=Path, default=Path("runs/predictions"), metavar="FOLDER")
    add_config_arguments(parser)
    options = parser.parse_args(arguments)
    if options.halvings < 1:
        parser.error("--halvings must be 1 or more")
    try:
        config = read_config(options.config, options.overrides)
        thresholds = read_thresholds(options.thresholds)
        rows = select_split(load_corpus(Path(config.corpus)), "test", config.max_conversations)
        classifier = EscalationClassifier.from_pretrained(options.bundle)
        scored = ScoredRows.from_predictions(
            [Turn(row.speaker, row.text) for row in rows],
            [row.conversation_id for row in rows],
            predict_rows(rows, classifier, options.cache),
        )
        if scored.conversation_count < 4 * FEWEST_CONVERSATIONS:
            raise ScoredFileError(f"needs {4 * FEWEST_CONVERSATIONS} conversations")
    except DeescError as error:
        print(error, file=sys.stderr)
        return 1
    features = build_features(scored)
    print(f"{len(rows):,} rows, {scored.conversation_count:,} conversations; halves\n")
    print("| mild conversations taken out | halvings | drift found | 95 % interval | most often |")
    print("| ---: | ---: | ---: | ---: | --- |")
    for share in TAKEN_OUT:
        found = measure_alarms(features, share, options.halvings, thresholds)
        alarms = sum(map(bool, found))
        low, high = wilson_interval(alarms, len(found))
        names = Counter(name for names in found for name in names).most_common(3)
        shown = ", ".join(f"{name} {count}" for name, count in names) or "–"
        print(
            f"| {share:.0%} | {len(found)} | {alarms / len(found):.1%} | {low:.1%} to {high:.1%}"
            f" | {shown} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure which ranking finds wrong labels: put in some that are known, and look where they rank.

python -m training.label_noise
python -m training.label_noise --rate 0.05 --far 0.3 --set max_conversations=500

Labels are not changed on disk. A ranked label that was wrong before counts as a false alarm, so
precision is a lower bound.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from deesc_model.labels import Level
from deesc_model.scoring import BoolArray, FloatArray, Scores
from training.command import command_parser, errors_in_one_line
from training.confident import RANKINGS
from training.config import add_config_arguments, read_config
from training.dataset import load_dataset
from training.metrics import Gold, average_precision, gold_labels
from training.out_of_fold import conversation_folds, features_of, out_of_fold
from training.suspicion import KINDS, suspicion

DEPTHS: Final = (50, 150, 500)
"""How many labels somebody reads again."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Labels of which some were made wrong, and which ones: bool, shaped like `Gold`."""

    gold: Gold
    wrong: dict[str, BoolArray]


def add_noise(gold: Gold, customers: BoolArray, rate: float, far: float, seed: int) -> Noise:
    """Return labels of which some are wrong.

    Args:
        gold: The labels as they are.
        customers: Whose level may be changed and who may be given a label, bool (n,).
        rate: Share 0–1 of the customers' levels that are changed, and of the triggers and signals
            that are taken away; of each label as many are given to somebody who lacks it.
        far: Share 0–1 of the changed levels that are off by two or more; the others by one.
        seed: Seed of the choice.
    """
    chance = np.random.default_rng(seed)
    levels = gold.levels.copy()
    who = np.flatnonzero(customers)
    for row in chance.choice(who, round(rate * len(who)), replace=False):
        steps = np.abs(np.arange(len(Level)) - levels[row])
        far_away = chance.random() < far
        levels[row] = chance.choice(np.flatnonzero(steps >= 2 if far_away else steps == 1))

    def flip(given: BoolArray) -> BoolArray:
        changed = given.copy()
        for column in range(given.shape[1]):
            has, lacks = given[:, column], ~given[:, column] & customers
            count = round(rate * has.sum())
            for mask in (has, lacks):
                rows = chance.choice(np.flatnonzero(mask), count, replace=False)
                changed[rows, column] = ~given[rows, column]
        return changed

    noisy = Gold(levels, flip(gold.triggers), flip(gold.signals))
    wrong = {
        "level": noisy.levels != gold.levels,
        "triggers": noisy.triggers != gold.triggers,
        "signals": noisy.signals != gold.signals,
    }
    return Noise(noisy, wrong)


def found_at(wrong: BoolArray, suspicious: FloatArray) -> list[float]:
    """Return precision at each of `DEPTHS`, and average precision.

    Args:
        wrong: Which labels are wrong, bool (n,).
        suspicious: How suspicious each is, float (n,).
    """
    order = np.argsort(-suspicious, kind="stable")
    precision = [float(wrong[order[:depth]].mean()) for depth in DEPTHS]
    average = average_precision(wrong[:, None], suspicious[:, None], np.ones((1, len(wrong))))
    return [*precision, float(average[0, 0])]


def _table(noise: Noise, scores: Mapping[str, Scores]) -> Iterator[str]:
    depths = " | ".join(f"P@{depth}" for depth in DEPTHS)
    yield f"| labels | wrong | model | ranking | {depths} | average precision |"
    yield f"| --- | ---: | --- | --- |{' ---: |' * (len(DEPTHS) + 1)}"
    for kind in KINDS:
        # A label that is given or not has two classes, for which the three rankings agree.
        rankings = RANKINGS if kind == "level" else ["self_confidence"]
        wrong = noise.wrong[kind].ravel()
        for model, found in scores.items():
            for ranking in rankings:
                for shift in (False, True):
                    ranked = suspicion(noise.gold, found, ranking, shift=shift)[kind].ravel()
                    figures = " | ".join(f"{value:.2f}" for value in found_at(wrong, ranked))
                    name = f"{ranking}, shifted" if shift else ranking
                    yield f"| {kind} | {wrong.sum():,} | {model} | {name} | {figures} |"


def _share(most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not 0 <= float(text) <= most:
            raise argparse.ArgumentTypeError(f"must be from 0 to {most}, not {text}")
        return float(text)

    return parse


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("label_noise", __doc__)
    add_config_arguments(parser)
    parser.add_argument("--rate", type=_share(0.5), default=0.03, help="share of labels made wrong")
    parser.add_argument(
        "--far",
        type=_share(1),
        default=0.1,
        help="share of wrong levels that are off by two or more",
    )
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args(arguments)
    config = read_config(options.config, options.overrides)
    rows = [row for members in load_dataset(config).values() for row in members]
    customers = np.array([row.speaker == "customer" for row in rows])
    noise = add_noise(gold_labels(rows), customers, options.rate, options.far, config.seed)
    folds = conversation_folds(rows, options.folds, config.seed)
    scores = out_of_fold(features_of(rows, config), noise.gold, folds)
    print("\n".join(_table(noise, scores)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure whether evidence is faithful: does a score hang on the words that are named?

python -m training.measure_evidence --bundle models/default

For customers' turns of the test split and each trigger and signal predicted of them, the three
top words are left out together, and as many random ones.
"""

import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deesc_model.bundle import default_bundle_path
from deesc_model.classifier import EscalationClassifier
from deesc_model.evidence import FRUSTRATION, find_evidence, score_of, split_words, without
from deesc_model.scoring import FloatArray
from deesc_model.types import Turn
from training.command import command_parser, errors_in_one_line
from training.corpus import Utterance, load_corpus, select_split

TOP = 3
FEWEST_WORDS = 8
"""Shorter texts have hardly a word to leave out by chance."""
MOST_WORDS = 60


def measure_faithfulness(
    rows: Sequence[Utterance], classifier: EscalationClassifier, seed: int
) -> dict[str, FloatArray]:
    """Return by how much scores fall without the top words and without random ones.

    Returns:
        For ``"frustration"`` (levels) and ``"labels"`` (probabilities): shape (n, 3), without
        top words, without random words, and the noise; one row for each label explained.
    """
    chance = random.Random(seed)  # noqa: S311
    drops: dict[str, list[tuple[float, float, float]]] = {FRUSTRATION: [], "labels": []}
    for row in rows:
        turn = Turn(row.speaker, row.text)
        predicted = classifier.predict(turn, row.context)
        labels = (FRUSTRATION, *predicted.triggers, *predicted.signals)
        spans = split_words(row.text)
        for found in find_evidence(classifier, turn, row.context, labels):
            top = sorted((word.start, word.end) for word in found.top(TOP))
            if not top:
                continue
            chosen = sorted(chance.sample(spans, len(top)))
            texts = [without(row.text, left_out) for left_out in (top, chosen)]
            answers = classifier.predict_batch(
                [Turn(row.speaker, text) for text in (row.text, *texts)], [row.context] * 3
            )
            whole, less_top, less_random = (score_of(answer, found.label) for answer in answers)
            key = FRUSTRATION if found.label == FRUSTRATION else "labels"
            drops[key].append((whole - less_top, whole - less_random, found.noise))
    return {key: np.array(values) for key, values in drops.items()}


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("measure_evidence", __doc__)
    parser.add_argument("--bundle", type=Path, default=default_bundle_path(), metavar="FOLDER")
    parser.add_argument("--corpus", type=Path, default=Path("data/corpus"), metavar="FOLDER")
    parser.add_argument("--turns", type=int, default=100, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    classifier = EscalationClassifier.from_pretrained(options.bundle)
    rows = [
        row
        for row in select_split(load_corpus(options.corpus), "test")
        if row.speaker == "customer"
        and row.level > 0
        and FEWEST_WORDS <= len(split_words(row.text)) <= MOST_WORDS
    ]
    sample = random.Random(options.seed).sample(rows, min(options.turns, len(rows)))  # noqa: S311
    print("| score | explained | without top words | without random ones | top fell more | noise |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, drops in measure_faithfulness(sample, classifier, options.seed).items():
        top, chosen, noise = drops.T
        print(
            f"| {name} | {len(drops)} | {-top.mean():+.3f} | {-chosen.mean():+.3f}"
            f" | {(top > chosen).mean():.0%} | {np.median(noise):.3f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

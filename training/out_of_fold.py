"""What simple models say of utterances whose conversation's labels they did not see.

Not the shipped model: it has seen the labels of training and validation.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

from deesc_model.errors import DeescError
from deesc_model.scoring import Calibration, IntArray, Logits, Scores, calibrated_scores
from training.assembly import origin
from training.base_vectors import text_vectors
from training.baseline import STRENGTH, TfidfFeatures
from training.config import Config
from training.corpus import Utterance
from training.linear_heads import Features, LinearHeads
from training.metrics import Gold

ENCODER_STRENGTH = 10.0
"""Inverse of the L2 penalty on vectors of length 1."""


def conversation_folds(rows: Sequence[Utterance], count: int, seed: int) -> IntArray:
    """Return the fold of each row, 0 to `count` - 1; a conversation is in one.

    Raises:
        DeescError: There are fewer than two folds, or fewer conversations than folds.
    """
    groups = [origin(row)[0] for row in rows]
    if not 2 <= count <= len(set(groups)):
        raise DeescError(f"folds {count}: take 2 to {len(set(groups))}, as many as conversations")
    parts = GroupKFold(count, shuffle=True, random_state=seed).split(rows, groups=groups)
    folds = np.zeros(len(rows), dtype=np.int64)
    for number, (_, members) in enumerate(parts):
        folds[members] = number
    return folds


def features_of(rows: Sequence[Utterance], config: Config) -> dict[str, Features]:
    """Return the features that each model reads; they come from texts alone, not from labels.

    ``"tfidf"`` are counts of n-grams, ``"encoder"`` vectors of the utterance and of the one before.

    Raises:
        DeescError: The base model cannot be loaded.
    """
    texts = [row.text for row in rows]
    before = [row.context[-1].text if row.context else "" for row in rows]
    # Nearly every text comes twice, by itself and before the next one, and is read once.
    place = {text: number for number, text in enumerate(dict.fromkeys([*texts, *before]))}
    vectors = text_vectors(list(place), config.base_model, config.evaluation_batch_size)
    speakers = np.array([[float(row.speaker == "customer")] for row in rows])
    parts = [vectors[[place[text] for text in column]] for column in (texts, before)]
    return {
        "tfidf": TfidfFeatures(config.context_turns).fit_transform(rows),
        "encoder": np.hstack([*parts, speakers]),
    }


def out_of_fold(features: dict[str, Features], gold: Gold, folds: IntArray) -> dict[str, Scores]:
    """Return each model's probabilities of every row, learned from the other folds.

    The models are those of `features_of`, and ``"both"``: the mean of their probabilities.
    """
    strengths = {"tfidf": STRENGTH, "encoder": ENCODER_STRENGTH}
    found = {name: _predict(features[name], gold, folds, strengths[name]) for name in strengths}
    first, second = found.values()
    mean = Scores(
        *(
            (getattr(first, part) + getattr(second, part)) / 2
            for part in ("level", "triggers", "signals")
        )
    )
    return found | {"both": mean}


def _predict(features: Features, gold: Gold, folds: IntArray, strength: float) -> Scores:
    parts: list[Logits] = []
    places = []
    for number in tqdm(range(int(folds.max()) + 1), "folds", leave=False):
        inside = folds == number
        learned = Gold(gold.levels[~inside], gold.triggers[~inside], gold.signals[~inside])
        heads = LinearHeads(strength, balanced=False).fit(features[~inside], learned)
        parts.append(heads.logits(features[inside]))
        places.append(np.flatnonzero(inside))
    back = np.argsort(np.concatenate(places))
    logits = Logits(
        *(
            np.concatenate([getattr(part, name) for part in parts])[back]
            for name in ("level", "triggers", "signals")
        )
    )
    return calibrated_scores(logits, Calibration(LinearHeads.level_head))

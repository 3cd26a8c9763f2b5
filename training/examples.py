"""What a network learns from: rows as tensors, how often each is shown, how much each counts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from deesc_model.encoding import EncodedInput, EncoderSettings, InputEncoder
from deesc_model.labels import SIGNALS, TRIGGERS, Level
from training.config import Config
from training.corpus import Utterance
from training.metrics import Gold
from training.model import LossWeights, input_encoder
from training.predict import encode_utterance

LARGEST_WEIGHT = 10.0
"""No class or label counts more than this, however rare."""

Example = dict[str, Any]


def make_encoder(tokenizer: PreTrainedTokenizerBase, config: Config) -> InputEncoder:
    """Return the encoder that reads as much as the configuration says."""
    settings = EncoderSettings(
        config.max_length, config.context_turns, config.context_tokens, config.window_overlap
    )
    return input_encoder(tokenizer, settings)


def to_dataset(rows: Sequence[Utterance], encoder: InputEncoder) -> Dataset:
    """Return token ids and targets as a `datasets.Dataset`.

    Of a text longer than the model reads, training sees the first window.
    """
    windows = [encode_utterance(row, encoder)[0] for row in rows]
    return Dataset.from_dict(
        {
            "ids": [list(window.ids) for window in windows],
            "utterance_length": [window.utterance_length for window in windows],
            "level": [row.level for row in rows],
            "triggers": [[float(name in row.triggers) for name in TRIGGERS] for row in rows],
            "signals": [[float(name in row.signals) for name in SIGNALS] for row in rows],
        }
    )


def collate(examples: Sequence[Example], encoder: InputEncoder) -> dict[str, torch.Tensor]:
    """Return the model's inputs and targets as tensors."""
    windows = [EncodedInput(tuple(row["ids"]), row["utterance_length"]) for row in examples]
    batch = {name: torch.from_numpy(array) for name, array in encoder.collate(windows).items()}
    return batch | {
        "levels": torch.tensor([row["level"] for row in examples]),
        "trigger_targets": torch.tensor([row["triggers"] for row in examples]),
        "signal_targets": torch.tensor([row["signals"] for row in examples]),
    }


def view_shares(context_dropout: float, augmentation: float) -> list[float]:
    """Return how often a text is shown: as it is with context, without; changed with, without."""
    return [
        (1 - context_dropout) * (1 - augmentation),
        context_dropout * (1 - augmentation),
        (1 - context_dropout) * augmentation,
        context_dropout * augmentation,
    ]


def loss_weights(gold: Gold, config: Config) -> LossWeights:
    """Return weights that let rare levels and labels count for more."""
    counts = np.bincount(gold.levels, minlength=len(Level)).astype(float)
    inverse = (counts.sum() / np.maximum(counts, 1.0)) ** config.imbalance_power
    level_weights = np.minimum(inverse / (inverse @ counts / counts.sum()), LARGEST_WEIGHT)

    def positive(truth: np.ndarray) -> tuple[float, ...]:
        odds = (~truth).sum(axis=0) / np.maximum(truth.sum(axis=0), 1)
        return tuple(np.minimum(odds**config.imbalance_power, LARGEST_WEIGHT).tolist())

    return LossWeights(
        levels=tuple(level_weights.tolist()),
        triggers=positive(gold.triggers),
        signals=positive(gold.signals),
        trigger_loss=config.trigger_loss_weight,
        signal_loss=config.signal_loss_weight,
    )

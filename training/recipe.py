"""How a run makes its checkpoint, and of what beside the labelled data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.config import Config
from training.corpus import Utterance
from training.tracking import Tracker

Learn = Callable[[Config, Sequence[Utterance], Sequence[Utterance], Tracker | None, Path], float]
"""A way to make a checkpoint of training and validation split; called as `fine_tune` is."""


@dataclass(frozen=True)
class Recipe:
    """A way to make a checkpoint.

    Attributes:
        learn: Makes it.
        how: The same in a few sentences, for the model card.
        origins: Hashes of what it is made of beside the data, by name: tags of the MLflow run,
            and what must be the same to resume.
    """

    learn: Learn
    how: str
    origins: Mapping[str, str] = field(default_factory=dict)

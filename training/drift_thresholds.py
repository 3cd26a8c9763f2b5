"""The thresholds of `training.drift`, from a TOML file."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

from training.config import ConfigError

DRIFT_FILE = Path(__file__).with_name("drift.toml")

RANGES = {
    "significance": (0.0001, 0.5),
    "permutations": (99, 99_999),
    "content_auc": (0.5, 1),
    "unseen_rise": (0, 1),
    "expected_drop": (0, 2),
}
"""Smallest and largest value; the stability indices may be 0 to 100."""


@dataclass(frozen=True, slots=True)
class DriftThresholds:
    """What counts as drift.

    Attributes:
        significance: Chance 0–1 of any false alarm, over all tests of a comparison together.
        permutations: How often conversations are dealt out anew.
        level_psi: Least population stability index of the level that counts.
        trigger_psi: The same of a trigger's share.
        signal_psi: The same of a signal's share.
        length_psi: The same of words an utterance and of turns a conversation.
        speaker_psi: The same of the share of agents' turns.
        unseen_rise: Least rise 0–1 of the share of unseen words, above what chance gives.
        content_auc: Least area under the curve 0.5–1 of a classifier of reference or current.
        expected_drop: Least fall of an expected metric.
    """

    significance: float
    permutations: int
    level_psi: float
    trigger_psi: float
    signal_psi: float
    length_psi: float
    speaker_psi: float
    unseen_rise: float
    content_auc: float
    expected_drop: float

    def __post_init__(self) -> None:
        """Refuse what types cannot say."""
        for field in fields(self):
            low, high = RANGES.get(field.name, (0, 100))
            if not low <= getattr(self, field.name) <= high:
                raise ConfigError(
                    f"{field.name} must be from {low:g} to {high:g},"
                    f" not {getattr(self, field.name)!r}"
                )


def read_thresholds(file: Path = DRIFT_FILE) -> DriftThresholds:
    """Read the file; it must have every key.

    Raises:
        ConfigError: It cannot be read, lacks a key, has an unknown one or a wrong value.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None
    hints = get_type_hints(DriftThresholds)
    for key in values:
        if key not in hints:
            raise ConfigError(f"{file}: unknown key {key!r}; known are {', '.join(hints)}")
    for key, wanted in hints.items():
        if key not in values:
            raise ConfigError(f"{file}: the key {key!r} is missing")
        found = type(values[key])
        if found is not wanted and not (wanted is float and found is int):
            raise ConfigError(f"{file}: {key} must be {wanted.__name__}, not {values[key]!r}")
    try:
        return DriftThresholds(**values)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None

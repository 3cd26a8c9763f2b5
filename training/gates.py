"""The bounds of the gate, from a TOML file."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

from training.config import ConfigError, check_types, read_toml
from training.robustness import PROBE_NAMES

DEFAULT_GATES = Path(__file__).with_name("gates.toml")

PROBE_TYPES = dict.fromkeys(PROBE_NAMES, float)


@dataclass(frozen=True, slots=True)
class Gates:
    """What a challenger must show; every key must be given.

    Attributes:
        significance: Chance that a challenger as good as the champion is refused, for all
            overall figures of one data set together, and again for all its slices together.
        test_conversations: Fewest conversations that a verdict may rest on.
        slice_rows: Slices of fewer rows are not judged, nor are fewer public texts.
        baseline_gain: What the interval of the difference to TF-IDF must lie above.
        corpus_ece: Largest calibration error of the level on the corpus; what chance alone makes
            of so few rows is never too much.
        public_ece: The same on public texts.
        quantization_loss: Largest macro-F1 lost to int8 on validation.
        latency_ratio: Largest time for one utterance, as a multiple of the champion's.
        latency_rows: Utterances that are timed.
        robustness: Largest share of failures of each probe; refused is what lies above it with
            its whole 95 % interval.
    """

    significance: float
    test_conversations: int
    slice_rows: int
    baseline_gain: float
    corpus_ece: float
    public_ece: float
    quantization_loss: float
    latency_ratio: float
    latency_rows: int
    robustness: dict[str, float]


def read_gates(path: Path = DEFAULT_GATES) -> Gates:
    """Read and check the bounds.

    Raises:
        ConfigError: A key is unknown, missing, of another type, or out of range.
    """
    hints = get_type_hints(Gates)
    values = check_types(read_toml(path), hints, str(path))
    _check_complete(values, hints, str(path))
    probes = check_types(values["robustness"], PROBE_TYPES, f"{path} [robustness]")
    _check_complete(probes, PROBE_TYPES, f"{path} [robustness]")
    for key, value in (values | probes).items():
        high = {"significance": 0.5, "latency_ratio": 1e3}.get(key, 1.0)
        if hints.get(key) is int:
            high = 1e6
        low = -1 if key == "baseline_gain" else int(hints.get(key) is int)
        if key != "robustness" and not low <= value <= high:
            raise ConfigError(f"{path}: {key} must be from {low} to {high:g}, not {value!r}")
    return Gates(**values | {"robustness": probes})


def _check_complete(values: dict[str, object], hints: dict[str, type], source: str) -> None:
    missing = [key for key in hints if key not in values]
    if missing:
        raise ConfigError(f"{source}: missing {', '.join(missing)}")

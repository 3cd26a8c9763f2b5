"""A bundle: the folder that holds an exported model and everything needed to use it.

    model.onnx       the network           config.json     how to feed and read it
    tokenizer.json   text to token ids     metrics.json    how good it is, with intervals
    README.md        the model card        manifest.json   sha256 of all of these, origin

Reading verifies every hash, so a corrupt, truncated or edited bundle is refused.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from deesc_model.encoding import EncoderSettings
from deesc_model.errors import BundleError
from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.scoring import LEVEL_HEADS, MISSED_HEATED_COST, Calibration, LabelCalibration

FORMAT_VERSION: Final = 4
"""The bundle format that this package writes, and the newest that it reads. The third has
`heated_from` in place of `missed_heated_cost`, the second no `level_biases`, the first neither."""

MODEL_FILE: Final = "model.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
CONFIG_FILE: Final = "config.json"
METRICS_FILE: Final = "metrics.json"
CARD_FILE: Final = "README.md"
MANIFEST_FILE: Final = "manifest.json"
HASHED_FILES: Final = (MODEL_FILE, TOKENIZER_FILE, CONFIG_FILE, METRICS_FILE, CARD_FILE)


@dataclass(frozen=True, slots=True)
class BundleConfig:
    """Contents of `config.json`.

    Attributes:
        encoder: How much of utterance and context the model reads.
        calibration: How logits become scores and labels.
    """

    encoder: EncoderSettings
    calibration: Calibration

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, the vocabulary included."""
        return {
            "format_version": FORMAT_VERSION,
            "levels": [level.label for level in Level],
            "encoder": asdict(self.encoder),
            "calibration": asdict(self.calibration),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Check and rebuild the configuration.

        Raises:
            BundleError: A field is missing, has the wrong form or names another vocabulary.
        """
        try:
            if list(data["levels"]) != [level.label for level in Level]:
                raise BundleError(f"levels {data['levels']} are not this package's")
            calibration = data["calibration"]
            head = calibration["level_head"]
            if head not in LEVEL_HEADS:
                raise BundleError(f"level_head {head!r} is none of {', '.join(LEVEL_HEADS)}")
            return cls(
                _encoder_settings(data["encoder"]),
                Calibration(
                    level_head=head,
                    temperature=_number(calibration, "temperature", 1e-3, 1e3),
                    level_biases=_level_biases(calibration.get("level_biases", ()), head),
                    certain_from=_number(calibration, "certain_from", 0, 1),
                    missed_heated_cost=_missed_heated_cost(calibration),
                    triggers=_label_calibrations(calibration["triggers"], TRIGGERS),
                    signals=_label_calibrations(calibration["signals"], SIGNALS),
                ),
            )
        except KeyError as error:
            raise BundleError(f"the field {error.args[0]!r} is missing") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"a field has the wrong form: {error}") from None


def _number(data: Mapping[str, Any], name: str, low: float, high: float) -> float:
    """Read a finite number within bounds; JSON's true and NaN are none."""
    value = data[name]
    if type(value) not in (int, float) or not low <= value <= high:
        raise BundleError(f"{name} must be a number from {low:g} to {high:g}, not {value!r:.40}")
    return float(value)


def _level_biases(values: Any, level_head: str) -> tuple[float, ...]:
    """Read one bias for each logit, or none."""
    if len(values) not in (0, LEVEL_HEADS[level_head]):
        raise BundleError(f"level_biases must be {LEVEL_HEADS[level_head]} numbers or none")
    named = {f"level_biases[{place}]": value for place, value in enumerate(values)}
    return tuple(_number(named, name, -1e3, 1e3) for name in named)


def _missed_heated_cost(calibration: Mapping[str, Any]) -> float:
    """Read what a missed heated customer costs; older formats say from what probability one is.

    Between levels 2 and 3 both mean the same.
    """
    if "heated_from" in calibration:
        return max(0.0, 1 / _number(calibration, "heated_from", 1e-3, 1) - 2)
    first_format = {"missed_heated_cost": MISSED_HEATED_COST}
    return _number({**first_format, **calibration}, "missed_heated_cost", 0, 1e3)


def _encoder_settings(data: Mapping[str, Any]) -> EncoderSettings:
    bounds = {
        "max_length": (16, 1e6),
        "context_turns": (0, 1e6),
        "context_tokens": (0, 1e6),
        "window_overlap": (0, 1e6),
    }
    for name, value in data.items():
        if name not in bounds:
            raise BundleError(f"unknown field {name!r}")
        if type(value) is not int:
            raise BundleError(f"{name} must be a whole number, not {value!r:.40}")
    settings = EncoderSettings(**{k: int(_number(data, k, *bounds[k])) for k in bounds})
    if settings.window_overlap > settings.max_length // 2:
        raise BundleError("window_overlap must be at most half of max_length")
    return settings


def _label_calibrations(
    data: Mapping[str, Mapping[str, Any]], vocabulary: Sequence[str]
) -> dict[str, LabelCalibration]:
    """Read one calibration per label; the order is that of the model's outputs."""
    if list(data) != list(vocabulary):
        difference = sorted(set(data) ^ set(vocabulary)) or ["the order"]
        raise BundleError(f"labels differ from this package's vocabulary: {', '.join(difference)}")
    return {
        label: LabelCalibration(
            slope=_number(data[label], "slope", 0, 1e6),
            intercept=_number(data[label], "intercept", -1e6, 1e6),
            threshold=_number(data[label], "threshold", 0, 1),
        )
        for label in vocabulary
    }


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of `manifest.json`: what the bundle is and where it comes from.

    Attributes:
        name: Name of the model, for example ``"deesc-minilm"``.
        format_version: Bundle format.
        base_model: The pre-trained encoder that was fine-tuned.
        training_run: Id of the MLflow run, or ``"untracked"``.
        git_commit: Commit that trained it, with ``+changes`` if the tree was not clean.
        data_fingerprint: sha256 over the data of every split.
        weights: Precision of the weights, for example ``"int8"``.
        files: sha256 of every other file of the bundle, by file name.
    """

    name: str
    format_version: int
    base_model: str
    training_run: str
    git_commit: str
    data_fingerprint: str
    weights: str
    files: dict[str, str]

    @property
    def model_version(self) -> str:
        """Name and the first 8 digits of the sha256 over all files' hashes."""
        joined = "".join(f"{name}:{self.files[name]}\n" for name in sorted(self.files))
        return f"{self.name}@{hashlib.sha256(joined.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read and verified.

    Attributes:
        path: Its folder.
        manifest: What it is.
        config: How to use it.
        metrics: Contents of `metrics.json`.
    """

    path: Path
    manifest: Manifest
    config: BundleConfig
    metrics: dict[str, Any]

    @property
    def model_path(self) -> Path:
        """Path of the ONNX file."""
        return self.path / MODEL_FILE

    @property
    def tokenizer_path(self) -> Path:
        """Path of `tokenizer.json`."""
        return self.path / TOKENIZER_FILE


def default_bundle_path() -> Path:
    """Return the shipped bundle: in the installed package, or `models/default` of a checkout."""
    packaged = Path(__file__).parent / "default_bundle"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "models" / "default"


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_bundle(path: Path) -> Bundle:
    """Read a bundle folder and verify it.

    Raises:
        BundleError: The folder or a file is missing, a hash differs from the manifest, the
            format is newer than this package, or a field is wrong. The message names the
            file and the cause.
    """
    if not path.is_dir():
        raise BundleError(f"no bundle at {path}: the folder does not exist")
    manifest = _read_manifest(path)
    for name in HASHED_FILES:
        if not (path / name).is_file():
            raise BundleError(f"{path / name} is missing; copy the bundle again")
        expected = manifest.files.get(name)
        if expected is None:
            raise BundleError(f"{path / MANIFEST_FILE} holds no sha256 for {name}")
        try:
            found = file_sha256(path / name)
        except OSError as error:
            raise BundleError(f"{path / name} cannot be read: {error.strerror}") from None
        if found != expected:
            raise BundleError(
                f"{path / name} was changed or damaged: its sha256 is not the manifest's;"
                " copy the bundle again"
            )
    try:
        config = BundleConfig.from_dict(_read_json(path / CONFIG_FILE))
    except BundleError as error:
        raise BundleError(f"{path / CONFIG_FILE}: {error}") from None
    return Bundle(path, manifest, config, _read_json(path / METRICS_FILE))


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST_FILE
    data = _read_json(file)
    version = data.get("format_version")
    if not isinstance(version, int):
        raise BundleError(f"{file}: format_version must be a whole number, not {version!r}")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{file}: bundle format {version} is newer than the {FORMAT_VERSION} that this"
            " package reads; install a newer one"
        )
    if not isinstance(data.get("files"), dict):
        raise BundleError(f"{file}: files must map file names to sha256")
    try:
        return Manifest(**data)
    except TypeError as error:
        raise BundleError(f"{file}: {error}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path} is missing; copy the bundle again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(data, dict):
        raise BundleError(f"{path} must hold a JSON object")
    return data

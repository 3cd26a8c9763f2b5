"""A bundle's folder: written beside its place, read back, and put there in one step."""

import ctypes
import json
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deesc_model.bundle import (
    CARD_FILE,
    CONFIG_FILE,
    FORMAT_VERSION,
    HASHED_FILES,
    MANIFEST_FILE,
    METRICS_FILE,
    BundleConfig,
    Manifest,
    file_sha256,
    read_bundle,
)
from deesc_model.encoding import InputEncoder
from deesc_model.errors import DeescError
from deesc_model.scoring import Calibration


@dataclass(frozen=True, slots=True)
class ExportedNetwork:
    """An ONNX file that passed every check of `training.export`.

    Attributes:
        path: The file, in the staging folder beside its tokenizer.
        weights: Precision, ``"int8"`` or gentler.
        calibration: Fitted on validation with this very file.
        encoder: The exported tokenizer.
        quantization_loss: Macro-F1 that the weights lose on validation against fp32, by metric.
    """

    path: Path
    weights: str
    calibration: Calibration
    encoder: InputEncoder
    quantization_loss: dict[str, float]


def write_bundle(
    network: ExportedNetwork,
    target: Path,
    *,
    report: dict[str, Any],
    card: str,
    origin: dict[str, str],
) -> Manifest:
    """Complete the staging folder and put it in the place of `target` in one step.

    Args:
        network: What `export_network` returned; its folder becomes the bundle.
        target: The bundle folder; an old bundle there is replaced, and stays whole if this
            is interrupted.
        report: Goes into `metrics.json`, with what the weights lost to quantisation.
        card: Goes into `README.md`.
        origin: The manifest's name, base_model, training_run, git_commit, data_fingerprint.

    Raises:
        BundleError: The finished folder does not read back.
        DeescError: `target` holds something that is not a bundle.
    """
    check_replaceable(target)
    staging = network.path.parent
    config = BundleConfig(network.encoder.settings, network.calibration)
    metrics = {**report, "quantization_loss": network.quantization_loss}
    for name, content in ((CONFIG_FILE, config.to_dict()), (METRICS_FILE, metrics)):
        (staging / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (staging / CARD_FILE).write_text(card, encoding="utf-8")
    manifest = Manifest(
        **origin,
        format_version=FORMAT_VERSION,
        weights=network.weights,
        files={name: file_sha256(staging / name) for name in HASHED_FILES},
    )
    manifest_json = json.dumps(asdict(manifest), indent=1) + "\n"
    (staging / MANIFEST_FILE).write_text(manifest_json, encoding="utf-8")
    read_bundle(staging)
    replace_folder(staging, target)
    return manifest


def check_replaceable(target: Path) -> None:
    """Refuse a target that holds anything but a bundle, since writing there deletes it.

    Raises:
        DeescError: `target` is a file, or a folder with content and without a manifest.
    """
    if target.is_dir() and (not any(target.iterdir()) or (target / MANIFEST_FILE).is_file()):
        return
    if target.exists():
        raise DeescError(
            f"{target} is not a bundle and would be deleted; choose another bundle_dir"
        )


def replace_folder(source: Path, target: Path) -> None:
    """Put a folder in the place of another in one step, so that a kill leaves the old or the new.

    Plain rename cannot replace a folder that is not empty. Linux swaps the two names
    (renameat2(2), RENAME_EXCHANGE); elsewhere two renames leave an instant in between, in
    which the old folder stands beside as ``.old``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    retired = source
    if not target.exists():
        source.rename(target)
    elif not _exchange(source, target):
        retired = target.with_name(target.name + ".old")
        shutil.rmtree(retired, ignore_errors=True)
        target.rename(retired)
        source.rename(target)
    shutil.rmtree(retired, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap the names of two folders; False where the system or file system cannot."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return swap is not None and swap(here, bytes(first), here, bytes(second), exchange) == 0

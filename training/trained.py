"""A trained network to learn from: the checkpoint of a finished run, or a bundle."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from deesc_model.bundle import MANIFEST_FILE, Bundle, read_bundle
from deesc_model.encoding import EncoderSettings
from deesc_model.errors import DeescError
from training.model import SETTINGS_FILE, WEIGHTS_FILE, EscalationModel, load_checkpoint
from training.warm_start import bundle_model, packed_tokenizer

CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Trained:
    """Where a trained network lies, and what it decides for one that learns from it.

    Attributes:
        weights: File of its weights.
        decides: Keys of the configuration and their values: base model, level head, and how much
            is read.
        held_out_source: The public source that it is sure not to have learned from; empty for none.
        bundle: The bundle that it is, or None for a run.
    """

    weights: Path
    decides: dict[str, Any]
    held_out_source: str
    bundle: Bundle | None

    def load(self) -> tuple[EscalationModel, PreTrainedTokenizerBase]:
        """Return the network in evaluation mode, and its tokenizer.

        Raises:
            DeescError: The bundle is of a kind that cannot be taken apart.
        """
        if self.bundle:
            return bundle_model(self.bundle), packed_tokenizer(self.bundle)
        model, tokenizer, _ = load_checkpoint(self.weights.parent)
        return model, tokenizer


def find_trained(folder: Path) -> Trained:
    """Return the trained network in a folder.

    Args:
        folder: A bundle, or the run folder of a finished run.

    Raises:
        BundleError: The bundle is damaged.
        DeescError: It is neither.
    """
    if (folder / MANIFEST_FILE).is_file():
        bundle = read_bundle(folder)
        head = bundle.config.calibration.level_head
        decides = _decides(bundle.manifest.base_model, head, bundle.config.encoder)
        return Trained(bundle.model_path, decides, "", bundle)
    checkpoint = folder / CHECKPOINT
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        base = config.get("pretrained", config["base_model"])  # not the bundle that it began as
        held_out = config.get("held_out_source", "")
        about = json.loads((checkpoint / SETTINGS_FILE).read_text(encoding="utf-8"))
        decides = _decides(base, about["level_head"], EncoderSettings(**about["encoder"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeescError(
            f"teacher {str(folder)!r} is not the folder of a finished run ({error}), nor a bundle;"
            " train one with python -m training.train and name its run_dir"
        ) from None
    return Trained(checkpoint / WEIGHTS_FILE, decides, held_out, None)


def _decides(base_model: str, level_head: str, settings: EncoderSettings) -> dict[str, Any]:
    return {"base_model": base_model, "level_head": level_head, **asdict(settings)}

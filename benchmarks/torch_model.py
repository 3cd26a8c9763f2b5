"""The torch model: from the network's weights to a checkpoint, and behind a pipeline."""

from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from benchmarks.contenders import Separator
from deesc_model.bundle import Bundle
from deesc_model.labels import Level
from training.model import EscalationModel, load_checkpoint, save_checkpoint
from training.warm_start import network_to_torch, packed_tokenizer


def write_checkpoint(network: Path, bundle: Bundle, folder: Path) -> None:
    """Write a bundle's network in fp32 as a checkpoint.

    Args:
        network: ONNX file of `training.bundle_network.float_network`.
        bundle: What it was taken from.
        folder: Where to write.

    Raises:
        DeescError: As `training.warm_start.network_to_torch` says.
    """
    model = network_to_torch(network, bundle.config.calibration.level_head)
    save_checkpoint(model, packed_tokenizer(bundle), bundle.config.encoder, folder)


class _LevelClassifier(PreTrainedModel):
    """The model with the interface that a text-classification pipeline expects."""

    _supports_sdpa = True  # as the encoder does, or the pipeline would not be given it so

    def __init__(self, model: EscalationModel, separator: Separator) -> None:
        super().__init__(model.encoder.config)
        self.model = model
        self.separator = separator
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave the weights as they are."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput:
        """Return the level logits; the heads see what is neither context nor padding."""
        utterance = self.separator.utterance_mask(input_ids, attention_mask)
        found = self.model(input_ids, attention_mask, utterance)
        return SequenceClassifierOutput(logits=found["level_logits"])


def text_classification(checkpoint: Path, *, compiled: bool) -> transformers.Pipeline:
    """Return a text-classification pipeline with the levels as labels.

    Args:
        checkpoint: Folder of `training.model.save_checkpoint`.
        compiled: In bf16 through `torch.compile` with changing shapes; otherwise fp32.
    """
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)  # a class it does not know
    model, tokenizer, _ = load_checkpoint(checkpoint)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    # Eager attention is for the export; who serves with torch takes the default.
    if model.encoder._supports_sdpa:
        model.encoder.set_attn_implementation("sdpa")
    model.encoder.config.id2label = {int(level): str(int(level)) for level in Level}
    separator = Separator.of(tokenizer.backend_tokenizer)
    wrapped = _LevelClassifier(model, separator).eval()
    if compiled:
        wrapped = wrapped.bfloat16()
        wrapped.compile(dynamic=True)
    return transformers.pipeline(
        "text-classification", model=wrapped, tokenizer=tokenizer, device="cpu"
    )

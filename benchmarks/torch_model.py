"""The torch model: from the network's weights to a checkpoint, and behind a pipeline."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
import transformers
from tokenizers import Tokenizer
from torch import Tensor
from transformers import (
    AutoConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from benchmarks.contenders import Separator, pad_token
from benchmarks.weights import encoder_options, state_of
from deesc_model.bundle import BundleConfig
from deesc_model.encoding import INPUT_NAMES
from deesc_model.labels import Level
from training.model import EscalationModel, load_checkpoint, new_encoder, save_checkpoint

TOLERANCE = 1e-3
"""Largest difference between a logit of torch and of onnxruntime, both in fp32."""


def write_checkpoint(network: Path, tokenizer: Path, bundle: BundleConfig, folder: Path) -> None:
    """Write a network in fp32 as a checkpoint, and check that both say the same.

    Args:
        network: ONNX file of `benchmarks.weights.float_network`.
        tokenizer: `tokenizer.json` of the bundle.
        bundle: How much the model reads, and which level head it has.
        folder: Where to write.

    Raises:
        ValueError: The torch model's logits are others: its architecture was misread.
    """
    graph = onnx.load(network)
    config = AutoConfig.for_model(**encoder_options(graph))
    model = EscalationModel(new_encoder(config), bundle.calibration.level_head).eval()
    state = {name: torch.from_numpy(array.copy()) for name, array in state_of(graph).items()}
    model.load_state_dict(state)
    _check(model, network)
    save_checkpoint(model, _wrapped(tokenizer), bundle.encoder, folder)


def _wrapped(path: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer as transformers has it; what its special tokens are called varies."""
    tokenizer = Tokenizer.from_file(str(path))
    first, *_, last = tokenizer.encode("hello").tokens
    unknown = json.loads(path.read_text(encoding="utf-8"))["model"]["unk_token"]
    return PreTrainedTokenizerFast(
        tokenizer_file=str(path),
        cls_token=first,
        sep_token=last,
        pad_token=pad_token(tokenizer),
        unk_token=unknown,
    )


def _check(model: EscalationModel, network: Path) -> None:
    tokens = np.arange(1000, 1036, dtype=np.int64).reshape(2, 18)
    arrays = dict.fromkeys(INPUT_NAMES, np.ones_like(tokens)) | {INPUT_NAMES[0]: tokens}
    with torch.inference_mode():
        found = model(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    session = ort.InferenceSession(network, providers=["CPUExecutionProvider"])
    for name, expected in zip(found, session.run(list(found), arrays), strict=True):
        difference = float(np.abs(found[name].numpy() - expected).max())
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{name} of the torch model differs by {difference:.1e} from {network}: it has"
                " another architecture than benchmarks/weights.py reads from the graph"
            )


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

"""The network: an encoder, an attention for each label over the utterance, and the losses."""

import inspect
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_model, save_model
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from deesc_model.bundle import MANIFEST_FILE
from deesc_model.encoding import EncoderSettings, InputEncoder
from deesc_model.errors import DeescError
from deesc_model.labels import SIGNALS, TRIGGERS
from deesc_model.scoring import LEVEL_HEADS
from training.base_model import resolve_base_model

WEIGHTS_FILE = "model.safetensors"
SETTINGS_FILE = "deesc.json"


@dataclass(frozen=True)
class LossWeights:
    """How much each kind of mistake counts.

    Attributes:
        levels: One weight per level, mean about 1.
        triggers: Weight of a positive example, one per trigger type.
        signals: Weight of a positive example, one per signal.
        trigger_loss: Weight of the trigger loss beside the level loss.
        signal_loss: Weight of the signal loss beside the level loss.
    """

    levels: tuple[float, ...]
    triggers: tuple[float, ...]
    signals: tuple[float, ...]
    trigger_loss: float
    signal_loss: float


class LabelAttention(nn.Module):
    """Heads of which every output has its own weights over the tokens.

    An insult at the end of a long letter decides about abuse and says nothing about the cause;
    a mean over all tokens would dilute it. Before training the weights are even, which is that
    mean. Source: Mullenbach et al., Explainable Prediction of Medical Codes from Clinical
    Text, 2018.

    Args:
        width: Size of a token's vector.
        outputs: Number of logits.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, outputs, bias=False)
        self.value = nn.Linear(width, outputs)
        nn.init.zeros_(self.query.weight)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return logits, float (batch, outputs).

        Args:
            hidden: float (batch, sequence, width).
            mask: bool (batch, sequence, 1), true on the tokens that may count.
        """
        scores = self.query(hidden)
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)  # autocast: not hidden's
        return (scores.softmax(dim=1) * self.value(hidden)).sum(dim=1)


class EscalationModel(nn.Module):
    """Encoder with level, trigger and signal heads on one utterance.

    The encoder attends to utterance and context; the heads see only the utterance's tokens, so
    the context informs the labels without diluting them.
    """

    def __init__(
        self,
        encoder: nn.Module,
        level_head: str,
        dropout: float = 0.1,
        loss_weights: LossWeights | None = None,
    ) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.level_head = level_head
        self.dropout = nn.Dropout(dropout)
        self._widths = [LEVEL_HEADS[level_head], len(TRIGGERS), len(SIGNALS)]
        self.heads = LabelAttention(width, sum(self._widths))
        self.loss_weights = loss_weights
        self._has_segments = getattr(encoder.config, "type_vocab_size", 0) > 1

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        utterance_mask: Tensor,
        levels: Tensor | None = None,
        trigger_targets: Tensor | None = None,
        signal_targets: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return logits, and the loss if targets are given.

        Args:
            input_ids: int64 (batch, sequence).
            attention_mask: int64 (batch, sequence), 0 on padding.
            utterance_mask: int64 (batch, sequence), 1 on what the heads see.
            levels: int64 (batch,), 0–4.
            trigger_targets: float (batch, 11), 0 or 1.
            signal_targets: float (batch, 5), 0 or 1.
        """
        output = self.split_logits(self.all_logits(input_ids, attention_mask, utterance_mask))
        if levels is None or trigger_targets is None or signal_targets is None:
            return output
        return {"loss": self._loss(output, levels, trigger_targets, signal_targets)} | output

    def all_logits(
        self, input_ids: Tensor, attention_mask: Tensor, utterance_mask: Tensor
    ) -> Tensor:
        """Return all logits side by side, float (batch, outputs)."""
        hidden = self._encode(input_ids, attention_mask, utterance_mask).last_hidden_state
        return self._label(hidden, utterance_mask)

    def with_states(
        self, input_ids: Tensor, attention_mask: Tensor, utterance_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return all logits side by side, and what each layer makes of the utterance.

        Returns:
            float (batch, outputs), and float (batch, layers, width): the mean of each layer's
            output over the utterance's tokens, from the lowest layer up.
        """
        output = self._encode(input_ids, attention_mask, utterance_mask, output_hidden_states=True)
        mask = utterance_mask[:, None, :, None]
        states = torch.stack(output.hidden_states[1:], dim=1)  # the first are the embeddings
        means = (states * mask).sum(dim=2) / mask.sum(dim=2)
        return self._label(output.last_hidden_state, utterance_mask), means

    def split_logits(self, logits: Tensor) -> dict[str, Tensor]:
        """Return logits that stand side by side as those of each kind of label."""
        level, triggers, signals = logits.split(self._widths, dim=1)
        return {"level_logits": level, "trigger_logits": triggers, "signal_logits": signals}

    def _encode(
        self, input_ids: Tensor, attention_mask: Tensor, utterance_mask: Tensor, **options: bool
    ) -> Any:
        segments = {"token_type_ids": 1 - utterance_mask} if self._has_segments else {}
        return self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, **segments, **options
        )

    def _label(self, hidden: Tensor, utterance_mask: Tensor) -> Tensor:
        if self.training:  # the same features are dropped for all tokens, or a mean would heal it
            hidden = hidden * self.dropout(torch.ones_like(hidden[:, :1]))
        return self.heads(hidden, utterance_mask.unsqueeze(-1).bool())

    def _loss(
        self, output: dict[str, Tensor], levels: Tensor, triggers: Tensor, signals: Tensor
    ) -> Tensor:
        weights = self.loss_weights
        if weights is None:
            raise ValueError("loss_weights are needed to train")
        level_weights = torch.tensor(weights.levels, device=levels.device)
        level_logits = output["level_logits"].float()
        if self.level_head == "corn":
            level_loss = corn_loss(level_logits, levels, level_weights)
        else:
            level_loss = functional.cross_entropy(level_logits, levels, weight=level_weights)
        trigger_loss = functional.binary_cross_entropy_with_logits(
            output["trigger_logits"].float(),
            triggers,
            pos_weight=torch.tensor(weights.triggers, device=levels.device),
        )
        signal_loss = functional.binary_cross_entropy_with_logits(
            output["signal_logits"].float(),
            signals,
            pos_weight=torch.tensor(weights.signals, device=levels.device),
        )
        return level_loss + weights.trigger_loss * trigger_loss + weights.signal_loss * signal_loss


def corn_loss(logits: Tensor, levels: Tensor, level_weights: Tensor | None = None) -> Tensor:
    """Return the CORN loss, optionally weighted by class.

    Logit k predicts whether the level is above k, and learns only from examples whose level
    is at least k. Source: Shi, Cao and Raschka, 2021 (see `deesc_model.scoring`); without
    weights it equals `coral_pytorch.losses.corn_loss`.

    Args:
        logits: float (batch, 4).
        levels: int64 (batch,), 0–4.
        level_weights: float (5,); None weighs all levels alike.
    """
    steps = torch.arange(logits.shape[1], device=logits.device)
    above = (levels.unsqueeze(1) > steps).to(logits.dtype)
    counts = (levels.unsqueeze(1) >= steps).to(logits.dtype)
    if level_weights is not None:
        counts = counts * level_weights[levels].unsqueeze(1)
    losses = functional.binary_cross_entropy_with_logits(logits, above, reduction="none")
    return (losses * counts).sum() / counts.sum()


def load_base(base_model: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a pre-trained encoder without a pooling layer, and its tokenizer.

    Raises:
        DeescError: There is no such model, or it is not an encoder that transformers can load
            whole, or a bundle.
    """
    if (Path(base_model) / MANIFEST_FILE).is_file():
        raise DeescError(
            f"base_model {base_model!r} is a bundle, which has learned the labels: only training"
            " can begin with it"
        )
    source = resolve_base_model(base_model)
    transformers.logging.set_verbosity_error()  # it reports the pooling layer that we leave out
    transformers.logging.disable_progress_bar()
    try:
        encoder, found = AutoModel.from_pretrained(
            source, output_loading_info=True, **_encoder_options(AutoConfig.from_pretrained(source))
        )
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise DeescError(f"cannot load base_model {base_model!r}: {error}") from None
    if missing := sorted(found["missing_keys"]):
        raise DeescError(
            f"base_model {base_model!r} lacks weights of its own encoder, {missing[0]} for one;"
            " is it a checkpoint of this project? Those are for evaluation, not to start from"
        )
    return encoder, tokenizer


def new_model(
    base_model: str, level_head: str, dropout: float, loss_weights: LossWeights
) -> tuple[EscalationModel, PreTrainedTokenizerBase]:
    """Return a model with a pre-trained encoder and fresh heads, and its tokenizer.

    Raises:
        DeescError: As `load_base` says.
    """
    encoder, tokenizer = load_base(base_model)
    return EscalationModel(encoder, level_head, dropout, loss_weights), tokenizer


def _encoder_options(config: PretrainedConfig) -> dict[str, Any]:
    """Eager attention, which exports to ONNX, fp32, and no pooling layer where there is one."""
    options: dict[str, Any] = {"attn_implementation": "eager", "dtype": torch.float32}
    if "add_pooling_layer" in inspect.signature(MODEL_MAPPING[type(config)].__init__).parameters:
        options["add_pooling_layer"] = False
    return options


def new_encoder(config: PretrainedConfig) -> PreTrainedModel:
    """Return an encoder with random weights, as a checkpoint holds it."""
    return AutoModel.from_config(config, **_encoder_options(config))


def encoder_layers(encoder: nn.Module) -> nn.ModuleList:
    """Return the layers of an encoder, from below."""
    return next(part for part in encoder.modules() if isinstance(part, nn.ModuleList))


def longest_input(encoder: nn.Module, unbounded: int) -> int:
    """Return how many tokens an encoder reads at most.

    Args:
        encoder: A pre-trained one.
        unbounded: What to return if it has no such bound.
    """
    positions: int = getattr(encoder.config, "max_position_embeddings", unbounded)
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return positions if padding is None else positions - padding - 1  # counted from after padding


def freeze_blocks(model: EscalationModel, count: int) -> None:
    """Leave the lowest blocks of the encoder as they came: the embeddings, then layers from below.

    A step does not go back through them, so each layer saves a tenth of the time; and words that
    the training texts lack keep their place among those that they have.

    Args:
        model: Changed in place.
        count: 0 trains everything, 1 freezes the embeddings, 2 the first layer too, and so on.

    Raises:
        DeescError: The encoder has fewer blocks.
    """
    blocks = [model.encoder.embeddings, *encoder_layers(model.encoder)]
    if count > len(blocks):
        raise DeescError(f"frozen_blocks {count}: the encoder has {len(blocks)} blocks")
    for block in blocks[:count]:
        block.requires_grad_(False)
    if count > 1:
        # What layers share, as the places of tokens in MPNet and DeBERTa: learning, it would
        # change frozen layers too, and lead each step back through them.
        inside = {id(value) for block in blocks for value in block.parameters()}
        for name, value in model.encoder.named_parameters():
            if id(value) not in inside and not name.startswith("final_norm"):
                value.requires_grad_(False)


def set_encoder_dropout(model: EscalationModel, dropout: float) -> None:
    """Set every dropout inside of the encoder.

    Base models come with 0.1. On a CPU drawing the masks takes a good part of each
    step, and a few epochs of fine-tuning do without.
    """
    for module in model.encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout


def input_encoder(tokenizer: PreTrainedTokenizerBase, settings: EncoderSettings) -> InputEncoder:
    """Return the encoder that training and the bundle share."""
    return InputEncoder(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), settings)


def save_checkpoint(
    model: EscalationModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: EncoderSettings,
    folder: Path,
) -> None:
    """Write weights (safetensors only), encoder config, tokenizer and settings."""
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, str(folder / WEIGHTS_FILE))
    model.encoder.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    about = {"level_head": model.level_head, "encoder": asdict(settings)}
    (folder / SETTINGS_FILE).write_text(json.dumps(about, indent=1), encoding="utf-8")


def load_checkpoint(
    folder: Path,
) -> tuple[EscalationModel, PreTrainedTokenizerBase, EncoderSettings]:
    """Load what `save_checkpoint` wrote; the model is in evaluation mode.

    Raises:
        DeescError: The folder holds no checkpoint.
    """
    if not (folder / SETTINGS_FILE).is_file():
        raise DeescError(f"no checkpoint in {folder}: {SETTINGS_FILE} is missing")
    about = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    encoder = new_encoder(AutoConfig.from_pretrained(folder))
    model = EscalationModel(encoder, about["level_head"])
    load_model(model, str(folder / WEIGHTS_FILE))
    return (
        model.eval(),
        AutoTokenizer.from_pretrained(folder),
        EncoderSettings(**about["encoder"]),
    )

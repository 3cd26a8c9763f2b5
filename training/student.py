"""A student: a network with fewer layers, that learns from a teacher too."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from deesc_model.errors import DeescError
from training.model import EscalationModel, LossWeights, encoder_layers, new_encoder


@dataclass(frozen=True)
class DistillationWeights:
    """How much a student heeds its teacher.

    Attributes:
        soft_share: Weight 0–1 of the distance to the teacher's logits; the rest is the loss on
            gold labels.
        temperature: What logits are divided by before they are compared, above 0.
        state: Weight of the angle between the student's layers and the teacher's.
    """

    soft_share: float
    temperature: float
    state: float


class StudentModel(EscalationModel):
    """The network with one more loss: the distance to what a teacher answered.

    Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015; with
    the layers' states, Sun et al., Patient Knowledge Distillation for BERT, 2019.
    """

    def __init__(
        self,
        encoder: nn.Module,
        level_head: str,
        dropout: float,
        loss_weights: LossWeights,
        distillation: DistillationWeights,
    ) -> None:
        super().__init__(encoder, level_head, dropout, loss_weights)
        self.distillation = distillation

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        utterance_mask: Tensor,
        levels: Tensor | None = None,
        trigger_targets: Tensor | None = None,
        signal_targets: Tensor | None = None,
        labelled: Tensor | None = None,
        teacher_logits: Tensor | None = None,
        teacher_states: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return logits, and the loss if targets are given; without a teacher's as it always is.

        Args:
            input_ids: int64 (batch, sequence).
            attention_mask: int64 (batch, sequence), 0 on padding.
            utterance_mask: int64 (batch, sequence), 1 on what the heads see.
            levels: int64 (batch,), 0–4.
            trigger_targets: float (batch, 11), 0 or 1.
            signal_targets: float (batch, 5), 0 or 1.
            labelled: bool (batch,), false where the three targets say nothing.
            teacher_logits: float (batch, outputs), as `with_states` returns them.
            teacher_states: float (batch, layers, width), of the layers that the student has;
                with a weight of 0 not read.
        """
        if (
            levels is None
            or trigger_targets is None
            or signal_targets is None
            or labelled is None
            or teacher_logits is None
            or teacher_states is None
        ):
            return super().forward(
                input_ids, attention_mask, utterance_mask, levels, trigger_targets, signal_targets
            )
        logits, states = self.with_states(input_ids, attention_mask, utterance_mask)
        weights = self.distillation
        loss = weights.soft_share * self._distance(logits, teacher_logits)
        if weights.state:
            angle = (1 - functional.cosine_similarity(states, teacher_states, dim=-1)).mean()
            loss = loss + weights.state * angle
        if weights.soft_share < 1 and labelled.any():
            gold = (levels[labelled], trigger_targets[labelled], signal_targets[labelled])
            task = self._loss(self.split_logits(logits[labelled]), *gold)
            loss = loss + (1 - weights.soft_share) * task
        return {"loss": loss} | self.split_logits(logits)

    def _distance(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """Return the weighted distances of the three kinds of label."""
        temperature = self.distillation.temperature
        mine, theirs = (self.split_logits(part.float() / temperature) for part in (logits, teacher))
        of_levels = binary_divergence if self.level_head == "corn" else divergence
        level = of_levels(mine["level_logits"], theirs["level_logits"])
        trigger = binary_divergence(mine["trigger_logits"], theirs["trigger_logits"])
        signal = binary_divergence(mine["signal_logits"], theirs["signal_logits"])
        weights = self.loss_weights
        if weights is None:
            raise ValueError("loss_weights are needed to train")
        # Gradients shrink with the square of the temperature.
        return temperature**2 * (
            level + weights.trigger_loss * trigger + weights.signal_loss * signal
        )


def divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence from the teacher's distribution over classes.

    Args:
        logits: float (batch, classes).
        teacher: float (batch, classes).
    """
    return functional.kl_div(
        logits.log_softmax(dim=1),
        teacher.log_softmax(dim=1),
        log_target=True,
        reduction="batchmean",
    )


def binary_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence of labels that are there or not.

    Args:
        logits: float (batch, labels).
        teacher: float (batch, labels).
    """
    there = functional.logsigmoid(teacher) - functional.logsigmoid(logits)
    absent = functional.logsigmoid(-teacher) - functional.logsigmoid(-logits)
    chance = teacher.sigmoid()
    return (chance * there + (1 - chance) * absent).mean()


def make_student(
    teacher: EscalationModel,
    layers: Sequence[int],
    dropout: float,
    loss_weights: LossWeights,
    distillation: DistillationWeights,
) -> StudentModel:
    """Return a student that starts as some layers of its teacher.

    Args:
        teacher: Not changed.
        layers: Which of its layers, counted from 1, from below.
        dropout: Dropout before the heads, 0–1.
        loss_weights: As for `EscalationModel`.
        distillation: How much it heeds the teacher.

    Raises:
        DeescError: The teacher lacks one of the layers, or they do not rise, or its layers are not
            alike, so that a checkpoint of some of them could not be read.
    """
    encoder = copy.deepcopy(teacher.encoder)
    stack = encoder_layers(encoder)
    if not layers or list(layers) != sorted(set(layers) & set(range(1, len(stack) + 1))):
        raise DeescError(
            f"student_layers must be numbers from 1 to {len(stack)}, the teacher's layers, in"
            f" rising order, not {list(layers)}"
        )
    chosen = [stack[number - 1] for number in layers]
    del stack[:]
    stack.extend(chosen)
    encoder.config.num_hidden_layers = len(chosen)
    if kinds := getattr(encoder.config, "layer_types", None):
        encoder.config.layer_types = [kinds[number - 1] for number in layers]
    try:
        new_encoder(encoder.config).load_state_dict(encoder.state_dict())
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise DeescError(
            f"layers {list(layers)} of this encoder are no encoder of their own: {reason}"
        ) from None
    student = StudentModel(encoder, teacher.level_head, dropout, loss_weights, distillation)
    student.heads.load_state_dict(teacher.heads.state_dict())
    return student

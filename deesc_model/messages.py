"""Between the package's types and the messages of `deesc.v1`; client and server share it."""

from collections.abc import Sequence
from typing import Final

from deesc_model._proto import escalation_pb2 as pb
from deesc_model.labels import SIGNALS, SPEAKERS, TRIGGERS, Level
from deesc_model.types import Prediction, Turn

SPEAKER_NAMES: Final[dict[int, str]] = {
    pb.SPEAKER_UNSPECIFIED: "customer",
    **{pb.Speaker.Value(f"SPEAKER_{name.upper()}"): name for name in SPEAKERS},
}
"""Speaker by its number on the wire."""


def turn_message(turn: Turn) -> pb.Turn:
    """Return a turn as a message."""
    return pb.Turn(speaker=f"SPEAKER_{turn.speaker.upper()}", text=turn.text)


def predict_request(utterance: Turn, context: Sequence[Turn]) -> pb.PredictRequest:
    """Return an utterance and the turns before it as a message."""
    return pb.PredictRequest(
        utterance=turn_message(utterance), context=[turn_message(turn) for turn in context]
    )


def prediction_message(prediction: Prediction) -> pb.Prediction:
    """Return a prediction as a message; nothing is rounded."""
    return pb.Prediction(
        level=pb.Level.Name(prediction.level),
        level_scores=prediction.level_scores,
        frustration=prediction.frustration,
        uncertain=prediction.uncertain,
        triggers=prediction.triggers,
        trigger_scores=prediction.trigger_scores,
        signals=prediction.signals,
        signal_scores=prediction.signal_scores,
        model_version=prediction.model_version,
    )


def read_prediction(message: pb.Prediction) -> Prediction:
    """Rebuild a prediction; labels that this package does not know are left out."""
    return Prediction(
        level=Level(message.level),
        level_scores=tuple(message.level_scores),
        frustration=message.frustration,
        uncertain=message.uncertain,
        triggers=tuple(name for name in message.triggers if name in TRIGGERS),
        trigger_scores={name: message.trigger_scores[name] for name in TRIGGERS},
        signals=tuple(name for name in message.signals if name in SIGNALS),
        signal_scores={name: message.signal_scores[name] for name in SIGNALS},
        model_version=message.model_version,
    )

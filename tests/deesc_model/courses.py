"""Predictions made by hand, for conversations that need no model."""

from collections.abc import Mapping, Sequence

from deesc_model import SIGNALS, TRIGGERS, Level, Prediction


def prediction(
    level: int = 0,
    triggers: Sequence[str] = (),
    signals: Sequence[str] = (),
    scores: Sequence[float] | None = None,
    trigger_scores: Mapping[str, float] | None = None,
) -> Prediction:
    levels = tuple(scores) if scores else tuple(float(k == level) for k in range(5))
    found = {name: float(name in triggers) for name in TRIGGERS} | dict(trigger_scores or {})
    return Prediction(
        level=Level(level),
        level_scores=levels,
        frustration=sum(k * score for k, score in enumerate(levels)),
        uncertain=False,
        triggers=tuple(name for name in TRIGGERS if name in triggers),
        trigger_scores=found,
        signals=tuple(name for name in SIGNALS if name in signals),
        signal_scores={name: float(name in signals) for name in SIGNALS},
        model_version="by hand",
    )

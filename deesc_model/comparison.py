"""A vendor's own sentiment beside the levels of this model, for one conversation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deesc_model.labels import Level
from deesc_model.transcripts.conversation import SENTIMENTS, SpokenTurn
from deesc_model.types import Prediction

NOT_NEGATIVE: Final = ("positive", "neutral")


@dataclass(frozen=True, slots=True)
class SentimentComparison:
    """How the customer's turns fall; turns are numbered from 1.

    Attributes:
        counts: For each sentiment that occurs, how many turns have level 0 to 4.
        only_model: Turns from level 2 up that the vendor calls positive or neutral.
        only_vendor: Turns of level 0 that the vendor calls negative.
    """

    counts: Mapping[str, tuple[int, ...]]
    only_model: tuple[int, ...]
    only_vendor: tuple[int, ...]


def compare_sentiment(
    spoken: Sequence[SpokenTurn], predictions: Sequence[Prediction]
) -> SentimentComparison | None:
    """Compare turn by turn; None if no turn of the customer has a sentiment of the vendor's.

    Args:
        spoken: The turns of a conversation.
        predictions: One for each of them.
    """
    rows = [
        (number, item.vendor_sentiment, prediction.level)
        for number, (item, prediction) in enumerate(zip(spoken, predictions, strict=True), start=1)
        if item.turn.speaker == "customer" and item.vendor_sentiment is not None
    ]
    if not rows:
        return None
    counts = {
        name: tuple(sum(row[1:] == (name, level) for row in rows) for level in Level)
        for name in SENTIMENTS
        if any(row[1] == name for row in rows)
    }
    return SentimentComparison(
        counts,
        tuple(n for n, name, level in rows if level >= Level.FRUSTRATED and name in NOT_NEGATIVE),
        tuple(n for n, name, level in rows if level == Level.CALM and name == "negative"),
    )

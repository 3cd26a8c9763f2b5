"""What the challenger gained on the champion, with intervals and with what would be a loss."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.figures.picture import BLUE, ORANGE, Picture, drawing
from training.figures.whiskers import Dots, draw_whiskers

AXIS = "gained on the champion (right: better)"


def gains_picture(checks: Sequence[Mapping[str, Any]], name: str, title: str) -> Picture:
    """Draw paired differences.

    Args:
        checks: Those of a verdict that have an interval.
        name: Of the picture.
        title: Of the picture.
    """
    # “corpus, channel=chat: level_qwk gained”; what all of them say is in the title.
    names = [check["name"].partition(", ")[2].removesuffix(" gained") for check in checks]
    names = [shown.removeprefix("overall: ").replace("=", " ") for shown in names]
    bounds = [
        {"value": check["bound"], "low": check["bound"], "high": check["bound"]} for check in checks
    ]
    series = [Dots("gain", BLUE, "o", checks), Dots("lowest that passes", ORANGE, "|", bounds)]
    with drawing():
        figure = draw_whiskers(names, {AXIS: series}, {AXIS: 0.0})
    return Picture(
        name=name,
        title=title,
        reading="Both models were given the same utterances, and the same resamples of them. If a"
        " whisker, a 95 % interval, reaches over the dotted line, it is not clear who is better. A"
        " dot left of its mark is a significant loss, for which the challenger is refused; marks"
        " are further out than whiskers where many figures are judged, since one of many looks bad"
        " by chance.",
        figure=figure,
        columns=("figure", "gain", "95 % interval", "lowest that passes"),
        rows=tuple(
            (
                shown,
                f"{check['value']:+.4f}",
                f"{check['low']:+.4f} to {check['high']:+.4f}",
                f"{check['bound']:+.4f}",
            )
            for shown, check in zip(names, checks, strict=True)
        ),
    )

"""The customers' level over the turns of a conversation, true and predicted."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import pyplot as plt

from deesc_model.labels import Level
from deesc_model.scoring import IntArray
from training.corpus import ARCS, CORPUS, Utterance
from training.figures.picture import BLUE, INK, Picture

ALL = "all"
SMALLEST = 10
"""Turns of fewer conversations are left out: their mean says nothing."""


@dataclass(frozen=True, slots=True)
class CoursePoint:
    """What customers' n-th utterances have in common.

    Attributes:
        turn: n, from 1, counting the customer's turns only.
        conversations: How many conversations get so far.
        true: Mean of the true levels, 0–4.
        predicted: Mean of the predicted levels, 0–4.
        half_width: Half of the 95 % interval of `predicted` minus `true`.
    """

    turn: int
    conversations: int
    true: float
    predicted: float
    half_width: float


def course_points(rows: Sequence[Utterance], predicted: IntArray) -> dict[str, list[CoursePoint]]:
    """Return means by arc of the conversation, and for `ALL` conversations, by turn.

    Args:
        rows: n test rows; single texts and agents' turns are passed over.
        predicted: Their predicted levels, int64 (n,).
    """
    turns_of = defaultdict(list)
    for row, level in zip(rows, predicted, strict=True):
        if row.source == CORPUS and row.speaker == "customer":
            turns_of[row.conversation_id].append((row.arc, row.turn, row.level, int(level)))
    pairs: dict[str, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for turns in turns_of.values():
        for number, (arc, _, true, given) in enumerate(sorted(turns, key=lambda t: t[1]), start=1):
            for group in (ALL, arc):
                pairs[group][number].append((true, given))
    points = {
        group: [
            _point(number, np.array(found))
            for number, found in sorted(pairs[group].items())
            if len(found) >= SMALLEST
        ]
        for group in (ALL, *ARCS)
        if group in pairs
    }
    return {group: found for group, found in points.items() if found}


def _point(number: int, pairs: np.ndarray) -> CoursePoint:
    true, given = pairs.mean(axis=0)
    # Each conversation has one n-th turn, so the rows are independent of each other.
    spread = (pairs[:, 1] - pairs[:, 0]).std(ddof=1)
    return CoursePoint(number, len(pairs), true, given, 1.96 * spread / np.sqrt(len(pairs)))


def course_picture(rows: Sequence[Utterance], predicted: IntArray) -> Picture | None:
    """Draw a panel for each arc; None if no conversation is long enough to draw."""
    courses = course_points(rows, predicted)
    if not courses:
        return None
    columns = min(len(courses), 4)
    lines = -(-len(courses) // columns)
    figure, panels = plt.subplots(
        lines,
        columns,
        figsize=(2.9 * columns + 0.6, 2.7 * lines + 0.8),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes in panels.flat[len(courses) :]:
        axes.axis("off")
    for axes, (group, points) in zip(panels.flat, courses.items(), strict=False):
        turns = [point.turn for point in points]
        axes.plot(turns, [point.true for point in points], "o-", color=INK, label="true level")
        axes.errorbar(
            turns,
            [point.predicted for point in points],
            yerr=[point.half_width for point in points],
            fmt="s--",
            color=BLUE,
            markersize=5,
            label="predicted level",
        )
        axes.set_title(f"{group} (n = {points[0].conversations:,})", fontsize=10)
        axes.set(ylim=(-0.15, 4.15), xticks=turns[:: -(-len(turns) // 8)])
        axes.grid()
    panels[0][0].set_yticks(list(Level), [f"{int(level)} {level.label}" for level in Level])
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    figure.supxlabel("n-th utterance of the customer")
    return Picture(
        name="level_over_turns",
        title="Level over the turns, by how conversations go",
        reading="Means over the customers’ first, second … utterances, for conversations that go"
        " in different ways. The whisker is the 95 % interval of predicted minus true level: if it"
        " does not reach the line of true levels, the model reads such turns too hot or too calm on"
        f" the whole. Turns that fewer than {SMALLEST} conversations have are left out; fewer get"
        " far, so the right end of a panel is of other conversations than its left.",
        figure=figure,
        columns=("conversations that", "utterance", "conversations", "true", "predicted"),
        rows=tuple(
            (
                group,
                f"{point.turn}",
                f"{point.conversations:,}",
                f"{point.true:.2f}",
                f"{point.predicted:.2f} ± {point.half_width:.2f}",
            )
            for group, points in courses.items()
            for point in points
        ),
    )

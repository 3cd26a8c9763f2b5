"""All pictures of one evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

from deesc_model.scoring import Calibration, Scores, predicted_levels
from training.corpus import Utterance
from training.figures.confusion import confusion_picture
from training.figures.course import course_picture
from training.figures.coverage import coverage_picture
from training.figures.picture import Picture, drawing
from training.figures.ranking import ranking_picture
from training.figures.reliability import reliability_picture
from training.figures.slices import slices_picture
from training.metrics import gold_labels


def draw_pictures(
    rows: Sequence[Utterance],
    scores: Scores,
    calibration: Calibration,
    part: Mapping[str, Any],
) -> list[Picture]:
    """Draw what there is to see; close the pictures when they are no longer needed.

    Args:
        rows: n test rows, of the corpus or of public texts.
        scores: Their calibrated scores.
        calibration: Thresholds, and the score from which a level is certain.
        part: What was measured on these rows: the report of `training.evaluation.evaluate`, or
            what its ``public`` holds.
    """
    gold = gold_labels(rows)
    with drawing():
        pictures = (
            confusion_picture(gold, scores),
            reliability_picture(gold, scores),
            coverage_picture(gold, scores, calibration),
            ranking_picture(gold, scores, calibration),
            slices_picture(part),
            course_picture(rows, predicted_levels(scores)),
        )
    return [picture for picture in pictures if picture is not None]

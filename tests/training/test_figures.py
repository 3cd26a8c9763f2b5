"""Pictures: the numbers beside them, worked out by hand, and SVG that a page can hold."""

import dataclasses
import re

import numpy as np
import pytest
from conversations import utterance
from evaluations import answer, measured

from deesc_model.scoring import Scores
from training.figures.confusion import confusion_picture
from training.figures.course import ALL, course_picture, course_points
from training.figures.coverage import coverage_picture
from training.figures.evaluation import draw_pictures
from training.figures.picture import close_pictures, save_pictures, to_svg
from training.figures.ranking import ranking_picture
from training.figures.reliability import score_bins, share_interval
from training.figures.slices import slices_picture
from training.metrics import gold_labels


def rows_of(levels, **changes):
    return [
        utterance(conversation_id=f"c{n}", level=level, text=f"text {n}", **changes)
        for n, level in enumerate(levels)
    ]


def with_scores(levels, sure=0.8):
    """Scores of four fifths, or another share, for the levels given."""
    level = np.full((len(levels), 5), (1 - sure) / 4)
    level[np.arange(len(levels)), levels] = sure
    return Scores(level, np.zeros((len(levels), 11)), np.zeros((len(levels), 5)))


@pytest.fixture
def kept():
    """Pictures to be closed after a test."""
    pictures = []
    yield lambda picture: pictures.append(picture) or picture
    close_pictures(pictures)


def test_the_confusion_counts_true_by_predicted(kept):
    picture = kept(confusion_picture(gold_labels(rows_of([0, 0, 3])), with_scores([0, 1, 3])))
    assert picture.rows[0] == ("0 calm", "1", "1", "0", "0", "0")
    assert picture.rows[3] == ("3 angry", "0", "0", "0", "1", "0")


def test_bins_hold_the_mean_score_and_the_share_that_is_right():
    scores = np.array([0.01, 0.03, 0.90, 0.92, 1.0])
    right = np.array([False, True, True, True, False])
    (first, second, last) = score_bins(scores, right)
    assert first == pytest.approx((0.02, 0.5, 2))
    assert second == pytest.approx((0.91, 1.0, 2))  # from 13/15 to 14/15
    assert last == pytest.approx((1.0, 0.0, 1))


def test_risk_falls_with_coverage_where_scores_know_it(kept):
    scores = with_scores([0] * 10)
    scores.level[:5, 0] = 0.9  # the surer half is right
    gold = gold_labels(rows_of([0] * 5 + [1] * 5))
    picture = kept(coverage_picture(gold, scores, answer()([]).calibration))
    assert ("50 %", "0.0 %") in picture.rows
    assert ("100 %", "50.0 %") in picture.rows


def test_equally_certain_rows_are_answered_together(kept):
    gold = gold_labels(rows_of([1, 1, 0, 0]))  # in any order of theirs, half is wrong
    picture = kept(coverage_picture(gold, with_scores([0] * 4), answer()([]).calibration))
    assert {row[1] for row in picture.rows} == {"50.0 %"}


def test_the_interval_of_a_share():
    # Wilson's for 8 of 10: (0.8 + 0.19208 ± 1.96 · √(0.016 + 0.0096040)) / 1.38416
    assert share_interval(0.8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-4)
    assert share_interval(0.0, 10)[0] == 0
    assert share_interval(1.0, 10)[1] == 1


def test_a_trigger_is_shown_at_the_threshold_in_use(kept):
    rows = rows_of([0, 0, 0, 0], triggers=["billing"])
    rows[3] = utterance(triggers=[], text="none")
    scores = with_scores([0, 0, 0, 0])
    scores.triggers[:, 0] = [0.9, 0.8, 0.2, 0.6]  # two of three found, one invented
    picture = kept(ranking_picture(gold_labels(rows), scores, answer()([]).calibration))
    # By score: right, right, wrong, right: average precision (1 + 1 + 3/4) / 3.
    assert picture.rows[0] == ("billing", "3", "0.667", "0.667", "0.917")
    assert picture.rows[1] == ("delay", "0", "–", "–", "–")


def conversations(count, arc, levels):
    return [
        utterance(
            conversation_id=f"{arc}{n}",
            turn=2 * turn,
            arc=arc,
            level=level,
            text=f"{arc} {n} {turn}",
        )
        for n in range(count)
        for turn, level in enumerate(levels)
    ]


def test_courses_are_means_over_the_customers_turns_of_each_arc():
    rows = [*conversations(10, "rises", [0, 2]), *conversations(9, "calm", [1])]
    predicted = np.array([row.level for row in rows])
    predicted[1] = 4  # one of ten second turns is two levels too hot
    points = course_points(rows, predicted)
    assert set(points) == {ALL, "rises"}  # nine conversations are too few
    first, second = points["rises"]
    assert (first.turn, first.conversations, first.true, first.predicted) == (1, 10, 0, 0)
    assert first.half_width == 0
    assert (second.true, second.predicted) == pytest.approx((2, 2.2))
    # Differences: 2 and nine times 0; variance (1.8² + 9 · 0.2²) / 9 = 0.4.
    assert second.half_width == pytest.approx(1.96 * np.sqrt(0.4 / 10))
    assert points[ALL][0].conversations == 19


def test_agents_and_public_texts_have_no_course():
    rows = conversations(12, "calm", [0])
    agents = [dataclasses.replace(row, speaker="agent") for row in rows]
    public = [dataclasses.replace(row, source="xci") for row in rows]
    assert course_picture([*agents, *public], np.zeros(24, dtype=np.int64)) is None


def test_slices_have_both_models_with_intervals(kept):
    rows = [*rows_of([0, 1] * 20), *rows_of([2, 3] * 20, channel="phone")]
    missed = {row.text for row in rows if row.channel == "phone" and row.level == 3}
    part = measured(rows, baseline_wrong=missed)
    picture = kept(slices_picture(part))
    found = {row[0]: row[1:3] for row in picture.rows}
    assert found["channel: chat (40)"][0] == "1.000 (1.000 to 1.000)"
    assert found["channel: phone (40)"][1] != "1.000 (1.000 to 1.000)"


def test_every_picture_fits_a_page_and_is_written_as_png(tmp_path):
    rows = [*conversations(30, "rises", [0, 2, 3]), *conversations(30, "calm", [0, 0, 1])]
    part, candidate = measured(rows), answer()(rows)
    pictures = draw_pictures(rows, candidate.scores, candidate.calibration, part)
    assert [picture.name for picture in pictures] == [
        "confusion",
        "reliability",
        "risk_coverage",
        "precision_recall",
        "slices",
        "level_over_turns",
    ]
    page = "".join(to_svg(picture, f"f{n}") for n, picture in enumerate(pictures))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)
    assert "http" not in page
    assert "<style" not in page
    assert page.count('role="img" aria-labelledby="f') == len(pictures)
    files = save_pictures(pictures, tmp_path / "figures", "60 conversations")
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    close_pictures(pictures)

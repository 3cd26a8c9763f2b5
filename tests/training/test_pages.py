"""Pages of a run and of a verdict: what they say, and that they behave in a browser."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from conversations import utterance
from evaluations import answer, measured

from training.config import Config
from training.dataset import DataVersion
from training.descriptions import EVALUATED
from training.errors import newly_wrong, worst_errors
from training.figures.evaluation import draw_pictures
from training.figures.picture import close_pictures
from training.model_card import model_card
from training.pages.gate_page import gate_page
from training.pages.parts import judgement
from training.pages.run_page import run_page
from training.report_tables import format_report
from training.run_note import run_note

LONG = "far " * 3000 + "end"
HOSTILE = '<script>alert("x")</script> & <img src=https://example.org/x.png>'
DATA = [DataVersion("test", "corpus", 80, 80, "0123456789abcdef")]
CHROMIUM = Path("/usr/bin/chromium")
NARROW = {"width": 375, "height": 700}


def rows_of_a_test():
    rows = [
        utterance(conversation_id=f"c{n}", level=n % 5, channel="chat" if n % 2 else "phone")
        for n in range(80)
    ]
    return [dataclasses.replace(row, text=f"text {n}") for n, row in enumerate(rows)]


def page_of(rows, wrong=frozenset(), baseline_wrong=frozenset()):
    report = measured(rows, wrong, baseline_wrong)
    candidate = answer(wrong)(rows)
    pictures = draw_pictures(rows, candidate.scores, candidate.calibration, report)
    origin = {"model_version": "deesc-tiny", "git_commit": "abc"}
    worst = worst_errors(rows, candidate.scores)
    made = run_page(report, {"corpus": pictures}, worst, origin, DATA, Config(epochs=9))
    close_pictures(pictures)
    return made


@pytest.fixture(scope="module")
def page():
    """The page of a model that misses three of 80, two of them hostile; the baseline misses 20."""
    rows = rows_of_a_test()
    rows[7] = dataclasses.replace(rows[7], text=HOSTILE)
    rows[17] = dataclasses.replace(rows[17], text=LONG)
    return page_of(rows, {HOSTILE, LONG, "text 12"}, {f"text {n}" for n in range(20, 40)})


def test_only_of_our_own_corpus_it_is_said_who_wrote_and_labelled_it(page):
    assert "by language-model readers" in page
    report, origin = measured(rows_of_a_test()), {"model_version": "m", "git_commit": "abc"}
    worst = worst_errors(rows_of_a_test(), answer()(rows_of_a_test()).scores)
    theirs = run_page(report, {"corpus": []}, worst, origin, DATA, Config(corpus="my_corpus"))
    assert "language-model" not in theirs


def card(report, **about):
    keys = ("name", "base_model", "training_run", "git_commit", "data_fingerprint")
    splits = {"train": rows_of_a_test()}
    return model_card(report, dict.fromkeys(keys, "x"), "int8", splits, "So.", **about)


def test_a_card_says_of_others_corpora_nothing_that_holds_of_ours_alone():
    report = measured(rows_of_a_test())
    ours, theirs = card(report, invented=True), card(report)
    for said in ("were invented", "no real customer", "few authors", "license: apache-2.0\n"):
        assert (said in ours, said in theirs) == (True, False)
    assert "of whoever trained this model" in theirs
    assert theirs.startswith("---\nlanguage: en\nbase_model: x\n")
    assert "- English only. Sarcasm,\n  dialect" in theirs


def test_a_card_without_public_texts_says_that_what_it_began_as_may_have_had_some():
    report = measured(rows_of_a_test())
    assert "No public texts were used." in card(report)
    learned_on = card(report, learned_before=True)
    assert "No public texts were used." not in learned_on
    assert "what it began as, or was taught by, learned from those of its own card" in learned_on


def check(name, value, bound, passed, **changes):
    found = {"name": name, "value": value, "bound": bound, "at_least": True, "passed": passed}
    return found | {"low": None, "high": None, "note": ""} | changes


@pytest.fixture(scope="module")
def verdict():
    rows = rows_of_a_test()
    part = measured(rows, {"text 12"}, {"text 13"})
    lost = newly_wrong(rows, answer({"text 12"})(rows).scores, answer({"text 13"})(rows).scores)
    return {
        "passed": False,
        "challenger": "deesc-2",
        "champion": "deesc-1",
        "other": "champion",
        "public_texts": False,
        "checks": [
            check("robustness: typo", 0.1, 0.15, True, at_least=False),
            check("corpus, overall: level_qwk gained", -0.02, -0.01, False, low=-0.03, high=0.01),
            check("robustness: lower_case", None, 0.12, True, at_least=False),
            check("quantisation loss on validation", None, 0.005, False, at_least=False),
            check("corpus: test conversations", 8, 20, False, note="too few to judge by"),
        ],
        "parts": {"corpus": part},
        "newly_wrong": {"corpus": lost},
        "data": [dataclasses.asdict(version) for version in DATA],
    }


def test_a_run_is_told_in_plain_words(page):
    assert "<strong>100 in 100</strong> utterances get a level" in page
    assert "Real customers" not in page  # there were none
    assert '<span class="better">better</span>' in page
    assert "fails if an insult at the end lowers the level" in page
    assert "<code>0123456789abcdef</code>" in page
    assert "<td>9</td><td>3</td>" in page  # epochs, and what they are by default


def test_texts_of_customers_cannot_become_markup(page):
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(" in page


def test_of_a_very_long_text_the_rest_opens_with_a_click(page):
    shown, rest = page.split("<summary>… ")[0], page.split("<summary>… ")[1]
    assert shown.endswith("far far<details>")
    assert 300 < len(shown.rpartition("customer:</strong>")[2]) < 420
    assert rest.startswith("11,604 more characters</summary> far")  # 12,003 without the first 399


def test_a_model_without_errors_says_so_and_what_cannot_be_measured_has_no_figure():
    calm = [dataclasses.replace(row, level=0) for row in rows_of_a_test()[:20]]
    made = page_of(calm)  # one level, no signal, every slice too small
    assert "No level was missed." in made
    assert "Read twenty" not in made
    assert "Too few utterances for a figure" in made
    assert "Parts of the test utterances" not in made
    assert "angry or abusive utterances are found" not in made
    assert made.count("<td>–</td><td>–</td><td>–</td><td>–</td>") == 5  # qwk, heated, signals
    assert "nan" not in made


def test_of_few_conversations_no_interval_is_printed_and_it_is_said_why():
    rows = [
        dataclasses.replace(row, conversation_id=f"c{n % 19}")
        for n, row in enumerate(rows_of_a_test())
    ]
    said = "no intervals, as those of under 20 conversations are too narrow"
    few, enough = measured(rows, {"text 12"}), measured(rows_of_a_test(), {"text 12"})
    for text in (format_report(few), run_note(few, "m"), page_of(rows, {"text 12"})):
        assert said in text
        assert "0.013" in text  # one of 80 levels is off by one
        assert not re.search(r"\([+-]?[0-9.]+ to ", text)
        assert "clearly" not in text
    assert said not in format_report(enough)
    assert re.search(r"\([+-]?[0-9.]+ to ", format_report(enough))


def test_a_slice_of_few_conversations_has_no_interval():
    rows = [
        dataclasses.replace(row, domain="energy" if n < 40 else "delivery")
        for n, row in enumerate(rows_of_a_test())
    ]
    rows[:40] = [
        dataclasses.replace(row, conversation_id=f"e{n % 19}") for n, row in enumerate(rows[:40])
    ]
    lines = format_report(measured(rows)).splitlines()
    (energy,) = (line for line in lines if line.startswith("| domain=energy"))
    (delivery,) = (line for line in lines if line.startswith("| domain=delivery"))
    assert "(" not in energy
    assert "(1.000 to 1.000)" in delivery
    assert "Without an interval: slices of under 20 conversations." in lines


@pytest.mark.parametrize(
    ("low", "high", "name", "said"),
    [
        (0.01, 0.03, "level_qwk", "better"),
        (-0.03, -0.01, "level_qwk", "worse"),
        (-0.01, 0.03, "level_qwk", "not clearly different"),
        (0.0, 0.03, "level_qwk", "not clearly different"),
        (0.01, 0.03, "level_mae", "worse"),
        (-0.03, -0.01, "level_mae", "better"),
    ],
)
def test_a_difference_is_clear_if_its_interval_leaves_out_zero(low, high, name, said):
    found = judgement({"value": (low + high) / 2, "low": low, "high": high}, EVALUATED[name])
    assert said in found


def test_the_worst_errors_are_furthest_off_and_come_first():
    rows = rows_of_a_test()
    worst = worst_errors(rows, answer({"text 12", "text 14"})(rows).scores)
    # True 4, given 0: four levels off; true 2, given 3: one.
    assert worst["text"][:2] == ["text 14", "text 12"]
    assert (worst["level"][0], worst["predicted_level"][0]) == (4, 0)
    assert len(worst["text"]) == 2  # what is right is no error, however uncertain


def test_newly_wrong_is_what_only_the_champion_has_right():
    rows = rows_of_a_test()
    ours, theirs = answer({"text 12", "text 14"})(rows), answer({"text 14", "text 9"})(rows)
    assert newly_wrong(rows, ours.scores, theirs.scores)["text"] == ["text 12"]


def test_a_verdict_is_told_with_failures_first(verdict):
    made = gate_page(verdict)
    assert "<h1>The challenger is refused</h1>" in made
    assert "3 of 5 checks failed." in made
    assert "<summary>The 2 that did not fail</summary>" in made
    assert "There were no public texts, or too few to judge." in made
    assert made.index("level_qwk gained") < made.index("robustness: typo")
    assert "not measured" in made
    assert '<td class="passed">–</td><td>not measured</td>' in made
    assert "too few to judge by</span>" in made
    assert "<td>8</td><td>at least 20</td>" in made
    assert "(-0.0300 to +0.0100)" in made
    assert "No longer right" in made
    assert "text 12" in made
    assert "text 13" not in made
    first = gate_page(verdict | {"champion": None, "other": "TF-IDF baseline", "newly_wrong": {}})
    assert "no champion: absolute bounds alone decide" in first


def test_a_verdict_is_shown_as_it_was_written(verdict):
    assert gate_page(json.loads(json.dumps(verdict))) == gate_page(verdict)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(params=["run", "verdict"])
def opened(request, browser, tmp_path, page, verdict):
    """Each page, with what it asked for and complained of."""
    file = tmp_path / "report.html"
    file.write_text(page if request.param == "run" else gate_page(verdict), "utf-8")
    context = browser.new_context(viewport=NARROW)
    tab, asked, complaints = context.new_page(), [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(file.as_uri())
    yield tab
    assert asked == [file.as_uri()]
    assert complaints == []
    context.close()


def test_a_narrow_page_does_not_scroll_sideways(opened):
    assert opened.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_pictures_and_sections_have_names_and_ids_are_unique(opened):
    unnamed = "[...document.querySelectorAll('svg, section')].filter(e => !document.getElementById("
    unnamed += "e.getAttribute('aria-labelledby'))?.textContent.trim()).length"
    assert opened.evaluate(unnamed) == 0
    assert opened.locator("svg").count() >= 1
    ids = opened.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    links = opened.evaluate("[...document.querySelectorAll('a')].map(e => e.hash.slice(1))")
    assert set(links) <= set(ids)


def test_keys_open_the_numbers_behind_a_picture(opened):
    first = opened.locator("details").first
    for _ in range(60):
        opened.keyboard.press("Tab")
        if opened.evaluate("document.activeElement.matches('summary')"):
            break
    assert not first.locator("table").is_visible()
    opened.keyboard.press("Enter")
    assert first.locator("table").is_visible()


@pytest.mark.parametrize("media", [{"color_scheme": "dark"}, {"media": "print"}])
def test_pages_follow_the_readers_colours_and_print_on_white(opened, media):
    opened.emulate_media(**media)
    ground, ink = opened.evaluate(
        "[document.body, document.querySelector('svg text')]"
        ".map((e, n) => getComputedStyle(e)[n ? 'fill' : 'backgroundColor'])"
    )
    dark = "color_scheme" in media
    assert ground == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    assert ink == ("rgb(236, 239, 243)" if dark else "rgb(0, 0, 0)")
    assert opened.locator("details table").first.is_visible() is not dark  # paper cannot be opened

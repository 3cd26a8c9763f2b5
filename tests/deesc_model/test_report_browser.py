"""The report in a browser: nothing from outside, no errors, keys and narrow screens."""

from pathlib import Path

import pytest
from talks import TALK, conversation, followed

from deesc_model.report import render_report
from deesc_model.report.handover import hand_over_summary

browsers = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = Path("/usr/bin/chromium")
if not CHROMIUM.exists():
    pytest.skip(f"there is no {CHROMIUM}", allow_module_level=True)

NARROW = {"width": 375, "height": 700}


@pytest.fixture(scope="module")
def browser():
    with browsers.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def items(classifier):
    long_word = conversation(*TALK[:2], name="word" * 80, vendor="negative")
    return [followed(classifier, item) for item in (conversation(*TALK), long_word)]


@pytest.fixture
def opened(browser, items, tmp_path):
    """The page of two conversations, and what it asked for and complained of."""
    file = tmp_path / "report.html"
    file.write_text(render_report(items, "talks"), "utf-8")
    context = browser.new_context(viewport=NARROW)
    page, asked, complaints = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    yield page
    assert asked == [file.as_uri()]
    assert complaints == []
    context.close()


def test_the_button_copies_the_summary(opened, items):
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.locator("#c1 button").click()
    opened.locator("#c1 [role=status]", has_text="Copied.").wait_for()
    assert opened.evaluate("navigator.clipboard.readText()") == hand_over_summary(items[0])


def test_without_a_clipboard_the_button_selects_the_summary(opened, items):
    opened.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    opened.locator("#c1 button").click()
    opened.locator("#c1 [role=status]", has_text="Selected").wait_for()
    assert opened.evaluate("getSelection().toString()") == hand_over_summary(items[0])


def test_the_tab_key_reaches_every_turn_in_order(opened, items):
    wanted = [
        f"#c{number}-t{turn.number}"
        for number, item in enumerate(items, start=1)
        for turn in item.turns
    ]
    headings = []
    for _ in range(100):
        opened.keyboard.press("Tab")
        if opened.evaluate("document.activeElement.matches('h4 a')"):
            headings.append(opened.evaluate("document.activeElement.getAttribute('href')"))
        if headings == wanted:
            break
    assert headings == wanted
    opened.keyboard.press("Enter")
    assert opened.evaluate("location.hash") == wanted[-1]


def test_a_narrow_page_does_not_scroll_sideways(opened):
    assert opened.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


@pytest.mark.parametrize("media", [{"color_scheme": "dark"}, {"media": "print"}])
def test_the_page_follows_the_readers_colours_and_prints_on_white(opened, media):
    opened.emulate_media(**media)
    ground = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if "media" in media else "rgb(20, 23, 27)")
    assert opened.locator("#c1 button").is_visible() is ("media" not in media)

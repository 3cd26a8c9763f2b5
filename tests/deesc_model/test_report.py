"""The report as a reader gets it: sound HTML, nothing from outside, everything escaped."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command import deesc

from deesc_model import Turn
from deesc_model.report import LabelledConversation, render_report
from deesc_model.report.handover import hand_over_summary
from deesc_model.transcripts import Conversation, SpokenTurn

VOID = {"meta", "line", "rect", "circle", "polyline", "path", "br"}
HOSTILE = (
    "</pre></title></style><script>alert(1)</script>",
    '" onload="alert(1)" x="',
    "<img src=https://evil.example/x onerror=alert(1)>",
    "javascript:alert(1) &lt;b&gt; \u202e ]]> <!--",
)


class Page(HTMLParser):
    """Every element with its attributes, and the text; refuses tags that do not nest."""

    def __init__(self, source):
        super().__init__()
        self.open, self.elements, self.ids = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def conversation(*turns, name="talk", vendor=None, metadata=None):
    spoken = tuple(SpokenTurn(turn, turn.speaker, vendor, {}) for turn in turns)
    return Conversation(name, spoken, {}, metadata or {})


def labelled(classifier, item):
    return LabelledConversation(item, tuple(classifier.predict_conversation(item.turns)))


TALK = (
    Turn("customer", "the parcel is late ! Order 7714 ."),
    Turn("agent", "again . I will call you at 5. We will not refund it."),
    Turn("customer", "furious manager"),
    Turn("agent", "The courier will arrive tomorrow. I can see it."),
    Turn("customer", "fine fine fine fine"),
)


def test_the_summary_quotes_by_turn(classifier):
    lines = hand_over_summary(labelled(classifier, conversation(*TALK))).splitlines()
    assert lines[:4] == [
        "HAND-OVER talk",
        "5 turns, 3 of them by the customer.",
        "Highest: level 3 angry in turn 3.",
        "Last: level 0 calm in turn 5.",
    ]
    assert "- turn 1, delay: “the parcel is late ! Order 7714 .”" in lines
    assert "- turn 3, supervisor request: “furious manager”" in lines
    promised = lines[lines.index("Promised by the agent") + 1 :]
    assert promised[:3] == [
        "- turn 2, agent: “I will call you at 5.”",
        "- turn 4, agent: “The courier will arrive tomorrow.”",
        "",
    ]
    assert promised[-2:] == [
        "- turn 1, customer: “Order 7714 .”",
        "- turn 2, agent: “I will call you at 5.”",
    ]


def test_the_page_is_sound_and_says_everything_in_words(classifier):
    item = labelled(classifier, conversation(*TALK, vendor="neutral"))
    source = render_report([item], "talk.json")
    page = Page(source)
    assert len(page.ids) == len(set(page.ids))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == tags.count("main") == tags.count("svg") == 1
    assert "turn 3 angry" in source  # the picture's title
    for turn in TALK:
        assert turn.text in source
    assert "Frustrated or worse, but not negative to the vendor: turn 3." in source
    for tag, attributes in page.elements:
        assert tag != "th" or attributes["scope"] in ("row", "col")
        assert tag != "svg" or attributes["aria-labelledby"] in page.ids
        assert tag != "a" or attributes["href"].removeprefix("#") in page.ids


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_stays_text(classifier, hostile):
    item = conversation(
        Turn("customer", f"late {hostile}"),
        Turn("agent", f"I will {hostile}"),
        name=hostile + "\ud800\x07",
        vendor=hostile,
        metadata={hostile: hostile},
    )
    plain = conversation(*item.turns, name="x", vendor="x", metadata={"x": "x"})
    found = Page(render_report([labelled(classifier, item)], hostile))
    expected = Page(render_report([labelled(classifier, plain)], "x"))
    shape = [(tag, sorted(attributes)) for tag, attributes in found.elements]
    assert shape == [(tag, sorted(attributes)) for tag, attributes in expected.elements]


def test_the_page_allows_its_own_script_and_style_and_nothing_else(classifier):
    source = render_report([labelled(classifier, conversation(*TALK))], "x")
    (policy,) = (
        attributes["content"]
        for tag, attributes in Page(source).elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", source, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"(src|href)=\"(?!#)|url\(|@import|https?:", source)


def test_many_conversations_are_listed_the_most_frustrated_first(classifier):
    calm = labelled(classifier, conversation(Turn("customer", "fine"), name="calm one"))
    angry = labelled(classifier, conversation(*TALK, name="angry one"))
    silent = labelled(classifier, conversation(Turn("agent", "fine"), name="nobody"))
    source = render_report([silent, calm, angry], "x")
    Page(source)
    assert source.index("angry one") < source.index("calm one") < source.index("nobody")
    assert source.count("<article") == 3
    assert source.count("<svg") == 2


CONTRAST = 4.5
"""WCAG 2.2, AA, for text."""


def luminance(colour):
    full = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in full)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_colour_of_text_has_contrast_in_light_and_dark():
    import deesc_model.report  # noqa: PLC0415

    style = (Path(deesc_model.report.__file__).parent / "style.css").read_text("utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part))
        for part in style.split("* { box-sizing")[0].split("@media (prefers-color-scheme: dark)")
    )
    assert set(light) == set(dark)
    for colours in (light, dark):
        for ground in ("ground", "raised"):
            for name in colours.keys() - {"ground", "raised", "rule"}:
                low, high = sorted((luminance(colours[ground]), luminance(colours[name])))
                assert (high + 0.05) / (low + 0.05) >= CONTRAST, (ground, name)


def test_the_command_writes_one_file(tiny_bundle, tmp_path):
    pytest.importorskip("typer")
    source, out = tmp_path / "talk.txt", tmp_path / "talk.html"
    source.write_text("Dana: late\nLee: fine\n")
    options = ("--customer", "Dana", "-o", out, "--model", tiny_bundle)
    result = deesc("report", source, *options, check=0)
    assert "1 conversation" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.html", "talk.txt"]
    Page(out.read_text("utf-8"))
    assert "named twice" in deesc("report", source, "-o", source, check=1).stderr

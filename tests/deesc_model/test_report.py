"""The report as a reader gets it: sound HTML, nothing from outside, everything escaped."""

import base64
import hashlib
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command import deesc
from talks import TALK, conversation, followed

from deesc_model import ConversationCompanion, Turn
from deesc_model.evidence import Evidence, Word, explain_turns
from deesc_model.playbook import PLAYBOOK_FILE, channel_of
from deesc_model.policy import POLICY_FILE
from deesc_model.report import follow, render_report
from deesc_model.report.handover import attempts, hand_over_summary, promises
from deesc_model.report.highlights import marked_text

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


def test_the_summary_quotes_by_turn_and_says_what_is_open(classifier):
    item = followed(classifier, conversation(*TALK, metadata={"channel": "email"}))
    lines = hand_over_summary(item).splitlines()
    assert lines[:5] == [
        "HAND-OVER talk",
        "channel: email",
        "5 turns, 3 of them by the customer.",
        "Highest: level 3 angry in turn 3.",
        "Last: level 0 calm in turn 5.",
    ]
    assert lines[5].startswith("Action due at the end: hand over (")
    assert "- delay (open), turn 1: “the parcel is late ! Order 7714 .”" in lines
    assert "- supervisor request (open), turn 3: “furious manager”" in lines
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
    calmed = conversation(*TALK, Turn("agent", "fine"), Turn("customer", "fine fine fine"))
    assert "- delay (seems resolved), turn 1: " in hand_over_summary(followed(classifier, calmed))


@pytest.mark.parametrize(
    ("said", "tried", "promised"),
    [
        ("I've sent a new one.", True, False),
        ("I can send a second one. Would that help?", True, False),
        ("Your fee has been refunded.", True, False),
        ("Done: it arrives at 2, and I will check at 4.", True, True),
        ("I can see that. I have no idea.", False, False),
        ("I cannot refund it. I can only offer regret.", False, False),
        ("We have not sent it. We won't.", False, False),
    ],
)
def test_what_was_tried_and_promised_is_found_by_wording(classifier, said, tried, promised):
    (turn,) = followed(classifier, conversation(Turn("agent", said))).turns
    assert (bool(attempts(turn)), bool(promises(turn))) == (tried, promised)


def test_the_page_is_sound_and_says_everything_in_words(classifier):
    item = followed(classifier, conversation(*TALK, vendor="neutral"))
    source = render_report([item], "talk.json")
    page = Page(source)
    assert len(page.ids) == len(set(page.ids))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == tags.count("main") == tags.count("svg") == 1
    assert "turn 3 angry" in source  # the picture's title
    unmarked = re.sub("</?mark[^>]*>", "", source)
    for turn in TALK:
        assert turn.text in unmarked
    assert '<mark class="strong">late</mark>' in source
    assert "What helps, about delay" in source
    assert "This turn transfers them or makes them tell it again." in source
    assert "because the customer gave the signal supervisor request." in source
    assert 'href="#c1-t3">3</a></th><td><span class="action action-3">hand over' in source
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
    found = Page(render_report([followed(classifier, item)], hostile))
    expected = Page(render_report([followed(classifier, plain)], "x"))
    shape = [(tag, sorted(attributes)) for tag, attributes in found.elements]
    assert shape == [(tag, sorted(attributes)) for tag, attributes in expected.elements]


def test_the_page_allows_its_own_script_and_style_and_nothing_else(classifier):
    source = render_report([followed(classifier, conversation(*TALK))], "x")
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
    calm = followed(classifier, conversation(Turn("customer", "fine"), name="calm one"))
    angry = followed(classifier, conversation(*TALK, name="angry one"))
    silent = followed(classifier, conversation(Turn("agent", "fine"), name="nobody"))
    source = render_report([silent, calm, angry], "x")
    Page(source)
    assert source.index("angry one") < source.index("calm one") < source.index("nobody")
    assert source.count("<article") == 3
    assert source.count("<svg") == 3


def test_marked_words_are_slices_of_the_text_and_above_the_noise(classifier):
    text = "<b>late & late</b>"
    item = conversation(Turn("customer", text))
    words = [
        Word(3, 7, "late", 0.3),
        Word(8, 9, "&", 0.12),
        Word(10, 14, "late", 0.01),
        Word(1, 2, "b", 0.2),
    ]
    evidence = [
        (
            Evidence("delay", 0.9, tuple(words), noise=0.15),
            Evidence("billing", 0.9, (Word(8, 9, "&", 0.11),), noise=0.0),
        )
    ]
    predictions = classifier.predict_conversation(item.turns)
    (turn,) = follow(item, predictions, ConversationCompanion(), evidence).turns
    marked = marked_text(turn)
    assert html.unescape(re.sub("</?mark[^>]*>", "", marked)) == text
    assert re.findall("<mark[^>]*>(.*?)</mark>", marked) == ["b", "late", "&amp;"]
    assert re.findall('<mark class="strong">(.*?)</mark>', marked) == ["late"]


def test_only_labelled_turns_of_the_customer_that_are_not_too_long_are_explained(classifier):
    turns = [
        *(Turn("customer", "fine"), Turn("agent", "late"), Turn("customer", "late")),
        Turn("customer", "late " * 201),
    ]
    predictions = classifier.predict_conversation(turns)
    found = [
        [item.label for item in items] for items in explain_turns(classifier, turns, predictions)
    ]
    assert found[:2] == [[], []]
    assert "delay" in found[2]
    assert found[3] == []


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
            for name in colours.keys() - {"ground", "raised", "rule", "mark"}:
                low, high = sorted((luminance(colours[ground]), luminance(colours[name])))
                assert (high + 0.05) / (low + 0.05) >= CONTRAST, (ground, name)
        low, high = sorted((luminance(colours["mark"]), luminance(colours["ink"])))
        assert (high + 0.05) / (low + 0.05) >= CONTRAST


@pytest.fixture
def talk(tmp_path):
    path = tmp_path / "talk.txt"
    path.write_text("Dana: late\nLee: fine\nDana: furious\n")
    return path


def test_the_command_writes_one_file(tiny_bundle, tmp_path, talk):
    pytest.importorskip("typer")
    out = tmp_path / "talk.html"
    options = ("--customer", "Dana", "-o", out, "--model", tiny_bundle)
    result = deesc("report", talk, *options, check=0)
    assert "1 conversation" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.html", "talk.txt"]
    source = out.read_text("utf-8")
    Page(source)
    assert "<mark" in source
    assert "named twice" in deesc("report", talk, "-o", talk, check=1).stderr
    deesc("report", talk, "--no-evidence", *options, check=0)
    assert "<mark" not in out.read_text("utf-8")


def test_the_command_follows_policy_playbook_and_channel(tiny_bundle, tmp_path, talk):
    pytest.importorskip("typer")
    policy, playbook, out = (tmp_path / name for name in ("p.toml", "b.toml", "talk.html"))
    policy.write_text(re.sub("(_at) = .*", r"\1 = 1.0", POLICY_FILE.read_text("utf-8")))
    playbook.write_text(
        PLAYBOOK_FILE.read_text("utf-8").replace("apologise, own it", "keep your head")
    )
    options = ("--customer", "Dana", "-o", out, "--model", tiny_bundle, "--no-evidence")
    given = ("--policy", policy, "--playbook", playbook, "--channel", "phone")
    deesc("report", talk, *options, *given, check=0)
    source = out.read_text("utf-8")
    assert "because the customer is angry." in source
    assert "keep your head" in source
    assert "Speak a little slower" in source
    policy.write_text("watch_at = 0.1")
    assert "is missing" in deesc("report", talk, *options, *given, check=1).stderr


@pytest.mark.parametrize(
    ("metadata", "channel"),
    [({"channel": "VOICE"}, "phone"), ({"channel": "email"}, "email"), ({"channel": 5}, "chat")],
)
def test_the_channel_is_the_files_own(metadata, channel):
    assert channel_of(metadata) == channel
    assert channel_of({}) == "chat"

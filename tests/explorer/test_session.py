"""What the explorer holds and writes, without its page."""

import itertools
import json
import re
from pathlib import Path

import pytest

from deesc_model import SIGNALS, EscalationPolicy, InvalidInputError, Level, SettingsError, Turn
from deesc_model.evidence import explain_turns
from deesc_model.inputs import parse_conversations
from explorer.acts import Acts
from explorer.closer import closer_html
from explorer.corrections import ARCS, About, corpus_lines
from explorer.desk import Desk
from explorer.labels import Labels, check_labels
from explorer.session import Session
from explorer.view import curve_html, marked_text, turns_html
from training import corpus

ROOT = Path(__file__).parents[2]

TALK = (
    Turn("customer", "the parcel is late ! Order 7714 ."),
    Turn("agent", "again . the parcel is late"),
    Turn("customer", "idiot manager"),
)
ABOUT = About("chat", "delivery", "rises")


@pytest.fixture
def session(classifier):
    return Session("talk", TALK).labelled(classifier)


def test_typed_turns_are_labelled_in_context_and_followed(classifier):
    session = Session()
    for turn in TALK:
        session = session.say(turn, classifier)
    steps = session.steps(EscalationPolicy.read())
    assert [step.state.turn for step in steps] == [0, 1, 2]
    assert steps[2].prediction.level == Level.ABUSIVE
    assert steps[2].decision.reason == "the customer gave the signal supervisor_request"
    assert steps[2].advice.checklist
    assert session.predictions[2].triggers == ("delay",)  # from the turns before it


def test_the_latest_turn_can_be_taken_back(session, classifier):
    whole = session.explained(2, classifier).check(2, Labels(4, (), ("personal_abuse",)))
    back = whole.take_back()
    assert (back.turns, len(back.predictions)) == (TALK[:2], 2)
    assert not back.checked
    assert not back.evidence


def test_another_policy_changes_the_action_and_no_label(session):
    policy = EscalationPolicy.read()
    raw = policy.to_toml().replace(f"watch_at = {policy.watch_at}", "watch_at = 0.0")
    eager = EscalationPolicy.parse(raw.encode(), "eager.toml")
    assert session.steps(eager)[0].decision.action.label != "none"


def test_evidence_marks_words_and_escapes_the_rest(classifier):
    text = "<b> late & late </b>"
    session = Session("", (Turn("customer", text),)).labelled(classifier).explained(0, classifier)
    shown = marked_text(text, session.evidence[0])
    assert "<mark title='" in shown
    assert "<b>" not in shown
    assert "&amp;" in shown
    agent = Session("", (Turn("agent", "late"),)).labelled(classifier)
    assert agent.explained(0, classifier) is agent


def test_what_html_cannot_hold_is_not_in_the_page(classifier):
    session = Session("", (Turn("customer", "late\x0blate \x85"),)).labelled(classifier)
    shown = marked_text(session.turns[0].text, session.explained(0, classifier).evidence[0])
    assert shown.count("�") == 2
    assert not re.search(r"[\x0b\x85]", shown)


def test_the_same_turns_are_explained_as_in_a_report(classifier):
    turns = tuple(Turn("customer", text) for text in ("fine", "fine late", "furious"))
    session = Session("", turns).labelled(classifier)
    reported = list(explain_turns(classifier, turns, session.predictions))
    for turn in range(len(turns)):
        session = session.explained(turn, classifier)
    assert [session.evidence[turn] for turn in range(len(turns))] == reported
    assert reported[0] == ()
    assert "Calm, and without a label" in closer_html(session, 0)


def test_hostile_text_cannot_get_into_the_page(classifier):
    text = "<script>alert(1)</script> <i>idiot</i>"
    session = Session("", (Turn("customer", text), Turn("agent", text))).labelled(classifier)
    policy = EscalationPolicy.read()
    steps = session.steps(policy)
    page = turns_html(session, steps) + curve_html(session, steps, policy)
    assert "<script>" not in page
    assert "<i>" not in page
    assert page.count("&lt;script&gt;") == page.count("&lt;i&gt;") == 2


def test_labels_are_allowed_exactly_where_the_corpus_allows_them():
    row = {
        "conversation_id": "a", "turn": 0, "text": "x", "triggers": [], "channel": "chat",
        "domain": "retail", "arc": "calm", "split": "",
    }  # fmt: skip
    sets = [s for n in range(len(SIGNALS) + 1) for s in itertools.combinations(SIGNALS, n)]
    for speaker, level, signals in itertools.product(("customer", "agent"), range(5), sets):
        line = json.dumps({**row, "speaker": speaker, "level": level, "signals": list(signals)})
        faults = corpus._read_line(line.encode(), "a", 1)[1]
        try:
            check_labels(speaker, Labels(level, (), signals))
        except InvalidInputError:
            assert faults, line
        else:
            assert not faults, line


def test_checked_conversations_are_read_by_the_corpus_reader(session, tmp_path):
    with pytest.raises(InvalidInputError, match="not checked yet: 1, 2, 3"):
        corpus_lines(session, ABOUT)
    session = session.check(0, Labels(1, ("delay",), ()))
    session = session.check(1, Labels(0, ("policy",), ())).check_rest()
    (tmp_path / "delivery.jsonl").write_text(corpus_lines(session, ABOUT), encoding="utf-8")
    rows = corpus.load_corpus(tmp_path)
    assert [(row.turn, row.speaker, row.text) for row in rows] == [
        (n, turn.speaker, turn.text) for n, turn in enumerate(TALK)
    ]
    assert (rows[0].level, rows[0].triggers, rows[1].triggers) == (1, ("delay",), ("policy",))
    assert {(row.channel, row.domain, row.arc, row.split) for row in rows} == {
        ("chat", "delivery", "rises", "")
    }
    # `training.data split` writes the folder anew and wants files named by domain.
    corpus.write_corpus(rows, tmp_path)


def test_what_the_model_says_against_the_guide_is_not_taken_over(classifier):
    said = (Turn("agent", "manager manager"), Turn("customer", "late"))
    session = Session("", said).labelled(classifier)
    assert session.predictions[0].signals
    with pytest.raises(InvalidInputError, match="turn 1: agents have no signals"):
        session.check(0, session.labels(0))
    assert session.check_rest().unchecked == [0]


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (("fax", "retail", "calm"), "channel must be one of"),
        (("chat", "", "calm"), "line of business"),
        (("chat", "two words", "calm"), "line of business"),
        (("chat", "retail", ""), "how the conversation goes"),
    ],
)
def test_what_the_corpus_needs_is_asked_for(about, said):
    with pytest.raises(ValueError, match=said):
        About(*about)


def test_the_arcs_are_those_of_the_corpus():
    assert ARCS == corpus.ARCS


def test_another_model_labels_anew_and_keeps_what_was_checked(session, classifier):
    checked = session.check(0, Labels(2, (), ())).explained(0, classifier)
    assert checked.labelled(classifier) is checked

    class Other:
        model_version = "other"

        def predict_conversation(self, turns):
            return classifier.predict_conversation(turns)

    other = checked.labelled(Other())
    assert other.checked == {0: Labels(2, (), ())}
    assert other.evidence == {}


@pytest.fixture
def acts(classifier):
    return Acts({"tiny": classifier})


def test_many_conversations_lie_on_the_desk(acts):
    raw = b'{"text": "late", "conversation_id": "x"}\n{"text": "b", "conversation_id": "y"}'
    desk, note = acts.read(Desk(model="tiny"), "pasted text", raw, "", "")
    assert (desk.names, note) == (["1: x", "2: y"], "pasted text: 2 conversations read")
    assert (len(desk.steps()), desk.sessions[1].predictions) == (1, ())
    desk, _ = acts.view(desk, 1)
    assert desk.session.turns == (Turn("customer", "b"),)
    assert len(desk.steps()) == 1
    assert acts.clear(desk)[0] == Desk(model="tiny")


def test_a_conversation_that_was_emptied_can_be_viewed_again(acts):
    raw = b'{"text": "late", "conversation_id": "x"}\n{"text": "b", "conversation_id": "y"}'
    desk, _ = acts.read(Desk(model="tiny"), "pasted text", raw, "", "")
    desk, _ = acts.view(acts.take_back(desk)[0], 1)
    desk, _ = acts.say(
        desk, "customer", "late"
    )  # the turn that is looked at is no longer the first
    desk, _ = acts.view(desk, 0)
    assert (desk.chosen, desk.turn, desk.session.turns) == (0, 0, ())
    assert acts.explain_all(desk)[0].steps() == []
    assert acts.say(desk, "customer", "idiot")[0].session.turns == (Turn("customer", "idiot"),)


def test_checked_labels_outlast_the_next_transcript(acts):
    desk, _ = acts.read(Desk(model="tiny"), "one.txt", b"Customer: late\nAgent: fine", "", "")
    desk, _ = acts.read(desk, "two.txt", b"Customer: idiot\nAgent: fine", "", "")
    assert desk.names == ["1: two"]
    desk, _ = acts.check(desk, 4, ["agent_conduct"], ["personal_abuse"], desk.mark)
    desk, note = acts.read(desk, "three.txt", b"Customer: fine\nAgent: fine", "", "")
    assert (desk.names, desk.chosen) == (["1: two", "2: three"], 1)
    assert note == "three.txt: 1 conversation read, 1 conversation with checked labels kept"
    assert desk.sessions[0].checked
    for _ in range(2):
        desk, _ = acts.take_back(desk)
    assert desk.sessions[0].checked


def test_the_most_frustrated_turn_is_looked_at(acts):
    raw = b"Customer: fine\nAgent: idiot\nCustomer: furious\nCustomer: fine"
    desk, _ = acts.read(Desk(model="tiny"), "pasted text", raw, "", "")
    assert desk.turn == 2
    assert list(desk.session.evidence) == [2]
    assert set(acts.explain_all(desk)[0].session.evidence) == {0, 2, 3}
    for _ in range(4):
        desk, _ = acts.take_back(desk)
    assert desk.session.turns == ()


def test_a_text_too_long_to_explain_is_still_labelled(acts):
    desk, _ = acts.say(Desk(model="tiny"), "customer", "late " * 300)
    assert desk.session.evidence == {}
    assert "Too long" in closer_html(desk.session, 0)


def test_the_customer_is_named_in_the_page(acts):
    raw = b"Kim: late\nDana: fine"
    with pytest.raises(InvalidInputError, match="in the field “Customer’s name”"):
        acts.read(Desk(model="tiny"), "pasted text", raw, "text", "")
    desk, _ = acts.read(Desk(model="tiny"), "pasted text", raw, "text", " Kim \n")
    assert [turn.speaker for turn in desk.session.turns] == ["customer", "agent"]


def test_the_format_is_named_in_the_page(acts):
    with pytest.raises(InvalidInputError, match="say which in the field “Format”"):
        acts.read(Desk(model="tiny"), "pasted text", b"once upon a time", "", "")


def test_the_channel_is_the_files_until_a_person_chooses_another(acts):
    call = ROOT / "tests/fixtures/transcripts/contact_lens_voice.json"
    desk, _ = acts.read(Desk(model="tiny"), call.name, call.read_bytes(), "", "")
    assert desk.session.channel == "phone"
    desk, _ = acts.use_channel(desk, "email")
    desk, _ = acts.check(desk, 1, [], [], desk.mark)
    desk, _ = acts.read(desk, "one.txt", b"Customer: late", "", "")  # it names none
    desk, _ = acts.use_channel(desk, "social")
    assert [session.channel for session in desk.sessions] == ["email", "social"]
    assert acts.read(desk, "two.txt", b"Customer: late", "", "")[0].session.channel == "social"
    assert acts.clear(acts.view(desk, 0)[0])[0].session.channel == "email"


def test_rows_name_a_channel_only_by_a_word_that_is_known(acts):
    desk, _ = acts.use_channel(Desk(model="tiny"), "email")
    for word, channel in (("fax", "email"), ("Voice", "phone")):
        rows = f'{{"text": "late", "channel": "{word}"}}'.encode()
        assert acts.read(desk, "rows.jsonl", rows, "", "")[0].session.channel == channel


def test_a_wrong_policy_is_refused_by_name(acts):
    with pytest.raises(SettingsError, match=r"mine\.toml: unknown key 'risk'"):
        acts.use_policy(Desk(model="tiny"), "mine.toml", b"risk = 1")
    with pytest.raises(SettingsError, match=r"mine\.toml is not TOML"):
        acts.use_policy(Desk(model="tiny"), "mine.toml", b"\xff")


def test_labels_are_taken_in_the_order_of_the_vocabulary(acts):
    desk, _ = acts.say(Desk(model="tiny"), "customer", "late")
    desk, _ = acts.check(desk, 4, ["other", "billing"], ["harm_threat", "churn_threat"], desk.mark)
    assert desk.session.checked[0].triggers == ("billing", "other")
    assert desk.session.checked[0].signals == ("churn_threat", "harm_threat")
    with pytest.raises(InvalidInputError, match="turn 1: personal_abuse and harm_threat come"):
        acts.check(desk, 3, [], ["harm_threat"], desk.mark)
    with pytest.raises(InvalidInputError, match="no turn yet"):
        acts.check(Desk(model="tiny"), 1, [], [], Desk(model="tiny").mark)


def test_labels_of_what_the_page_showed_before_are_not_taken(acts):
    first, _ = acts.read(Desk(model="tiny"), "one.txt", b"Customer: late\nCustomer: fine", "", "")
    for other in (
        acts.look(first, 1)[0],
        acts.read(first, "two.txt", b"Customer: late", "", "")[0],
        acts.say(acts.clear(first)[0], "customer", "late")[0],
    ):
        with pytest.raises(InvalidInputError, match="nothing was taken over"):
            acts.check(other, 1, [], [], first.mark)
        with pytest.raises(InvalidInputError, match="nothing was taken over"):
            acts.check_rest(other, 1, [], [], first.mark)


def test_with_all_other_turns_what_is_chosen_of_the_one_in_view_is_taken_too(acts):
    desk, _ = acts.read(Desk(model="tiny"), "one.txt", b"Customer: late\nCustomer: fine", "", "")
    done, _ = acts.check_rest(desk, 3, ["billing"], [], desk.mark)
    assert done.session.checked[desk.turn] == Labels(3, ("billing",), ())
    assert list(done.session.checked) == [0, 1]
    with pytest.raises(InvalidInputError, match="no turn yet"):
        acts.check_rest(Desk(model="tiny"), None, [], [], Desk(model="tiny").mark)


def test_what_a_person_corrected_stays_where_the_model_is_against_the_guide(acts):
    desk, _ = acts.read(
        Desk(model="tiny"), "one.txt", b"Customer: late\nAgent: manager manager", "", ""
    )
    done, said = acts.check_rest(desk, 3, ["billing"], [], desk.mark)
    assert dict(done.session.checked) == {0: Labels(3, ("billing",), ())}
    assert "all turns are checked but 2," in said


def test_another_model_than_the_risk_was_fitted_to_is_told(acts):
    desk, _ = acts.read(Desk(model="tiny"), "one.txt", b"Customer: late", "", "")
    assert "the risk was fitted to" in acts.use_model(desk, "tiny")[1]


@pytest.mark.parametrize(
    ("name", "raw", "turns"),
    [
        ("pasted text", b"Agent: Hello.\nCustomer: Hi.", 2),
        ("pasted text", '{"text": "naïve"}\n\n{"text": "b"}'.encode(), 2),
        ("pasted text", b'\xef\xbb\xbf"text",speaker\nHi,customer\n', 1),
        ("rows.csv", b"text\nHi\n", 1),
        ("chat.txt", "Agent: Hello.\nCustomer: Hi.".encode("utf-16"), 2),
    ],
)
def test_what_is_pasted_is_read_as_its_file_would_be(name, raw, turns):
    (conversation,) = parse_conversations(name, raw)
    assert len(conversation.turns) == turns


@pytest.mark.parametrize(
    ("raw", "options", "said"),
    [
        (b"nothing here", {}, "pasted text: it fits no format that deesc reads"),
        (b"", {}, "pasted text: it is empty"),
        (b'{"text": 3}', {}, "pasted text: line 1: text must be a string"),
        (b'{"text": "a"}', {"customers": ["Jo"]}, "--customer is for transcripts"),
        (b"Agent: Hi.", {"named": "zendesk"}, "pasted text: "),
        (b"", {"named": "jsonl"}, "pasted text holds no turns"),
    ],
)
def test_what_cannot_be_read_is_named(raw, options, said):
    with pytest.raises(InvalidInputError) as caught:
        parse_conversations("pasted text", raw, **options)
    assert said in str(caught.value)

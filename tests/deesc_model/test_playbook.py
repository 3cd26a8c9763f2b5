from dataclasses import replace

import pytest
from courses import prediction

from deesc_model import TRIGGERS, Action, Level, SettingsError, Turn, follow_conversation
from deesc_model.playbook import ANY, CHANNELS, PLAYBOOK_FILE, Playbook

BOOK = Playbook.read()
UPSET = follow_conversation(
    [Turn("customer", "x")] * 2, [prediction(2, ["delay"]), prediction(2, ["policy"])]
)[-1]


def test_the_shipped_playbook_answers_every_trigger_level_and_channel():
    for trigger in (*TRIGGERS, ANY):
        for level in Level:
            for channel in CHANNELS:
                found = BOOK.suggest(trigger, level, channel)
                assert found.techniques
                assert 2 <= len(found.say) <= 3
                assert found.avoid
                assert level == Level.ABUSIVE or found.trigger == trigger


def test_abuse_by_phone_is_answered_as_by_phone():
    say = {c: BOOK.suggest("delay", Level.ABUSIVE, c).say for c in ("phone", "chat")}
    assert "stay on the line" in say["phone"][1]
    assert say["phone"] != say["chat"]


def test_advice_answers_what_was_mentioned_last_and_grows_with_the_action():
    assert BOOK.advise(Action.NONE, UPSET).suggestions == ()
    assert [s.trigger for s in BOOK.advise(Action.WATCH, UPSET).suggestions] == ["policy"]
    advice = BOOK.advise(Action.DE_ESCALATE, UPSET, "email")
    assert [s.trigger for s in advice.suggestions] == ["policy", "delay"]
    assert "Read it twice" in advice.channel
    assert advice.checklist == ()
    assert "what happens next" in " ".join(BOOK.advise(Action.HAND_OVER, UPSET).checklist)


def test_advice_without_any_trigger_is_about_the_feeling():
    state = replace(UPSET, triggers=())
    (suggestion,) = BOOK.advise(Action.DE_ESCALATE, state).suggestions
    assert suggestion.trigger == ANY


def test_provoking_wording_is_named_with_the_technique_that_helps():
    turn = Turn("agent", "Sorry, but our terms say ten days.")
    (remark,) = BOOK.check_agent(turn, prediction(0, ["policy"]), UPSET)
    assert "rule" in remark.what
    assert remark.technique.name == "offer a way forward"


@pytest.mark.parametrize(
    ("text", "before", "missed"),
    [
        ("It will arrive tomorrow.", UPSET, True),
        ("I'm so sorry, it will arrive tomorrow.", UPSET, False),
        ("You’re right. It will arrive tomorrow.", UPSET, False),  # a typographer's apostrophe
        ("It will arrive tomorrow.", replace(UPSET, level=Level.CONCERNED), False),
        ("It will arrive tomorrow.", replace(UPSET, speaker="agent"), False),
        ("It will arrive tomorrow.", None, False),
    ],
)
def test_an_upset_turn_wants_acknowledgement(text, before, missed):
    remarks = BOOK.check_agent(Turn("agent", text), prediction(), before)
    assert bool(remarks) == missed
    assert BOOK.check_agent(Turn("customer", text), prediction(), before) == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('trigger = "delay"', 'trigger = "delays"', "'delays', which is none of"),
        ("levels = [4]", "levels = [5]", "levels 0 to 4, not [5]"),
        ('channels = ["phone"]', 'channels = ["fax"]', "'fax', which is none of"),
        ('["boundary", "calm", "options"]', '["hug"]', "unknown technique 'hug'"),
        ("[techniques.calm]", "[technique.calm]", "unknown key 'technique'"),
        ('why = "Jargon', 'because = "Jargon', "techniques.plain: unknown key 'because'"),
        ('does = "Everyday', 'does = "" # "Everyday', "techniques.plain.does must be a text"),
        ("levels = [0, 1]", "levels = [0]", "no entry for trigger 'billing' at level 1 by phone"),
        ("say = [", "says = [", "unknown key 'says'"),
        ("avoid = [", "avoid = 3 # [", "entries[1].avoid must be a list of texts, not 3"),
        ("[channels]", "[channels", "is not TOML"),
        ('phone = "Speak', 'fax = "Speak', "channels: unknown key 'fax'"),
        ("after = [", "before = [", "checklists: unknown key 'before'"),
        ('technique = "options"', 'technique = ["options"]', "unknown technique ['options']"),
        ("[provocations.policy]", "[provocations.rudeness]", "'rudeness', which is none of"),
    ],
)
def test_a_wrong_playbook_is_refused_by_file_and_place(tmp_path, old, new, said):
    text = PLAYBOOK_FILE.read_text()
    assert old in text
    path = tmp_path / "playbook.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(SettingsError) as refused:
        Playbook.read(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_an_unknown_channel_is_refused():
    with pytest.raises(SettingsError, match="channel must be one of phone"):
        BOOK.advise(Action.WATCH, UPSET, "fax")

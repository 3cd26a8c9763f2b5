"""One conversation after the public schema of every format: each reads as the same turns."""

import json
from base64 import b64encode
from pathlib import Path

import pytest

from deesc_model import InvalidInputError, Turn
from deesc_model.transcripts import TRANSCRIPT_FORMATS, parse_transcript, read_transcript
from deesc_model.transcripts.document import Document
from deesc_model.transcripts.markup import html_to_text
from deesc_model.transcripts.quotations import cut_quotations

FIXTURES = Path(__file__).parents[1] / "fixtures" / "transcripts"

TURNS = (
    Turn(
        "customer", "Hello, my broadband has been down since Monday and nobody has called me back."
    ),
    Turn("agent", "Good morning. Our terms allow up to five working days for a repair."),
    Turn(
        "customer",
        "I don't care about your terms! I work from home and you promised an engineer for"
        " yesterday.",
    ),
    Turn(
        "agent",
        "You are right, the visit was missed and I am sorry. I will send an engineer tomorrow"
        " before noon.",
    ),
    Turn("customer", "Fine. But if nobody comes I am switching, and I want to speak to a manager."),
    Turn(
        "agent",
        "Understood. I'll call you at 1 pm tomorrow to check, and we will take £12.50 off this"
        " month's bill.",
    ),
    Turn("customer", "Okay, thank you. That helps."),
)

# File, format, names of the customer, id, what is left out.
WHOLE = [
    ("contact_lens_voice.json", "amazon", (), "contact-voice-1", {}),
    (
        "contact_lens_chat.json",
        "amazon",
        (),
        "contact-chat-1",
        {"events": 1, "system messages": 1, "attachments and cards": 1},
    ),
    ("transcribe_call_analytics.json", "amazon", (), "call-job-1", {}),
    ("google_conversation.json", "google", (), "conv-77", {}),
    ("google_ingestion.json", "google", (), "google_ingestion", {}),
    ("genesys.json", "genesys", (), "gen-4411", {"system messages": 1}),
    ("zendesk_api.json", "zendesk", (), "zendesk_api", {"internal notes": 1}),
    ("zendesk_export.jsonl", "zendesk", (), "3021", {"internal notes": 1}),
    ("intercom.json", "intercom", (), "6650", {"internal notes": 1, "events": 1}),
    ("call.vtt", "captions", ("robin",), "call", {}),
    ("call.srt", "captions", (), "call", {}),
    ("thread.mbox", "email", ("Robin@example.com",), "thread", {}),
    ("chat.txt", "text", (), "chat", {"lines before the first speaker": 1}),
]


def joined(turns):
    """Line breaks are how a format wraps a text."""
    return tuple(Turn(turn.speaker, " ".join(turn.text.split())) for turn in turns)


def parse(text, *customers, raw=None, name=None):
    data = text.encode() if raw is None else raw
    return parse_transcript("talk", data, customers=customers, format_name=name)


@pytest.mark.parametrize(("name", "kind", "customers", "identity", "left_out"), WHOLE)
def test_every_format_reads_as_the_same_turns(name, kind, customers, identity, left_out):
    conversation = read_transcript(str(FIXTURES / name), customers=customers)[0]
    assert joined(conversation.turns) == TURNS
    assert conversation.conversation_id == identity
    assert conversation.left_out == left_out
    document = Document.from_bytes((FIXTURES / name).read_bytes())
    assert next(item.name for item in TRANSCRIPT_FORMATS if item.fits(document)) == kind


@pytest.mark.parametrize("name", [row[0] for row in WHOLE if row[0].endswith((".json", ".jsonl"))])
def test_a_json_file_fits_one_format_only(name):
    document = Document.from_bytes((FIXTURES / name).read_bytes())
    assert sum(item.fits(document) for item in TRANSCRIPT_FORMATS) == 1


def test_a_single_mail_is_one_turn_without_what_it_quotes():
    (conversation,) = read_transcript(FIXTURES / "message.eml", customers=["robin@example.com"])
    assert joined(conversation.turns) == TURNS[2:3]
    assert conversation.metadata["subject"] == "Re: Broadband down since Monday"


def test_an_export_of_several_tickets_is_several_conversations():
    first, second = read_transcript(FIXTURES / "zendesk_export.jsonl")
    assert (first.conversation_id, second.conversation_id) == ("3021", "3022")
    assert [turn.speaker for turn in second.turns] == ["customer", "agent"]


def test_conversations_without_an_id_in_one_file_are_told_apart():
    talk = {"entries": [{"text": "late", "role": "CUSTOMER"}]}
    silent = {"entries": [{"text": " ", "role": "CUSTOMER"}]}
    source = "\n".join(map(json.dumps, (talk, silent, {**talk, "name": "x/c7"}, talk)))
    assert [item.conversation_id for item in parse(source)] == ["talk-1", "c7", "talk-2"]


def test_a_call_carries_loudness_interruptions_and_speed():
    (conversation,) = read_transcript(FIXTURES / "contact_lens_voice.json")
    assert conversation.spoken[2].metadata == {
        "begin_ms": 10400,
        "end_ms": 15700,
        "loudness": [72.5, 78.25],
        "speaker_words_per_minute": 196,
        "interruptions": 1,
    }
    assert conversation.spoken[1].metadata["loudness"] == [71.5, None]
    assert [item.metadata["interruptions"] for item in conversation.spoken] == [0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("contact_lens_voice.json", "negative neutral negative mixed neutral positive positive"),
        ("contact_lens_chat.json", "negative neutral negative mixed neutral positive positive"),
        ("google_conversation.json", "negative - negative - neutral - positive"),
        ("genesys.json", "negative - negative - neutral - positive"),
        ("intercom.json", "- - - - - - -"),
    ],
)
def test_the_vendors_sentiment_comes_along(name, expected):
    (conversation,) = read_transcript(FIXTURES / name)
    assert " ".join(item.vendor_sentiment or "-" for item in conversation.spoken) == expected


def test_a_file_that_fits_nothing_is_told_what_was_looked_for():
    with pytest.raises(InvalidInputError) as caught:
        parse("once upon a time")
    for item in TRANSCRIPT_FORMATS:
        assert item.looks_for in str(caught.value)


def test_broken_json_is_said_to_be_broken():
    with pytest.raises(InvalidInputError, match="begins like JSON, but: Expecting"):
        parse('{"Transcript": [}')


def test_unknown_speakers_are_asked_for_by_name():
    with pytest.raises(InvalidInputError, match=r"--customer NAME; its speakers are 'Ida', 'Lee'"):
        parse("Ida: late again\nLee: sorry")
    (conversation,) = parse("Ida: late again\nLee: sorry", "IDA")
    assert [turn.speaker for turn in conversation.turns] == ["customer", "agent"]
    with pytest.raises(InvalidInputError, match="no speaker is called 'Max'"):
        parse("Ida: late again\nLee: sorry", "Max")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"Transcript": [{"ParticipantRole": "AGENT", "Content": 5}]}', "Transcript[0].Content"),
        ('{"entries": [{"text": "x", "role": ["AGENT"]}]}', "entries[0].role"),
        ('{"comments": [{"author_id": 1.5, "body": "x"}]}', "comments[0].author_id"),
        ('{"conversation_parts": {"conversation_parts": "x"}}', "conversation_parts.conver"),
        ('{"transcripts": [{"phrases": [{"text": "x", "startTimeMs": "x"}]}]}', "startTimeMs"),
        ("Agent: x\nCustomer: \x07", "line 2"),
        ("WEBVTT\n\n00:01 --> 00:02\n<v A>x", "line 3"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nx", "line 4"),
    ],
)
def test_what_is_wrong_is_named_by_place(text, place):
    with pytest.raises(InvalidInputError) as caught:
        parse(text)
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("line", "speaker", "text"),
    [
        ("[2026-03-02 10:02:11] Agent (Dana): hi", "agent", "hi"),
        ("10:02 AM - Customer: hi: there", "customer", "hi: there"),
        ("Customer Service : hi", "agent", "hi"),
        ("caller:\nhi", "customer", "hi"),
        ("Customer Care: hi", "agent", "hi"),
        ("Customer Services Team: hi", "agent", "hi"),
        ("2026-03-02T10:02:11Z Customer: hi", "customer", "hi"),
        ("[02/03/2026, 10:02:11] Customer: hi", "customer", "hi"),
        ("3/2/26, 10:02 PM - Customer: hi", "customer", "hi"),
        ("3/2/26, 10:02\u202fPM - Customer: hi", "customer", "hi"),
        ("[10:02:11\u202fam] Customer: hi", "customer", "hi"),
        ("Customer (mobile): hi", "customer", "hi"),
        ("Customer 12345 (Berlin, DE): hi", "customer", "hi"),
        ("Customer #12: hi", "customer", "hi"),
        ("Agent (Support) L2: hi", "agent", "hi"),
        ("Agent (Support) (Berlin): hi", "agent", "hi"),
        ("**Customer:** hi", "customer", "hi"),
        ("Customer [web]: hi", "customer", "hi"),
        ("Customer <r@x.example>: hi", "customer", "hi"),
        ("@customer: hi", "customer", "hi"),
    ],
)
def test_lines_name_their_speaker_in_many_ways(line, speaker, text):
    (conversation,) = parse(line)
    assert conversation.turns == (Turn(speaker, text),)


def test_where_roles_speak_other_colons_are_words():
    (conversation,) = parse("Agent: Do this.\nPlease note: bring your ID.\nCustomer: ok")
    assert [turn.text for turn in conversation.turns] == [
        "Do this.\nPlease note: bring your ID.",
        "ok",
    ]


@pytest.mark.parametrize(
    "field",
    ["Customer ID: 7714", "Support ticket: 77", "Customer number: 12", "Agent name : Dana"],
)
def test_what_is_told_of_a_role_is_no_speaker(field):
    dialogue = "Robin: It is late.\nDana: I am sorry."
    (conversation,) = parse(f"{field}\nCustomer Name: Robin\nAgent ID: 9\n{dialogue}", "Robin")
    assert conversation.turns == (
        Turn("customer", "It is late."),
        Turn("agent", "I am sorry."),
    )
    assert conversation.left_out == {"lines before the first speaker": 3}
    (conversation,) = parse(f"Customer: It is late.\n{field}\nAgent: I am sorry.")
    assert [turn.text for turn in conversation.turns] == [f"It is late.\n{field}", "I am sorry."]
    with pytest.raises(InvalidInputError, match="it fits no format"):
        parse(f"Invoice of March\n{field}")


def test_a_time_begins_a_turn_whoever_speaks():
    said = "[10:04] Customer: hm\n[10:05] System: Dana joined\n[10:06] {}: Our terms say ten days."
    (conversation,) = parse(f"[10:03] Agent: Hello.\n{said.format('Dana Support')}")
    assert [turn.speaker for turn in conversation.turns] == ["agent", "customer", "agent"]
    assert conversation.turns[1].text == "hm"
    assert conversation.left_out == {"system messages": 1}
    unknown = f"[10:03] Agent: Hello.\n{said.format('Dana')}"
    with pytest.raises(InvalidInputError, match="whether 'Dana' is the customer"):
        parse(unknown)
    assert parse(unknown, "customer")[0].turns[2] == Turn("agent", "Our terms say ten days.")


@pytest.mark.parametrize(
    "name",
    [
        "+49 170 1234567",
        "7714",
        "robin@x.example",
        "Vale, Robin",
        "~Robin",
        "Maria del Carmen de la Cruz",
        "Robin Case",
        "Mrs. Vale",
    ],
)
def test_after_a_time_any_name_is_a_speaker(name):
    said = f"[10:02] Agent: Hello\n[10:03] {name}: My bill is wrong, you thieves\n[10:04] Agent: ok"
    (conversation,) = parse(said, name)
    assert [turn.speaker for turn in conversation.turns] == ["agent", "customer", "agent"]
    with pytest.raises(InvalidInputError, match=r"line 2: .* whether '.*' is the customer"):
        parse(said + "\n[10:05] Customer: no")


@pytest.mark.parametrize(
    "name",
    ["+49 170 1234567", "robin@x.example", "Vale, Robin", "Robin | Acme", "[SPEAKER_00]"],
)
def test_numbers_and_addresses_speak_without_a_time(name):
    (conversation,) = parse(f"Dana: Hello\n{name}: My bill is wrong\nDana: ok", name)
    assert [turn.speaker for turn in conversation.turns] == ["agent", "customer", "agent"]
    cue = "00:0{}.000 --> 00:0{}.900\n{}: hm\n"
    cues = [cue.format(second, second, who) for second, who in enumerate(["Dana", name, "Dana"])]
    (conversation,) = parse("WEBVTT\n\n" + "\n".join(cues), name)
    assert [turn.speaker for turn in conversation.turns] == ["agent", "customer", "agent"]


def test_what_system_and_notes_say_is_in_nobodys_mouth():
    (conversation,) = parse("Agent: hi\nSystem: chat ended by agent\nCustomer: ok")
    assert [turn.text for turn in conversation.turns] == ["hi", "ok"]
    assert conversation.left_out == {"system messages": 1}
    noted = "[10:03] Note: sounds drunk\n[10:03] Internal note: again\n[10:03] Customer ID: 7"
    (conversation,) = parse(f"[10:02] Customer: Hello\n{noted}\n[10:04] Agent: I see")
    assert [turn.text for turn in conversation.turns] == ["Hello", "I see"]
    assert conversation.left_out == {"internal notes": 3}
    more = "[10:03] Note: sounds drunk\nprobably lying"
    (conversation,) = parse(f"[10:02] Customer: Hello\n{more}\n[10:04] Agent: I see")
    assert [turn.text for turn in conversation.turns] == ["Hello", "I see"]
    cue = "00:0{}.000 --> 00:0{}.900\n{}\n"
    said = ["System: This call is recorded", "Dana: hi", "Robin: late", "System: call ended"]
    cues = "\n".join(cue.format(second, second, text) for second, text in enumerate(said))
    (conversation,) = parse(f"WEBVTT\n\n{cues}", "Robin")
    assert conversation.turns == (Turn("agent", "hi"), Turn("customer", "late"))
    assert conversation.left_out == {"system messages": 2}
    told = "Messages are encrypted\n[10:03] Customer: Hello\n[10:04] Dana has joined the chat"
    (conversation,) = parse(f"[10:02] {told}\n[10:05] Agent: hi\nthere")
    assert [turn.text for turn in conversation.turns] == ["Hello", "hi\nthere"]
    assert conversation.left_out == {"system messages": 2}
    (conversation,) = parse("Customer: Hello\nAgent: Hi\nInternal note: lies\nand more")
    assert [turn.text for turn in conversation.turns] == ["Hello", "Hi"]
    assert conversation.left_out == {"internal notes": 2}


@pytest.mark.parametrize(
    ("time", "later"),
    [
        ("[10:02]", "[9:15]"),
        ("[9:58:59 am]", "[12:00:03 PM]"),
        ("10:02:33", "10:07:00"),
        ("02/03/2026, 9:31 -", "12/11/2026, 10:31 -"),
        ("2026-03-02 10:02", "2026-03-02 10:04"),
    ],
)
def test_times_in_a_message_are_told_from_those_of_the_export(time, later):
    said = "I can come at\n10:30 tomorrow\n14:00 Friday\nWhich one suits you?"
    joined = f"{later} Dana joined\nfrom the second team"
    (conversation,) = parse(f"{time} Agent: {said}\n{joined}\n{later} Customer: none")
    assert conversation.turns == (Turn("agent", said), Turn("customer", "none"))
    assert conversation.left_out == {"system messages": 2}


@pytest.mark.parametrize("lines", [1, 30])
def test_an_export_may_begin_with_what_the_system_says(lines):
    told = "12/03/2026, 10:02 - Messages and calls are end-to-end encrypted.\n" * lines
    said = "12/03/2026, 10:03 - Robin: late\n12/03/2026, 10:04 - Dana: sorry"
    (conversation,) = parse(told + said, "Robin")
    assert conversation.turns == (Turn("customer", "late"), Turn("agent", "sorry"))
    assert conversation.left_out == {"system messages": lines}
    with pytest.raises(InvalidInputError, match="it fits no format"):
        parse(told)


def test_where_times_tell_who_speaks_lines_without_one_are_words():
    said = "I live at\nStreet: Elm 4\nTown: Ashby\nFloor: 2"
    (conversation,) = parse(f"[10:02] Robin: {said}\n[10:03] Dana: Thanks.", "Robin")
    assert conversation.turns == (Turn("customer", said), Turn("agent", "Thanks."))
    dialogue = "[10:02] Robin: It is late.\n[10:03] Dana: I am sorry."
    (conversation,) = parse(f"Chat with: Dana\nChannel: web\n{dialogue}", "Robin")
    assert [turn.speaker for turn in conversation.turns] == ["customer", "agent"]
    assert conversation.left_out == {"lines before the first speaker": 2}


@pytest.mark.parametrize("answer", ["Lee: Sorry.", "Lee: Sorry.\nIda: You liar!"])
def test_where_no_times_tell_who_speaks_lines_with_one_are_words(answer):
    said = "What a day.\n10:02 I called: nobody"
    (conversation,) = parse(f"Ida: {said}\n{answer}", "Ida")
    assert conversation.turns[:2] == (Turn("customer", said), Turn("agent", "Sorry."))
    calls = "".join(f"\n{hour}:40 I called again: cut off" for hour in range(8, 18))
    (conversation,) = parse(f"Ida: {said}{calls}\n{answer}\nIda: Never.", "Ida")
    assert conversation.turns[0] == Turn("customer", said + calls)


@pytest.mark.parametrize(
    ("gone", "kind"),
    [
        *((f"{what} omitted", "attachments") for what in ("<Media", "image", "video", "audio")),
        *((f"{what} omitted", "attachments") for what in ("sticker", "GIF", "document")),
        ("This message was deleted", "deleted messages"),
        ("You deleted this message.", "deleted messages"),
    ],
)
def test_whatsapp_says_what_it_left_out(gone, kind):
    gone = gone.replace("<Media omitted", "<Media omitted>")
    told = "12/03/2026, 10:02 - {}: {}"
    lines = [told.format("Robin Vale", "late"), told.format("Shop", gone), "see there"]
    lines += [told.format("Robin Vale", gone), told.format("Robin Vale", f"{gone}, it says")]
    (conversation,) = parse("\n".join(lines), "Robin Vale")
    assert conversation.turns == (
        Turn("customer", "late"),
        Turn("agent", "see there"),  # a caption
        Turn("customer", f"{gone}, it says"),
    )
    assert conversation.left_out == {kind: 2}
    told = "[12/03/2026, 10:02:11] {}: {}"
    lines = [told.format("Robin Vale", "late"), told.format("Shop", f"\u200e{gone}")]
    for mark in ("", "\u200e"):  # before the line
        (conversation,) = parse(f"\n{mark}".join(lines), "Robin Vale")
        assert conversation.turns == (Turn("customer", "late"),)
        assert conversation.left_out == {kind: 1}


def test_what_is_told_after_a_time_is_no_name():
    said = "[10:02] Agent: Hi\n[10:03] Dana joined the conversation. Reason: transfer"
    (conversation,) = parse(f"{said}\n[10:04] Customer: ok")
    assert [turn.speaker for turn in conversation.turns] == ["agent", "customer"]
    plan = "Agent: Your way:\n10:30 depart from Berlin main station at the platform number: 7"
    (conversation,) = parse(f"{plan}\nCustomer: ok")
    assert [turn.speaker for turn in conversation.turns] == ["agent", "customer"]


def test_roles_above_a_conversation_are_not_its_speakers():
    head = "Customer: Robin Vale\nAgent: Dana\n"
    said = "Robin: My parcel is late.\nDana: I am sorry.\nRobin: Get me your manager."
    (conversation,) = parse(head + said, "Robin")
    assert [turn.speaker for turn in conversation.turns] == ["customer", "agent", "customer"]
    (conversation,) = parse("Customer: How?\nAgent: So.\nFirst: look.\nThen: write.\nThen: send.")
    assert [turn.speaker for turn in conversation.turns] == ["customer", "agent"]


def test_one_who_speaks_by_name_may_tell_facts():
    told = "My parcel is late.\nOrder number: 7714\nNote: I rang twice."
    (conversation,) = parse(f"Robin: {told}\nDana (mobile): I am sorry.", "Robin")
    assert conversation.turns == (Turn("customer", told), Turn("agent", "I am sorry."))


MAIL = "From: A <a@x.example>\nSubject: s\nContent-Type: text/plain; charset={}\n\n"


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("new\n\n> old\n> older\n", "new"),
        (
            "On Monday, B wrote:\n> question one\nanswer one\n> two\nanswer two\n",
            "answer one\nanswer two",
        ),
        ("new\n-----Original Message-----\nold\n", "new"),
        ("new\n________________________________\nFrom: B\n", "new"),
        ("new\n\nFrom: B\nSent: Monday\nTo: A\nSubject: s\n\nold\n", "new"),
        ("new\n-- \nA, Director\n", "new"),
        ("On the phone your colleague wrote: nothing.\nSo I ask.", None),
        ("From the start it was late.\n\nFrom here on too.", None),
        ("new\nOn Mon, 2 Mar 2026 at 10:02, B <b@x.example>\nwrote:\nold", "new"),
        ("new\nSent from my iPhone\nold", "new"),
        ("On Monday your colleague wrote:\nyou get it back.\nSo I ask.", None),
        ("Sent from my bank on Monday.\nSo I ask.", None),
        ("neu\n\nVon: Support\nGesendet: Montag\nAn: A\nBetreff: s\n\nalt\n", "neu"),
        ("nouveau\n\n*De :* B\n*Envoyé :* lundi\n*À :* A\n*Objet :* s\n\nvieux\n", "nouveau"),
        ("neu\n-----Ursprüngliche Nachricht-----\nalt\n", "neu"),
        ("neu\nAm 2.3.26 um 10:02 schrieb B <b@x.example>:\n> alt\n", "neu"),
        ("nouveau\nLe lun. 2 mars 2026 à 10:02, B <b@x.example> a écrit :\n> vieux\n", "nouveau"),
        ("new\n\nFrom: B\nSent: Monday\nTo: A,\n C\nCc: D\nCc: E\nSubject: s\n\nold\n", "new"),
        ("From: here\nit was late.\nSubject: that.", None),
        ("Order 1 came.\n--\nOrder 2 did not, you thieves, and I will sue you all", None),
        ("new\n--\nA, Director\n", "new"),
        ("Name\n____________________\nRobin", None),
        (">:( late\n>3 weeks now", None),
    ],
)
def test_quotations_and_signatures_are_cut(body, kept):
    (conversation,) = parse(MAIL.format("utf-8") + body, "a@x.example")
    (turn,) = conversation.turns
    assert turn.text == (kept or body)


def test_a_long_mail_costs_as_much_a_line_as_a_short_one():
    stripped = 0

    class Line(str):
        __slots__ = ()

        def strip(self, *characters):
            nonlocal stripped
            stripped += 1
            return super().strip(*characters)

    def work(parts):
        nonlocal stripped
        stripped = 0
        body = ["It was late, and nobody came.", "--", "_" * 20, "From the start.", ""]
        assert cut_quotations([Line(line) for line in body * parts]).count("nobody") == parts
        return stripped

    assert work(500) < 11 * work(50)


@pytest.mark.parametrize(("charset", "said"), [("windows-1252", None), ("klingon", "unknown")])
def test_the_charset_of_a_mail_is_used_or_named(charset, said):
    raw = MAIL.format(charset).encode() + b"caf\xe9\n"
    if said is None:
        assert parse("", "a@x.example", raw=raw)[0].turns[0].text == "café"
    else:
        with pytest.raises(InvalidInputError, match=said):
            parse("", "a@x.example", raw=raw)


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("iso-8859-1", "that\u2019s".encode("cp1252")),
        ("latin1", "that\u2019s".encode("cp1252")),
        ("us-ascii", "that\u2019s".encode()),
        ("us-ascii", "that\u2019s".encode("cp1252")),
        ("", "that\u2019s".encode("cp1252")),
        ("gb2312", "that\u2019s".encode("gb18030")),
    ],
)
def test_charsets_are_those_that_programs_mean(charset, body):
    head = MAIL.format(charset) if charset else "From: A <a@x.example>\nSubject: s\n\n"
    raw = head.encode() + body + b"\n"
    assert parse("", "a@x.example", raw=raw)[0].turns[0].text == "that\u2019s"


def test_a_mail_with_broken_bytes_names_message_and_charset():
    raw = MAIL.format("utf-8").encode() + b"caf\xe9\n"
    with pytest.raises(InvalidInputError, match="message 1: its text is not utf-8"):
        parse("", "a@x.example", raw=raw)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("charset", ["utf-8", "windows-1252"])
def test_a_mail_in_a_file_with_a_byte_order_mark_is_read(encoding, charset):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    raw = f"{mark}{MAIL.format(charset)}café\n".encode(encoding)
    (conversation,) = parse("", "a@x.example", raw=raw)
    assert conversation.turns == (Turn("customer", "café"),)
    assert conversation.metadata["subject"] == "s"
    head = MAIL.format(charset).replace("\n\n", "\nContent-Transfer-Encoding: base64\n\n")
    raw = f"{mark}{head}{b64encode('café'.encode(charset)).decode()}\n".encode(encoding)
    assert parse("", "a@x.example", raw=raw)[0].turns == (Turn("customer", "café"),)
    raw = f"{mark}{MAIL.format('é')}café\n".encode(encoding)
    assert parse("", "a@x.example", raw=raw)[0].turns == (Turn("customer", "café"),)
    box = f"{mark}From a@x.example Mon Mar  2 09:00:00 2026\n{MAIL.format(charset)}café\n"
    assert parse("", "a@x.example", raw=box.encode(encoding))[0].turns[0].text == "café"


def mail_of(*parts, kind="mixed"):
    """A mail of parts, each a content type and a body."""
    bodies = "".join(f"--b{kind}\nContent-Type: {content}\n\n{body}\n" for content, body in parts)
    head = f"Content-Type: multipart/{kind}; boundary=b{kind}"
    return head, f"{bodies}--b{kind}--\n"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([("text/plain", "before"), ("image/png", "x"), ("text/plain", "after")], "before\nafter"),
        ([mail_of(("text/plain", " "), ("text/html", "<p>late</p>"), kind="alternative")], "late"),
        ([mail_of(("text/html", "<p>a</p>"), ("text/plain", "b"), kind="alternative")], "b"),
        (
            [
                mail_of(
                    ("text/plain", "This e-mail needs an HTML viewer."),
                    ("text/html", "<p>late</p>"),
                    kind="alternative",
                )
            ],
            "late",
        ),
        (
            [
                ("text/plain\nContent-Disposition: inline; filename=log.txt", "log"),
                ("text/plain", "hi"),
            ],
            "hi",
        ),
        (
            [
                mail_of(
                    ("text/html; charset=klingon", "<p>a</p>"),
                    ("text/plain", "b"),
                    kind="alternative",
                )
            ],
            "b",
        ),
        ([("text/html", "<p>see below</p>"), ("message/rfc822", "\nold")], "see below"),
        ([("text/plain\nContent-Disposition: attachment", "log"), ("text/plain", "hi")], "hi"),
        (
            [
                (
                    "text/html",
                    "<p>Hello,</p>On 3/2/26 10:02, B wrote:<br><blockquote>old"
                    "<blockquote>older</blockquote></blockquote><p>It is still late.</p>",
                )
            ],
            "Hello,\nIt is still late.",
        ),
    ],
)
def test_a_mail_of_several_parts_is_read_as_a_reader_sees_it(parts, said):
    nested = [(kind.removeprefix("Content-Type: "), body) for kind, body in parts]
    head, body = mail_of(*nested)
    source = f"From: A <a@x.example>\nSubject: s\n{head}\n\n{body}"
    assert parse(source, "a@x.example")[0].turns == (Turn("customer", said),)


def test_a_mail_nested_too_deeply_is_refused():
    head, body = mail_of(("text/plain", "x"))
    for level in range(2000):
        head, body = mail_of((head.removeprefix("Content-Type: "), body), kind=f"x{level}")
    with pytest.raises(InvalidInputError, match="nested too deeply"):
        parse(f"From: A <a@x.example>\nSubject: s\n{head}\n\n{body}", "a@x.example")


def test_the_address_of_a_name_with_an_encoded_comma_is_read():
    source = MAIL.format("utf-8").replace("A <a@", "=?utf-8?q?M=C3=BCller=2C_A?= <a@")
    (conversation,) = parse(source + "late", "a@x.example")
    assert conversation.spoken[0].name == "a@x.example"
    assert conversation.spoken[0].metadata["display_name"] == "Müller, A"


def test_a_paragraph_in_a_box_that_begins_with_from_is_no_new_mail():
    box = "From a@x.example Mon Mar  2 09:00:00 2026\n" + MAIL.format("utf-8")
    (conversation,) = parse(box + "It was late.\n\nFrom the start.\nTruly: late.", "a@x.example")
    assert conversation.turns[0].text.endswith("From the start.\nTruly: late.")


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<html><head><title>t</title><body>late</body>", "late"),
        ("<table><tr><td>Order</td><td>7714</td></tr></table>", "Order\n7714"),
        ("<p>new</p><blockquote><p>old</p></blockquote>", "new"),
        ("new<blockquote><head><title>t</title></head><body>old</body></blockquote>", "new"),
        ("new<blockquote><head><title>t</title><p>old</blockquote><p>end</p>", "new\nend"),
        ("<p>hi</p><![foo[x]]><p>late</p><![if !mso]>again<![endif]>", "hi\nlate\nagain"),
    ],
)
def test_html_is_read_as_a_reader_sees_it(markup, text):
    assert html_to_text(markup) == text


def test_words_below_the_name_of_their_speaker_are_that_speakers():
    source = (
        "WEBVTT\n\n00:01.000 --> 00:02.000\nAgent: hi\n\n00:03.000 --> 00:04.000\nCustomer:\nlate\n"
    )
    assert parse(source)[0].turns == (Turn("agent", "hi"), Turn("customer", "late"))


def test_captions_may_have_one_digit_of_hours():
    times = "0:00:01,000 --> 0:00:02,500"
    (conversation,) = parse(f"1\n{times}\nCustomer: late\n")
    assert conversation.turns == (Turn("customer", "late"),)
    assert conversation.spoken[0].metadata == {"begin_ms": 1000, "end_ms": 2500}


def test_words_after_an_empty_line_of_a_cue_are_kept_in_subrip():
    cue = "00:00:01,000 --> 00:00:02,000\nCustomer: late\n\n\nagain\n\n7\n\n"
    source = f"1\n{cue}2\n{cue.replace('Customer', 'Agent')}"
    assert parse(source)[0].turns == (
        Turn("customer", "late again 7"),
        Turn("agent", "late again 7"),
    )
    note = "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Customer>late\n\nNOTE again\n"
    assert parse(note)[0].turns == (Turn("customer", "late"),)


def test_phrases_without_index_or_time_stay_in_order_and_without_sentiment():
    phrases = [
        {"text": "first", "participantPurpose": "external", "startTimeMs": 5},
        {"text": "second", "participantPurpose": "botflow"},
    ]
    analytics = {"sentiment": [{"sentiment": -1.0}]}
    source = {"transcripts": [{"phrases": phrases, "analytics": analytics}]}
    (conversation,) = parse(json.dumps(source))
    assert conversation.turns == (Turn("customer", "first"), Turn("agent", "second"))
    assert [item.vendor_sentiment for item in conversation.spoken] == [None, None]


def test_a_note_that_reopens_is_internal():
    part = {"part_type": "note_and_reopen", "body": "watch him", "author": {"type": "admin"}}
    source = {
        "source": {"body": "late", "author": {"type": "user"}},
        "conversation_parts": {"conversation_parts": [part]},
    }
    (conversation,) = parse(json.dumps(source))
    assert conversation.turns == (Turn("customer", "late"),)
    assert conversation.left_out == {"internal notes": 1}


def comments(*bodies, **more):
    """A ticket of comments by the requester, 1, and an agent, 2, in turns."""
    return json.dumps(
        {
            "id": 9,
            "requester_id": 1,
            "comments": [
                {"author_id": 1 + number % 2, "plain_body": body, **more}
                for number, body in enumerate(bodies)
            ],
        }
    )


def test_a_chat_in_a_comment_is_its_messages():
    chat = "Chat started\n(10:02:33) Web User 5f3: hello\nagain\n(10:02:50) Dana: You are a liar"
    (conversation,) = parse(comments(chat))
    assert conversation.turns == (
        Turn("customer", "hello\nagain"),
        Turn("agent", "You are a liar"),
    )
    unknown = comments(chat.replace("Web User 5f3", "Robin"))
    with pytest.raises(InvalidInputError, match="whether 'Robin' is the customer"):
        parse(unknown)
    assert parse(unknown, "Robin")[0].turns == conversation.turns


def test_a_comment_that_tells_when_what_happened_is_its_authors():
    log = "10:02 Called support: nobody answered\n10:40 Called again: cut off"
    quoted = "Your chat was a joke:\n10:02 Customer: hello\n10:03 Agent: go away"
    (conversation,) = parse(comments(log, "I am sorry.", quoted))
    assert conversation.turns == (
        Turn("customer", log),
        Turn("agent", "I am sorry."),
        Turn("customer", quoted),
    )


@pytest.mark.parametrize(
    "above",
    [
        "",
        "Chat started: 2026-03-02 10:02 AM UTC\n\n",
        "Conversation with Web User 5f3\n\n",
        "(10:02:30) *** Web User 5f3 joined the chat ***\n",
    ],
)
def test_what_the_system_writes_above_a_chat_is_nobodys(above):
    chat = f"{above}(10:02:33) Web User 5f3: hello\n(10:02:50) Dana: hi"
    (conversation,) = parse(comments(chat))
    assert conversation.turns == (Turn("customer", "hello"), Turn("agent", "hi"))


def test_of_a_comment_neither_calls_nor_quotations_are_said():
    said = "I&nbsp;wait &amp; wait.\n\nOn Mon, 2 Mar 2026 at 10:02, B <b@x.example> wrote:\n> liar"
    (conversation,) = parse(comments(said))
    assert conversation.turns == (Turn("customer", "I wait & wait."),)
    with pytest.raises(InvalidInputError, match="nobody says anything"):
        parse(comments("Inbound call from +49. Listen to the recording", type="VoiceComment"))


def test_plain_bodies_of_intercom_stay_as_they_are():
    author = {"type": "user"}
    source = {"source": {"body": "x <y and it is late\nagain > now", "author": author}}
    (conversation,) = parse(json.dumps(source | {"conversation_parts": {}}))
    assert conversation.turns == (Turn("customer", "x <y and it is late\nagain > now"),)


def test_bots_of_amazon_are_agents():
    entries = [
        {"ParticipantId": "1", "ParticipantRole": "SYSTEM", "DisplayName": "BOT", "Content": "No."},
        {"ParticipantId": "1", "ParticipantRole": "SYSTEM", "Content": "Dana joined"},
        {"ParticipantId": "2", "ParticipantRole": "CUSTOM_BOT", "Content": "Hm."},
        {"ParticipantId": "3", "ParticipantRole": "SUPERVISOR", "Content": "I am here."},
    ]
    (conversation,) = parse(json.dumps({"Transcript": entries}))
    assert conversation.turns == tuple(Turn("agent", text) for text in ("No.", "Hm.", "I am here."))
    assert conversation.left_out == {"system messages": 1}


def test_who_is_on_which_channel_of_a_call_is_read():
    segments = [{"text": "late", "channelTag": 1}, {"text": "sorry", "channelTag": 2}]
    source = {"transcript": {"transcriptSegments": segments}}
    source["callMetadata"] = {"customerChannel": 1, "agentChannel": 2}
    assert parse(json.dumps(source))[0].turns == (Turn("customer", "late"), Turn("agent", "sorry"))


def test_a_call_of_many_has_facts_by_the_id_of_each():
    source = {
        "Participants": [{"ParticipantId": "7-1", "ParticipantRole": "CUSTOMER"}],
        "Transcript": [{"ParticipantId": "7-1", "Content": "late"}],
        "ConversationCharacteristics": {
            "TalkSpeed": {"DetailsByParticipant": {"7-1": {"AverageWordsPerMinute": 90}}}
        },
    }
    (conversation,) = parse(json.dumps(source))
    assert conversation.spoken[0].metadata == {"speaker_words_per_minute": 90}


def test_utf16_files_are_read():
    raw = "Agent: naïve 😡".encode("utf-16")
    assert parse("", raw=raw)[0].turns == (Turn("agent", "naïve 😡"),)


def test_a_format_can_be_named():
    with pytest.raises(InvalidInputError, match="no format is called 'fax'"):
        parse("x", name="fax")
    with pytest.raises(InvalidInputError, match="nobody says anything"):
        parse("x", name="captions")

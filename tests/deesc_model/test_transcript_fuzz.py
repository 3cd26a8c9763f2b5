"""Mutated fixtures give a clear error or a correct parse, in every format.

Two hundred mutants a format; `DEESC_FUZZ_EXAMPLES=5000` runs as many as the number says.
"""

import html
import json
import os
import random
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deesc_model import InvalidInputError
from deesc_model.transcripts import TRANSCRIPT_FORMATS, parse_transcript
from deesc_model.transcripts.document import Document

FIXTURES = Path(__file__).parents[1] / "fixtures" / "transcripts"
EXAMPLES = int(os.environ.get("DEESC_FUZZ_EXAMPLES", "200"))
SEEDS = st.integers(min_value=0, max_value=2**63 - 1)

FILES = {
    "amazon": (
        "contact_lens_voice.json",
        "contact_lens_chat.json",
        "transcribe_call_analytics.json",
    ),
    "google": ("google_conversation.json", "google_ingestion.json"),
    "genesys": ("genesys.json",),
    "zendesk": ("zendesk_api.json", "zendesk_export.jsonl"),
    "intercom": ("intercom.json",),
    "captions": ("call.vtt", "call.srt"),
    "email": ("thread.mbox", "message.eml"),
    "text": ("chat.txt",),
}
CUSTOMERS = {"call.vtt": ("Robin",), "thread.mbox": ("robin@example.com",)}
CUSTOMERS["message.eml"] = CUSTOMERS["thread.mbox"]
SCRAPS = (
    *(b"\x00", b"\xff\xfe", b"\xe9", b"\xed\xa0\x80", b"\r", b"\n\n", b"\xe2\x80\xa8", b"\\ud800"),
    *(b"-->", b"<v ", b"<v X>", b"</v>", b"<blockquote>", b"<!--", b"<![", b"&#xD800;", b"&#0;"),
    *(b"WEBVTT", b"Agent:", b"From ", b"On x wrote:", b"> ", b"-- \n", b"=?utf-8?b?!?="),
    *(
        b"99999:00:00.000",
        b"charset=unicode_escape",
        b"charset=idna",
        b"base64",
        b"{",
        b"]",
        b'"',
        b",",
        b"NaN",
        b"1e999",
    ),
)
VALUES = (
    None,
    True,
    -1,
    0.5,
    10**30,
    1e308,
    "",
    " ",
    "x",
    "CUSTOMER",
    "\ud800",
    "\x07",
    [],
    {},
    [None],
)


def mutate_bytes(raw: bytes, rng: random.Random) -> bytes:
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((0, 1, 5, 60, 600)))
        scrap = rng.choice((b"", rng.choice(SCRAPS), rng.randbytes(2), bytes(data[start:end]) * 2))
        data[start:end] = scrap
    return bytes(data)


def mutate_json(raw: bytes, rng: random.Random) -> bytes:
    lines = raw.decode().splitlines() if raw.startswith(b'{"') else [raw.decode()]
    roots = [json.loads(line) for line in lines]
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = [(roots, key) for key in range(len(roots))]
        for container, key in places:
            inner = container[key]
            if isinstance(inner, dict | list):
                places += [
                    (inner, k) for k in (inner if isinstance(inner, dict) else range(len(inner)))
                ]
        container, key = rng.choice(places)
        action = rng.randrange(3)
        if action == 0 and container is not roots:
            del container[key]
        elif action == 1 and isinstance(container, list):
            container.insert(key, deepcopy(container[rng.randrange(len(container))]))
        else:
            container[key] = deepcopy(rng.choice(VALUES))  # else a list may come to hold itself
    return "\n".join(json.dumps(root) for root in roots).encode()


def is_within(text: str, whole: str) -> bool:
    """Whether the letters of a text stand in this order in another."""
    letters = iter(whole)
    return all(letter in letters for letter in text if not letter.isspace())


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [html.unescape(value), value] if isinstance(value, str) else []


def sources(document: Document) -> list[str]:
    """The strings of a JSON file, or the whole text of another, that a turn can come from."""
    if document.objects:
        return strings([node.value for node in document.objects])
    texts = [document.text, document.raw.decode("cp1252", "replace")]  # what mails may say and mean
    return [*texts, *map(html.unescape, texts)]


@pytest.mark.parametrize("kind", FILES)
def test_a_mutant_is_read_correctly_or_refused_clearly(kind):
    outcomes = {"read": 0, "refused": 0}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(SEEDS)
    def check(seed: int) -> None:
        rng = random.Random(seed)
        name = rng.choice(FILES[kind])
        raw = (FIXTURES / name).read_bytes()
        structured = name.endswith((".json", ".jsonl")) and rng.random() < 0.5
        mutant = (mutate_json if structured else mutate_bytes)(raw, rng)
        try:
            found = parse_transcript(
                "x", mutant, customers=CUSTOMERS.get(name, ()), format_name=kind
            )
        except InvalidInputError as error:
            outcomes["refused"] += bool(str(error).strip())
            return
        outcomes["read"] += 1
        encoded = kind == "email" and b"base64" in raw + mutant
        whole = sources(Document.from_bytes(mutant))
        for conversation in found:
            assert conversation.spoken
            for turn in conversation.turns:
                assert encoded or any(is_within(turn.text, text) for text in whole)

    check()
    assert min(outcomes.values()) > 0


@pytest.mark.parametrize("kind", FILES)
def test_any_bytes_can_be_asked_for_their_format(kind):
    (chosen,) = (item for item in TRANSCRIPT_FORMATS if item.name == kind)

    @settings(max_examples=min(EXAMPLES, 100), deadline=None, database=None)
    @given(st.binary(max_size=60))
    def check(raw: bytes) -> None:
        try:
            document = Document.from_bytes(raw)
        except InvalidInputError:
            return
        chosen.fits(document)

    check()

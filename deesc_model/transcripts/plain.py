"""Plain text in which each turn begins with who speaks."""

import re
from collections import Counter
from itertools import dropwhile, islice
from typing import Final

from deesc_model.transcripts.conversation import Message, Transcript, TranscriptFormat
from deesc_model.transcripts.dialogue import (
    is_field,
    is_note,
    is_system,
    is_timed,
    names_that_speak,
    speaker_and_text,
    time_form,
)
from deesc_model.transcripts.document import Document
from deesc_model.transcripts.speakers import role_of_name

_HEAD: Final = 20
"""Lines among which a speaker is looked for."""

_MARK: Final = "\u200e"
"""Left to right: WhatsApp puts it before what it says itself, and before such a line."""

_MEDIA: Final = re.compile(
    r"<media omitted>|(image|video|audio|sticker|gif|document) omitted", re.IGNORECASE
)
_DELETED: Final = re.compile(
    r"(this message was deleted|you deleted this message)\.?", re.IGNORECASE
)
"""What WhatsApp writes in the place of what was said."""


def fits(document: Document) -> bool:
    """Look for a speaker in the first line, or for one who names a role in the first few.

    What the system says at a time, such as that messages are encrypted, may come before.
    """
    lines = ((line, speaker_and_text(line)) for line in _lines(document) if line.strip())
    said = dropwhile(lambda pair: pair[1] is None and is_timed(pair[0]), lines)
    return not document.objects and any(
        found and (index == 0 or (role_of_name(found.name) is not None and not is_field(found)))
        for index, (_, found) in enumerate(islice(said, _HEAD))
    )


def read(document: Document) -> list[Transcript]:
    """Read one conversation; a line without a speaker goes on with the turn before it."""
    lines = [(line, speaker_and_text(line)) for line in _lines(document)]
    named = [found for _, found in lines if found]
    speakers = names_that_speak(named)
    forms = {time_form(line) for line, found in lines if found and found.name in speakers}
    times = "" not in forms
    turns: list[tuple[int, str, list[str]]] = []
    left_out: Counter[str] = Counter()
    aside = ""  # what it is where nobody says it to the other
    for number, (line, found) in enumerate(lines, start=1):
        if found and is_system(found):
            left_out["system messages"] += 1
            aside = "system messages" if found.timed else ""
        elif found and (is_note(found) or (found.timed and is_field(found))):
            left_out["internal notes"] += 1
            aside = "internal notes"
        elif found and found.name in speakers:
            gone = _what_is_gone(found.said)
            if gone:
                left_out[gone] += 1
            # A picture's caption follows it on lines of its own: that is said.
            turns.append((number, found.name, ["" if gone else found.said]))
            aside = ""
        elif times and time_form(line) in forms:  # "14:00 is fine" below "[10:02]" is a message's
            left_out["system messages"] += 1
            aside = "system messages"
        elif aside:
            left_out[aside] += bool(line.strip())
        elif turns:
            turns[-1][2].append(line)
        elif line.strip():
            left_out["lines before the first speaker"] += 1
    messages = [
        Message(name, text, f"line {number}", role_of_name(name))
        for number, name, said in turns
        if (text := "\n".join(said).strip())
    ]
    return [Transcript("", messages, left_out)]


def _lines(document: Document) -> list[str]:
    return [line.removeprefix(_MARK) for line in document.lines()]


def _what_is_gone(said: str) -> str | None:
    """Return what stood where WhatsApp only says that something did, or None."""
    said = said.removeprefix(_MARK).strip()
    if _MEDIA.fullmatch(said):
        return "attachments"
    return "deleted messages" if _DELETED.fullmatch(said) else None


FORMAT = TranscriptFormat(
    "text", 'plain text: lines such as "Agent: …" and "Customer: …", or "Dana: …"', fits, read
)

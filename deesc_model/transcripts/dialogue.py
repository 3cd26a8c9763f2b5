"""Lines that begin with who speaks: "Agent: …", "[2026-03-02, 10:02] Dana (customer): …"."""

import re
from collections.abc import Iterable
from typing import Final

from deesc_model.transcripts.speakers import role_of_name

_DATE: Final = r"(?:\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:T|,? ))?"
_ZONE: Final = r"(?: ?[AaPp][Mm]|Z|[+-]\d\d:?\d\d)?"
_TIME: Final = rf"{_DATE}\d{{1,2}}:\d\d(?::\d\d)?(?:[.,]\d{{1,6}})?{_ZONE}"
_SPEAKER: Final = re.compile(
    rf"\s*(?:[\[(]?{_TIME}[\])]?\s+(?:-\s+)?)?"
    r"(?P<name>[^\W\d_](?:[\w.'’()/ -]{0,38}[\w.)])?)\s?:(?:\s+(?P<said>.*))?"
)
_MAX_WORDS: Final = 4
_FIELD: Final = re.compile(
    r"\b(id|no|number|name|e-?mail|phone|mobile|address|account|ticket|case|ref|reference|since"
    r"|type|status|tier|plan|code|date|time)s?\W*$",
    re.IGNORECASE,
)


def speaker_and_text(line: str) -> tuple[str, str] | None:
    """Return the speaker that a line names and what is said, or None if it names nobody."""
    found = _SPEAKER.fullmatch(line)
    if not found or len(found["name"].split()) > _MAX_WORDS:
        return None
    return found["name"], (found["said"] or "").strip()


def is_field(name: str) -> bool:
    """Return whether a name says a fact about a role, as "Customer ID" does, and nobody speaks."""
    return role_of_name(name) is not None and _FIELD.search(name) is not None


def names_that_speak(names: Iterable[str]) -> frozenset[str]:
    """Return the names that are speakers, of all that stand before a colon.

    Where both roles are among them, only names that say a role are: "Agent:" and "Customer:"
    speak, and "Please note:" is what one of them says. "Customer ID:" never speaks.
    """
    every = frozenset(name for name in names if not is_field(name))
    roles = {name: role_of_name(name) for name in every}
    if {"agent", "customer"} <= set(roles.values()):
        return frozenset(name for name in every if roles[name])
    return every

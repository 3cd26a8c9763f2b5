"""Lines that begin with who speaks: "Agent: …", "[2026-03-02, 10:02] Dana (customer): …"."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from deesc_model.transcripts.speakers import role_of_name

_DATE: Final = r"(?:\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:T|,? ))?"
_ZONE: Final = r"(?:[ \u00a0\u202f]?[AaPp][Mm]|Z|[+-]\d\d:?\d\d)?"
_TIME: Final = rf"{_DATE}\d{{1,2}}:\d\d(?::\d\d)?(?:[.,]\d{{1,6}})?{_ZONE}"
_SAID: Final = r"(?:\*\*)?\s?:(?:\*\*)?(?:\s+(?P<said>.*))?"
_AFTER_TIME: Final = re.compile(rf"\s*[\[(]?{_TIME}[\])]?\s+(?:-\s)?")
_TIMED: Final = re.compile(
    rf"\s*[\[(]?{_TIME}[\])]?\s+(?:-\s+)?(?P<name>[^\s:](?:[^:]{{0,78}}[^\s:])?){_SAID}"
)
"""After a time nearly any name is one: a number, an address, "Vale, Robin"."""

_NUMBER_OR_ADDRESS: Final = r"\+?\d[\d ()/-]{5,20}\d|[\w.+-]{1,64}@[\w.-]{1,64}"
_UNTIMED: Final = re.compile(
    rf"\s*(?:\*\*)?(?P<name>{_NUMBER_OR_ADDRESS}|\[[^\]:]{{1,40}}\]"
    r"|[@~]?[^\W\d_](?:[\w.'’()/ #,|&-]{0,38}[\w.)])?(?:\s?[(<\[][^:)>\]]{1,40}[)>\]])?)"
    rf"{_SAID}"
)
_MAX_WORDS, _MAX_WORDS_TIMED = 4, 7
"""Of a name; what stands in brackets at its end is not counted."""

_IN_BRACKETS: Final = re.compile(r"(\s*[(<\[][^)>\]]*[)>\]])+$")
_SENTENCE: Final = re.compile(r"\w[.!?]\s")
"""A long name has no end of one; "Mrs. Vale" is short."""
_FIELD: Final = re.compile(
    r"\b(id|no|number|name|e-?mail|phone|mobile|address|account|ticket|case|ref|reference|since"
    r"|type|status|tier|plan|code|date|time|note|ps|re|subject|total)s?\W*$",
    re.IGNORECASE,
)


class Line(NamedTuple):
    """A line that begins with a name and a colon.

    Attributes:
        name: What stands before the colon, without a time.
        said: What stands after it.
        timed: Whether a time stands before the name: somebody begins to speak then.
    """

    name: str
    said: str
    timed: bool = False


def speaker_and_text(line: str) -> Line | None:
    """Return the name that a line begins with and what is said, or None if there is no name."""
    timed = _TIMED.fullmatch(line)
    found = timed or _UNTIMED.fullmatch(line)
    if not found or not _may_be_name(found["name"], timed=timed is not None):
        return None
    return Line(found["name"], (found["said"] or "").strip(), timed is not None)


def is_timed(line: str) -> bool:
    """Return whether a line begins with a time."""
    return _AFTER_TIME.match(line) is not None


def time_form(line: str) -> str:
    """Return how the time is written that a line begins with, "" if it begins with none.

    "[10:02]" and "[9:31]" are of one form, "10:30" and "[02/03/2026, 10:02]" of two others.
    """
    found = _AFTER_TIME.match(line)
    digits = re.sub(r"\d+", "0", found[0].lower()) if found else ""
    return " ".join(digits.replace("pm", "am").split())


def _may_be_name(name: str, *, timed: bool) -> bool:
    if re.fullmatch(_NUMBER_OR_ADDRESS, name):
        return True
    words = _IN_BRACKETS.sub("", name).split()
    if len(words) > (_MAX_WORDS_TIMED if timed else _MAX_WORDS):
        return False
    if len(words) > _MAX_WORDS and _SENTENCE.search(name):
        return False
    # "Vale, Robin", but not "Well, look"
    listed = not timed and re.search("[,|&]", " ".join(words))
    return not listed or all(word[0].isupper() or not word[0].isalpha() for word in words)


def is_system(line: Line) -> bool:
    """Return whether the system tells something, such as that somebody joined."""
    return line.name.lower() == "system"


def is_note(line: Line) -> bool:
    """Return whether somebody notes what the other side is not to see."""
    return re.fullmatch(r"(internal|private) notes?", line.name.lower()) is not None


def is_field(line: Line) -> bool:
    """Return whether a line says a fact, as "Customer ID" or "Note" does, and nobody speaks.

    "Customer (mobile)" speaks, and after a time "Robin Case".
    """
    name = _IN_BRACKETS.sub("", line.name)
    if not _FIELD.search(name):
        return False
    alone = " " not in re.sub(r"^(internal|private) ", "", name.lower())
    return not line.timed or alone or role_of_name(name) is not None


def names_that_speak(lines: Iterable[Line]) -> frozenset[str]:
    """Return the names that are speakers, of all that stand before a colon.

    Where both roles are among them, only names that say a role are, and those that have a time as
    they have: "Agent:" and "Customer:" speak, and "Please note:" is what one of them says. Else
    either all names have a time or none has: below "[10:02] Dana:" nobody is called "Street:".
    "Customer ID:" never speaks, nor do the roles where "Customer: Robin" and "Agent: Dana" stand
    above what Robin and Dana say.
    """
    named = [line for line in lines if not is_field(line) and not is_system(line)]
    roles = {line.name: role_of_name(line.name) for line in named}
    if not {"agent", "customer"} <= set(roles.values()):
        timed = bool(named) and _speak_timed(named)
        return frozenset(line.name for line in named if line.timed == timed)
    if _is_header(named[:2], later := frozenset(line.name for line in named[2:])):
        return later
    times = any(line.timed for line in named if roles[line.name])
    return frozenset(line.name for line in named if roles[line.name] or (times and line.timed))


def _speak_timed(named: list[Line]) -> bool:
    """Return whether those who speak do it after a time.

    The first name tells, unless it is not heard again and most have a time: "Chat with: Dana" is a
    heading.
    """
    first = named[0]
    again = any(line.name == first.name and not line.timed for line in named[1:])
    return first.timed or (not again and 2 * sum(line.timed for line in named) >= len(named))


def _is_header(first: list[Line], later: frozenset[str]) -> bool:
    """Return whether two lines say by role and name who speaks in all others."""
    return not any(map(role_of_name, later)) and all(
        role_of_name(line.name)
        and any(f" {name} ".casefold() in f" {line.said} ".casefold() for name in later)
        for line in first
    )

"""The summary for whoever takes a conversation over: plain text, everything quoted by turn.

What set the customer off, and whether it is settled, is what the companion knows at the end. What
was done, offered and promised, and details, are found by wording, so some will be missing; what
is quoted was said.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from deesc_model.monitor import LabelCourse
from deesc_model.report.followed import FollowedConversation, FollowedTurn

_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_PROMISE: Final = re.compile(
    r"\b(i|we)(['’]ll| will| shall|['’]m going to| am going to|['’]re going to| are going to"
    r"| promise| guarantee)\b"
    r"|\byou(['’]ll| will) (get|have|receive|hear|be)\b"
    r"|\b(it|that|this|they|he|she|(the|your|an?) \w+)(['’]ll| will) (be|arrive|come|call|reach)\b",
    re.IGNORECASE,
)
_TRIED: Final = re.compile(
    r"^done\b"
    r"|\b(i|we)(['’]ve| have)( just| already| now| also)? (?!to\b|no\b|not\b|an?\b|the\b|your\b)\w+"
    r"|\b(i|we)( just| already)? (sent|checked|called|reset|refunded|credited|cancelled|asked"
    r"|ordered|booked|raised|restarted|escalated|tried|changed|passed)\b"
    r"|\b(has|have) been (?!to\b|a\b|an\b|the\b)\w+"
    r"|\b(i|we) (can|could) (?!see\b|understand\b|imagine\b|hear\b)\w+"
    r"|\b(shall|may|can) (i|we) \w+|\bwould you (like|prefer)\b",
    re.IGNORECASE,
)
_REFUSAL: Final = re.compile(
    r"\b(will not|won['’]t|unable|cannot|can['’]t|can (only|not)|have(n['’]t| not))\b",
    re.IGNORECASE,
)
_QUOTE_LENGTH: Final = 220


def promises(turn: FollowedTurn) -> list[str]:
    """Return the sentences of a turn in which something is promised."""
    return _matching(turn, _PROMISE)


def attempts(turn: FollowedTurn) -> list[str]:
    """Return the sentences of a turn that say what was done, or offer something."""
    return _matching(turn, _TRIED)


def details(turn: FollowedTurn) -> list[str]:
    """Return the sentences of a turn that hold a number: an order, an amount, a date, a time."""
    return [sentence for sentence in _sentences(turn) if re.search(r"\d", sentence)]


def hand_over_summary(followed: FollowedConversation) -> str:
    """Return the summary as plain text."""
    agent = followed.said_by("agent")
    sections = [
        ("What set the customer off", _courses(followed, followed.end.triggers)),
        ("Signals of escalation", _courses(followed, followed.end.signals)),
        ("Done or offered by the agent", _quoted(agent, attempts)),
        ("Promised by the agent", _quoted(agent, promises)),
        (
            "What the agent’s turns risk or lack",
            [
                f"turn {turn.number} {remark.what}: {_quote(turn.spoken.turn.text)}"
                for turn in agent
                for remark in turn.step.remarks
            ],
        ),
        ("Numbers, amounts, dates and times", _quoted(followed.turns, details)),
    ]
    lines = [f"HAND-OVER {followed.conversation.conversation_id}", *_facts(followed)]
    for title, entries in sections:
        lines += ["", title, *(f"- {entry}" for entry in entries or ["nothing found"])]
    return "\n".join(lines)


def _facts(followed: FollowedConversation) -> list[str]:
    customer = followed.said_by("customer")
    lines = [f"{name}: {value}" for name, value in followed.conversation.metadata.items()]
    lines.append(f"{len(followed.turns)} turns, {len(customer)} of them by the customer.")
    if followed.peak:
        for said, turn in (("Highest", followed.peak), ("Last", customer[-1])):
            level = turn.step.prediction.level
            doubt = " (uncertain)" if turn.step.prediction.uncertain else ""
            lines.append(f"{said}: level {int(level)} {level.label}{doubt} in turn {turn.number}.")
    last = followed.turns[-1].step.decision
    reason = last.reason.replace("_", " ")
    lines.append(f"Action due at the end: {last.action.label} ({reason}).")
    return lines


def _courses(followed: FollowedConversation, courses: Iterable[LabelCourse]) -> list[str]:
    """Return each label with its first words, its last turn, and whether it is open."""
    entries = []
    for course in courses:
        settled = "seems resolved" if course.resolved else "open"
        again = f", last in turn {course.latest + 1}" if course.latest > course.first else ""
        said = _quote(followed.turns[course.first].spoken.turn.text)
        name = course.name.replace("_", " ")
        entries.append(f"{name} ({settled}), turn {course.first + 1}{again}: {said}")
    return entries


def _quoted(turns: Iterable[FollowedTurn], find: Callable[[FollowedTurn], list[str]]) -> list[str]:
    return [
        f"turn {turn.number}, {turn.spoken.turn.speaker}: {_quote(sentence)}"
        for turn in turns
        for sentence in find(turn)
    ]


def _matching(turn: FollowedTurn, pattern: re.Pattern[str]) -> list[str]:
    return [
        sentence
        for sentence in _sentences(turn)
        if pattern.search(sentence) and not _REFUSAL.search(sentence)
    ]


def _sentences(turn: FollowedTurn) -> list[str]:
    return [part for part in _SENTENCE_END.split(turn.spoken.turn.text) if part.strip()]


def _quote(text: str) -> str:
    words = " ".join(text.split())
    return f"“{words if len(words) <= _QUOTE_LENGTH else words[: _QUOTE_LENGTH - 2] + ' …'}”"

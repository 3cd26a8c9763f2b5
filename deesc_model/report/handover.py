"""The summary for whoever takes a conversation over: plain text, everything quoted by turn.

What is called a promise and a detail is found by wording, so it may be incomplete; what is quoted
was said.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from deesc_model.report.labelled import LabelledConversation, LabelledTurn
from deesc_model.types import Prediction

_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_PROMISE: Final = re.compile(
    r"\b(i|we)(['’]ll| will| shall|['’]m going to| am going to|['’]re going to| are going to"
    r"| promise| guarantee)\b"
    r"|\byou(['’]ll| will) (get|have|receive|hear|be)\b"
    r"|\b(it|that|this|they|he|she|(the|your|an?) \w+)(['’]ll| will) (be|arrive|come|call|reach)\b",
    re.IGNORECASE,
)
_REFUSAL: Final = re.compile(r"\b(will not|won['’]t|unable|cannot|can['’]t)\b", re.IGNORECASE)
_QUOTE_LENGTH: Final = 220


def promises(turn: LabelledTurn) -> list[str]:
    """Return the sentences of a turn in which something is promised."""
    return [
        sentence
        for sentence in _sentences(turn)
        if _PROMISE.search(sentence) and not _REFUSAL.search(sentence)
    ]


def details(turn: LabelledTurn) -> list[str]:
    """Return the sentences of a turn that hold a number: an order, an amount, a date, a time."""
    return [sentence for sentence in _sentences(turn) if re.search(r"\d", sentence)]


def hand_over_summary(labelled: LabelledConversation) -> str:
    """Return the summary as plain text."""
    customer, agent = labelled.said_by("customer"), labelled.said_by("agent")
    sections = [
        ("What set the customer off", _labelled(customer, lambda made: made.triggers)),
        ("Signals of escalation", _labelled(customer, lambda made: made.signals)),
        (
            "Wording of the agent that may set it off",
            _labelled(agent, lambda made: made.triggers),
        ),
        ("Promised by the agent", _quoted(agent, promises)),
        ("Numbers, amounts, dates and times", _quoted(labelled.turns, details)),
    ]
    lines = [f"HAND-OVER {labelled.conversation.conversation_id}", *_facts(labelled)]
    for title, entries in sections:
        lines += ["", title, *(f"- {entry}" for entry in entries or ["nothing found"])]
    return "\n".join(lines)


def _facts(labelled: LabelledConversation) -> list[str]:
    customer = labelled.said_by("customer")
    lines = [f"{len(labelled.turns)} turns, {len(customer)} of them by the customer."]
    if labelled.peak:
        for said, turn in (("Highest", labelled.peak), ("Last", customer[-1])):
            level = turn.prediction.level
            doubt = " (uncertain)" if turn.prediction.uncertain else ""
            lines.append(f"{said}: level {int(level)} {level.label}{doubt} in turn {turn.number}.")
    return lines


def _labelled(
    turns: Iterable[LabelledTurn], labels: Callable[[Prediction], tuple[str, ...]]
) -> list[str]:
    return [
        f"turn {turn.number}, {', '.join(name.replace('_', ' ') for name in found)}:"
        f" {_quote(turn.spoken.turn.text)}"
        for turn in turns
        if (found := labels(turn.prediction))
    ]


def _quoted(turns: Iterable[LabelledTurn], find: Callable[[LabelledTurn], list[str]]) -> list[str]:
    return [
        f"turn {turn.number}, {turn.spoken.turn.speaker}: {_quote(sentence)}"
        for turn in turns
        for sentence in find(turn)
    ]


def _sentences(turn: LabelledTurn) -> list[str]:
    return [part for part in _SENTENCE_END.split(turn.spoken.turn.text) if part.strip()]


def _quote(text: str) -> str:
    words = " ".join(text.split())
    return f"“{words if len(words) <= _QUOTE_LENGTH else words[: _QUOTE_LENGTH - 2] + ' …'}”"

"""Intercom conversations with their parts, as the API gives them."""

import re
from collections import Counter
from typing import Final

from deesc_model.transcripts.conversation import Message, Transcript, TranscriptFormat
from deesc_model.transcripts.document import Document, Node
from deesc_model.transcripts.markup import html_to_text

ROLES: Final = {
    "user": "customer",
    "lead": "customer",
    "contact": "customer",
    "admin": "agent",
    "team": "agent",
    "bot": "agent",
}
_MARKUP: Final = re.compile(
    r"</?(p|br|div|a|b|i|u|ul|ol|li|h\d|img|strong|em|span|blockquote|table|pre|code|html|body)"
    r"(\s[^<>]*)?/?>|&\w{2,8};|&#\d+;",
    re.IGNORECASE,
)
SAID: Final = ("comment", "quick_reply", "open", "close")
"""Kinds of part whose body the customer sees; a reply may open or close the conversation."""


def fits(document: Document) -> bool:
    """Look for the conversation's parts."""
    return document.first("conversations").has("conversation_parts")


def read(document: Document) -> list[Transcript]:
    """Read one conversation for each object, or for each member of ``conversations``."""
    return [_transcript(root) for root in document.members("conversations")]


def _transcript(root: Node) -> Transcript:
    messages: list[Message] = []
    left_out: Counter[str] = Counter()
    source = root.get("source")
    if opening := _text(source):
        messages.append(_message(source, opening, root.get("created_at").number()))
    for part in root.get("conversation_parts").get("conversation_parts").items():
        kind = part.get("part_type").text()
        text = _text(part)
        if kind.startswith("note"):  # also note_and_reopen
            left_out["internal notes"] += 1
        elif kind not in SAID or not text:
            left_out["events"] += 1
        else:
            messages.append(_message(part, text, part.get("created_at").number()))
    return Transcript(root.get("id").identifier(), messages, left_out)


def _text(node: Node) -> str:
    """Return what a body says; the API gives it as HTML, or without any if it is told to."""
    body = node.get("body").text()
    return html_to_text(body) if _MARKUP.search(body) else body.strip()


def _message(node: Node, text: str, created: float | None) -> Message:
    kind, name, identity = (
        node.get("author").get(key).identifier() for key in ("type", "name", "id")
    )
    return Message(
        name=name or identity or kind or "unnamed",
        text=text,
        place=node.place,
        role=ROLES.get(kind),
        metadata={} if created is None else {"time_s": created},
    )


FORMAT = TranscriptFormat("intercom", "Intercom: JSON with conversation_parts", fits, read)

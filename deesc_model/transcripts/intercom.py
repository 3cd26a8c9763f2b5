"""Intercom conversations with their parts, as the API gives them."""

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
    if opening := html_to_text(source.get("body").text()):
        messages.append(_message(source, opening, root.get("created_at").number()))
    for part in root.get("conversation_parts").get("conversation_parts").items():
        kind = part.get("part_type").text()
        text = html_to_text(part.get("body").text())
        if kind.startswith("note"):  # also note_and_reopen
            left_out["internal notes"] += 1
        elif kind not in SAID or not text:
            left_out["events"] += 1
        else:
            messages.append(_message(part, text, part.get("created_at").number()))
    return Transcript(root.get("id").identifier(), messages, left_out)


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

"""Zendesk tickets with their comments: the JSON export, or what the API answers."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from deesc_model.transcripts.conversation import Message, Transcript, TranscriptFormat
from deesc_model.transcripts.document import Document, Node
from deesc_model.transcripts.markup import html_to_text

ROLES: Final = {"end-user": "customer", "agent": "agent", "admin": "agent"}


def fits(document: Document) -> bool:
    """Look for a ticket that has comments with authors."""
    first = document.first("tickets")
    comments = first.get("comments").value if first.has("comments") else None
    return isinstance(comments, list) and all(
        Node(item, "").has("author_id") for item in comments[:1]
    )


def read(document: Document) -> list[Transcript]:
    """Read one conversation for each ticket; private comments are left out."""
    found = []
    for root in document.objects:
        users = {item.get("id").identifier(): item for item in root.get("users").items()}
        tickets = root.get("tickets").items() if root.has("tickets") else [root]
        found += [_transcript(ticket, users) for ticket in tickets]
    return found


def _transcript(ticket: Node, users: Mapping[str, Node]) -> Transcript:
    requester = (
        ticket.get("requester_id").identifier() or ticket.get("requester").get("id").identifier()
    )
    messages: list[Message] = []
    left_out: Counter[str] = Counter()
    for comment in _by_time(ticket.get("comments").items()):
        text = _text(comment)
        if comment.get("public").value is False:
            left_out["internal notes"] += 1
        elif not text.strip():
            left_out["empty entries"] += 1
        else:
            messages.append(_message(comment, text, users, requester))
    return Transcript(ticket.get("id").identifier(), messages, left_out)


def _message(comment: Node, text: str, users: Mapping[str, Node], requester: str) -> Message:
    author = comment.get("author_id").identifier()
    user = users.get(author)
    role = ROLES.get(user.get("role").text()) if user else None
    if role is None and requester:  # an export without users names the customer only
        role = "customer" if author == requester else "agent"
    created = comment.get("created_at").text()
    return Message(
        name=(user.get("name").text() if user else "") or author or "unnamed",
        text=text,
        place=comment.place,
        role=role,
        metadata={"time": created} if created else {},
    )


def _text(comment: Node) -> str:
    plain = comment.get("plain_body").text() or comment.get("body").text()
    return plain or html_to_text(comment.get("html_body").text())


def _by_time(comments: list[Node]) -> list[Node]:
    """Return comments oldest first; the API may answer the newest first."""
    times = [comment.get("created_at").text() for comment in comments]
    if not all(times):
        return comments
    return [comments[index] for index in sorted(range(len(times)), key=lambda k: times[k])]


FORMAT = TranscriptFormat(
    "zendesk", "Zendesk tickets: JSON with comments that have author_id", fits, read
)

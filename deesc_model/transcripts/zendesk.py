"""Zendesk tickets with their comments: the JSON export, or what the API answers."""

import re
from collections import Counter
from collections.abc import Mapping
from html import unescape
from typing import Final

from deesc_model.transcripts.conversation import Message, Transcript, TranscriptFormat
from deesc_model.transcripts.dialogue import is_timed, speaker_and_text
from deesc_model.transcripts.document import Document, Node
from deesc_model.transcripts.markup import html_to_text
from deesc_model.transcripts.quotations import cut_quotations
from deesc_model.transcripts.speakers import role_of_name

ROLES: Final = {"end-user": "customer", "agent": "agent", "admin": "agent"}
_FEWEST_LINES: Final = 2
"""Lines with time and name that make a comment a chat."""
_HEADING: Final = re.compile(r"chat started(:.*|)|conversation with web user .*", re.IGNORECASE)
"""What Zendesk writes above a chat."""


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
        elif comment.get("type").text() == "VoiceComment":  # a call in one piece, of both sides
            left_out["calls"] += 1
        elif not text:
            left_out["empty entries"] += 1
        elif chat := _chat(comment, text, users, requester):
            messages += chat
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


def _chat(
    comment: Node, text: str, users: Mapping[str, Node], requester: str
) -> list[Message] | None:
    """Return the messages of a chat that a comment tells, "(10:02:33) Web User: hello" a line.

    Else, as in "10:02 Called support: nobody answered", the comment's author says it all: where
    words stand above the first line, or nothing says who the customer is and that it is a chat.
    """
    headed = False
    turns: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        found = speaker_and_text(line)
        if found and found.timed:
            turns.append((found.name, [found.said]))
        elif turns:
            turns[-1][1].append(line)
        elif _HEADING.fullmatch(line.strip()):
            headed = True
        elif line.strip() and not is_timed(line):  # "(10:02:30) Dana joined the chat" is nobody's
            return None
    if len(turns) < _FEWEST_LINES:
        return None
    asking = users[requester].get("name").text() if requester in users else ""
    customers = {name for name, _ in turns if asking == name or role_of_name(name) == "customer"}
    if not customers and not headed:
        return None
    return [
        Message(
            name=name,
            text=said,
            place=comment.place,
            role="customer" if name in customers else "agent" if customers else None,
        )
        for name, lines in turns
        if (said := "\n".join(lines).strip())
    ]


def _text(comment: Node) -> str:
    """Return what a comment says, without the mail that it quotes."""
    plain = comment.get("plain_body").text() or comment.get("body").text()
    whole = unescape(plain) if plain else html_to_text(comment.get("html_body").text(), quoted=">")
    return cut_quotations(whole.replace("\u00a0", " ").splitlines())


def _by_time(comments: list[Node]) -> list[Node]:
    """Return comments oldest first; the API may answer the newest first."""
    times = [comment.get("created_at").text() for comment in comments]
    if not all(times):
        return comments
    return [comments[index] for index in sorted(range(len(times)), key=lambda k: times[k])]


FORMAT = TranscriptFormat(
    "zendesk", "Zendesk tickets: JSON with comments that have author_id", fits, read
)

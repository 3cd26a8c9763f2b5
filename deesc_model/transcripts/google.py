"""Google Conversational Insights: the format that it takes in, and the one that it gives out."""

from collections.abc import Mapping
from typing import Any, Final

from deesc_model.transcripts.conversation import Message, Transcript, TranscriptFormat
from deesc_model.transcripts.document import Document, Node

ROLES: Final = {
    "CUSTOMER": "customer",
    "END_USER": "customer",
    "AGENT": "agent",
    "HUMAN_AGENT": "agent",
    "ANY_AGENT": "agent",
    "AUTOMATED_AGENT": "agent",
}
NEUTRAL: Final = 0.25
"""Scores from -1 to 1 that are no further than this from 0 are called neutral."""


def fits(document: Document) -> bool:
    """Look for the list of messages that either form has."""
    first = document.first("conversations")
    if first.has("transcript"):
        return first.get("transcript").has("transcriptSegments")
    entries = first.get("entries").value if first.has("entries") else None
    return isinstance(entries, list) and all(Node(item, "").has("text") for item in entries[:1])


def read(document: Document) -> list[Transcript]:
    """Read one conversation for each object, or for each member of ``conversations``."""
    return [_transcript(root) for root in document.members("conversations")]


def _transcript(root: Node) -> Transcript:
    if root.has("entries"):
        messages = [_entry(node) for node in root.get("entries").items()]
    else:
        segments = root.get("transcript").get("transcriptSegments").items()
        of_call = root.get("callMetadata")
        roles = {
            of_call.get(f"{role}Channel").number(): role
            for role in ("customer", "agent")
            if of_call.has(f"{role}Channel")
        }
        messages = [_segment(node, roles) for node in segments]
    said = [message for message in messages if message.text.strip()]
    empty = len(messages) - len(said)
    channel = {"PHONE_CALL": "phone", "CHAT": "chat"}.get(root.get("medium").text())
    return Transcript(
        root.get("name").text().rpartition("/")[2],
        said,
        {"empty entries": empty} if empty else {},
        {"channel": channel} if channel else {},
    )


def _entry(node: Node) -> Message:
    role, user = node.get("role").text(), node.get("user_id").identifier()
    started = node.get("start_timestamp_usec").number()
    return Message(
        name=role or f"user {user}",
        text=node.get("text").text(),
        place=node.place,
        role=ROLES.get(role),
        metadata={} if started is None else {"begin_ms": round(started / 1000)},
    )


def _segment(node: Node, roles: Mapping[float | None, str]) -> Message:
    """Read a segment; `roles` are those of the channels, where the file says so."""
    role = node.get("segmentParticipant").get("role").text()
    channel = node.get("channelTag").number()
    metadata: dict[str, Any] = {}
    if time := node.get("messageTime").text():
        metadata["time"] = time
    sentiment = None
    if node.get("sentiment").value is not None:
        score = node.get("sentiment").get("score").number() or 0.0  # zeros are left out
        metadata["sentiment_score"] = score
        sentiment = "neutral" if abs(score) <= NEUTRAL else "positive" if score > 0 else "negative"
    return Message(
        name=role or f"channel {channel or 0:g}",
        text=node.get("text").text(),
        place=node.place,
        role=ROLES.get(role) if role else roles.get(channel),
        vendor_sentiment=sentiment,
        metadata=metadata,
    )


FORMAT = TranscriptFormat(
    "google",
    "Google Conversational Insights: JSON with transcript.transcriptSegments or entries",
    fits,
    read,
)

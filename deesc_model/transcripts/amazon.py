"""Amazon Connect Contact Lens, calls and chats, and Amazon Transcribe Call Analytics.

All three write one JSON object with a list ``Transcript``; calls add loudness a second and, for
the whole call, interruptions and talk speed.
"""

from collections import Counter
from typing import Any, Final

from deesc_model.errors import InvalidInputError
from deesc_model.transcripts.conversation import (
    SENTIMENTS,
    Message,
    Transcript,
    TranscriptFormat,
)
from deesc_model.transcripts.document import Document, Node

ROLES: Final = {
    "CUSTOMER": "customer",
    "AGENT": "agent",
    "SUPERVISOR": "agent",
    "CUSTOM_BOT": "agent",
}


def fits(document: Document) -> bool:
    """Look for the list and for what Amazon calls those who take part."""
    if not document.objects or not document.objects[0].has("Transcript"):
        return False
    entries = document.objects[0].get("Transcript").value
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and ("ParticipantRole" in entry or "ParticipantId" in entry)
        for entry in entries[:3]
    )


def read(document: Document) -> list[Transcript]:
    """Read one conversation for each object."""
    return [_transcript(root) for root in document.objects]


def _transcript(root: Node) -> Transcript:
    roles = {
        item.get("ParticipantId").text(): item.get("ParticipantRole").text()
        for item in root.get("Participants").items()
    }
    whole = root.get("ConversationCharacteristics")
    speeds = whole.get("TalkSpeed").get("DetailsByParticipant")
    interruptions = whole.get("Interruptions").get("InterruptionsByInterrupter")
    messages: list[Message] = []
    left_out: Counter[str] = Counter()
    for entry in root.get("Transcript").items():
        identity = entry.get("ParticipantId").text()
        role = entry.get("ParticipantRole").text() or roles.get(identity) or identity
        if role == "SYSTEM" and entry.get("DisplayName").text() == "BOT":  # Lex
            role = "CUSTOM_BOT"
        if kind := _not_said(entry, role):
            left_out[kind] += 1
            continue
        messages.append(
            Message(
                name=entry.get("DisplayName").text() or role,
                text=entry.get("Content").text(),
                place=entry.place,
                role=ROLES.get(role),
                vendor_sentiment=_sentiment(entry.get("Sentiment")),
                metadata=_metadata(
                    entry,
                    *(_of_speaker(facts, identity, role) for facts in (speeds, interruptions)),
                ),
            )
        )
    contact = root.get("CustomerMetadata").get("ContactId").text() or root.get("ContactId").text()
    channel = root.get("Channel").text().lower()
    return Transcript(
        contact or root.get("JobName").text(),
        messages,
        left_out,
        {"channel": channel} if channel else {},
    )


def _not_said(entry: Node, role: str) -> str:
    """Return why an entry is nothing that was said, or an empty string."""
    if entry.get("Type").text() == "EVENT":
        return "events"
    if role == "SYSTEM":
        return "system messages"
    kind = entry.get("ContentType").text()
    if (kind and not kind.startswith("text/")) or entry.get("Type").text() == "ATTACHMENT":
        return "attachments and cards"
    return "" if entry.get("Content").text().strip() else "empty entries"


def _of_speaker(facts: Node, identity: str, role: str) -> Node:
    """Return a fact of the speaker's; calls of more than two name people by id, others by role."""
    return facts.get(identity) if facts.has(identity) else facts.get(role)


def _sentiment(node: Node) -> str | None:
    named = node.text().lower()
    if named and named not in SENTIMENTS:
        raise InvalidInputError(f"{node.place} must be one of {', '.join(SENTIMENTS)}")
    return named or None


def _metadata(entry: Node, speed: Node, interruptions: Node) -> dict[str, Any]:
    """Return what a file says of a turn; of a call also how its speaker talks on the whole.

    Args:
        entry: The turn.
        speed: What the file says of the speaker's speed.
        interruptions: When the speaker interrupts the other.
    """
    begin, end = (entry.get(f"{side}OffsetMillis").number() for side in ("Begin", "End"))
    begins = [item.get("BeginOffsetMillis").number() for item in interruptions.items()]
    found: dict[str, Any] = {
        "time": entry.get("AbsoluteTime").text() or None,
        "begin_ms": begin,
        "end_ms": end,
        "loudness": [item.number() for item in entry.get("LoudnessScores").items()] or None,
        "speaker_words_per_minute": speed.get("AverageWordsPerMinute").number(),
    }
    if begin is not None and end is not None:
        within = [time for time in begins if time is not None and begin <= time < end]
        found["interruptions"] = len(within)
    return {name: value for name, value in found.items() if value is not None}


FORMAT = TranscriptFormat(
    "amazon",
    "Amazon Contact Lens or Transcribe Call Analytics: a JSON list Transcript whose entries have"
    " ParticipantRole or ParticipantId",
    fits,
    read,
)

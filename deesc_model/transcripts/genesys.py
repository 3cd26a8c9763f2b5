"""Genesys Cloud speech and text analytics: the file behind a transcript URL."""

from collections import Counter
from typing import Final

from deesc_model.transcripts.conversation import Message, Transcript, TranscriptFormat
from deesc_model.transcripts.document import Document, Node

ROLES: Final = {
    "external": "customer",
    "customer": "customer",
    "internal": "agent",
    "agent": "agent",
    "user": "agent",
    "bot": "agent",
    "botflow": "agent",
}
SYSTEM: Final = ("acd", "ivr", "voicemail", "fax", "workflow")


def fits(document: Document) -> bool:
    """Look for a list of transcripts that hold phrases."""
    if not document.objects or not document.objects[0].has("transcripts"):
        return False
    transcripts = document.objects[0].get("transcripts").value
    return isinstance(transcripts, list) and any(
        isinstance(item, dict) and "phrases" in item for item in transcripts
    )


def read(document: Document) -> list[Transcript]:
    """Read one conversation for each object, by time if every phrase has one."""
    return [_transcript(root) for root in document.objects]


def _transcript(root: Node) -> Transcript:
    timed: list[tuple[float | None, Message]] = []
    left_out: Counter[str] = Counter()
    for part in root.get("transcripts").items():
        sentiments = _sentiments(part.get("analytics"))
        for phrase in part.get("phrases").items():
            text = phrase.get("decoratedText").text() or phrase.get("text").text()
            purpose = phrase.get("participantPurpose").text()
            if purpose in SYSTEM:
                left_out["system messages"] += 1
            elif not text.strip():
                left_out["empty entries"] += 1
            else:
                start = phrase.get("startTimeMs").number()
                sentiment = sentiments.get(phrase.get("phraseIndex").number())
                timed.append((start, _message(phrase, text, purpose, start, sentiment)))
    if all(start is not None for start, _ in timed):
        timed.sort(key=lambda pair: pair[0] or 0)
    medium = root.get("mediaType").text()
    return Transcript(
        root.get("conversationId").text(),
        [message for _, message in timed],
        left_out,
        {"channel": medium} if medium else {},
    )


def _message(
    phrase: Node, text: str, purpose: str, start: float | None, sentiment: float | None
) -> Message:
    named = None
    if sentiment is not None:
        named = "neutral" if sentiment == 0 else "positive" if sentiment > 0 else "negative"
    return Message(
        name=purpose or "unnamed",
        text=text,
        place=phrase.place,
        role=ROLES.get(purpose),
        vendor_sentiment=named,
        metadata={} if start is None else {"time_ms": start},
    )


def _sentiments(analytics: Node) -> dict[float | None, float | None]:
    """Return the sentiment of each phrase that has one, by the phrase's index."""
    found = {
        item.get("phraseIndex").number(): item.get("sentiment").number()
        for item in analytics.get("sentiment").items()
    }
    found.pop(None, None)  # it belongs to no phrase that could be named
    return found


FORMAT = TranscriptFormat(
    "genesys", "Genesys Cloud: a JSON list transcripts whose members have phrases", fits, read
)

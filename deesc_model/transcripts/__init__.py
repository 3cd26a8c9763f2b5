"""Transcripts as contact centres have them, read into conversations; stdlib only.

One module a format; `detection` finds out which one a file has, `speakers` who is the customer.
"""

from deesc_model.transcripts.conversation import SENTIMENTS, Conversation, SpokenTurn
from deesc_model.transcripts.detection import (
    TRANSCRIPT_FORMATS,
    parse_transcript,
    read_transcript,
)

__all__ = [
    "SENTIMENTS",
    "TRANSCRIPT_FORMATS",
    "Conversation",
    "SpokenTurn",
    "parse_transcript",
    "read_transcript",
]

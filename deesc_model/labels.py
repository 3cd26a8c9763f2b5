"""The vocabulary: frustration levels, trigger types, escalation signals.

This module is its one source. The corpus, the model's heads, the bundle and the API
use these names in this order; `data/labelling-guide.md` defines them.
"""

from enum import IntEnum
from typing import Final


class Level(IntEnum):
    """Frustration level that an utterance shows, ordinal from 0 to 4."""

    CALM = 0
    CONCERNED = 1
    FRUSTRATED = 2
    ANGRY = 3
    ABUSIVE = 4

    @property
    def label(self) -> str:
        """The level's name in lower case, for example ``"angry"``."""
        return self.name.lower()


TRIGGERS: Final[tuple[str, ...]] = (
    "billing",
    "delay",
    "wait_time",
    "service_failure",
    "unresolved",
    "policy",
    "agent_conduct",
    "broken_promise",
    "poor_information",
    "access",
    "other",
)

SIGNALS: Final[tuple[str, ...]] = (
    "supervisor_request",
    "churn_threat",
    "public_or_legal_threat",
    "personal_abuse",
    "harm_threat",
)

SPEAKERS: Final[tuple[str, ...]] = ("customer", "agent")

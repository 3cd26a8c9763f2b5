"""A checked conversation as rows of a corpus, which retraining reads."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final

from deesc_model import InvalidInputError
from deesc_model.playbook import check_channel
from explorer.session import Session

ARCS: Final = ("calm", "rises", "calmed", "worsened", "abusive", "handover")
"""How a conversation goes, as the corpus names it."""


@dataclass(frozen=True, slots=True)
class About:
    """What the text does not say of a conversation.

    Attributes:
        channel: One of `deesc_model.playbook.CHANNELS`.
        domain: Line of business in one word, such as ``"telecom"``.
        arc: One of `ARCS`.

    Raises:
        InvalidInputError: One of them is missing or unknown.
    """

    channel: str
    domain: str
    arc: str

    def __post_init__(self) -> None:
        """Refuse what the corpus would refuse."""
        check_channel(self.channel)
        if not self.domain.replace("_", "").isalpha():
            raise InvalidInputError("say the line of business in one word, for example telecom")
        if self.arc not in ARCS:
            raise InvalidInputError("choose how the conversation goes")


def corpus_lines(session: Session, about: About) -> str:
    """Return the conversation in the corpus format, one JSON object a line.

    Whole conversations only, as the corpus wants them; the split is for
    ``python -m training.data split`` to give.

    Raises:
        InvalidInputError: There is no turn, or one that nobody has checked: a model must not be
            trained on its own guesses.
    """
    if not session.turns:
        raise InvalidInputError("there is no conversation yet")
    if session.unchecked:
        numbers = ", ".join(str(turn + 1) for turn in session.unchecked)
        raise InvalidInputError(f"these turns are not checked yet: {numbers}")
    rows = [
        {
            "conversation_id": conversation_id(session),
            "turn": number,
            **asdict(turn),
            **asdict(session.labels(number)),
            **asdict(about),
            "split": "",
        }
        for number, turn in enumerate(session.turns)
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def conversation_id(session: Session) -> str:
    """Return an id made of what was said: the same talk twice in a corpus is then noticed."""
    said = json.dumps([asdict(turn) for turn in session.turns])
    return f"own-{hashlib.sha256(said.encode()).hexdigest()[:12]}"

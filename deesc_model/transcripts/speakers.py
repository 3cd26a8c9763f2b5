"""Who is the customer: from the file's own roles, or as the caller says."""

import re
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final

from deesc_model.errors import InvalidInputError
from deesc_model.transcripts.conversation import Conversation, Message, SpokenTurn, Transcript
from deesc_model.types import Turn

_AGENT: Final = re.compile(
    r"\b(agents?|representative|rep|csr|advis[eo]r|operator|support|services?|care|success"
    r"|relations|experience|team|assistant|specialist|associate|consultant|technician|bot|clerk"
    r"|staff|help ?desk|supervisor|manager)\b"
)
_CUSTOMER: Final = re.compile(
    r"\b(customer|client|caller|user|guest|visitor|member|passenger|patient|subscriber)\b"
)


def role_of_name(name: str) -> str | None:
    """Return the role that a name such as ``"Agent (Dana)"`` or ``"Caller"`` says, or None."""
    if _AGENT.search(name.lower()):  # first, for "customer care"
        return "agent"
    return "customer" if _CUSTOMER.search(name.lower()) else None


def who_is_silent(customers: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return the customers whom none of the names of those who speak means, in any case."""
    speak = set(map(_folded, names))
    return [customer for customer in customers if _folded(customer) not in speak]


def assign_speakers(
    transcripts: Sequence[Transcript],
    customers: Sequence[str],
    called: str,
    *,
    elsewhere: bool = False,
) -> list[Conversation]:
    """Settle who is customer and who is agent, and check every text.

    Args:
        transcripts: What a file holds.
        customers: Names of customers, in any case. In a transcript where one of them speaks,
            everybody else is an agent, whatever the file says.
        called: What a conversation is called for which the file has no id; several are numbered,
            for two of one name would be read as one.
        elsewhere: Whether some of the customers may speak in other files only.

    Raises:
        InvalidInputError: Nobody has one of the names, unless `elsewhere`; or they are not given
            and the file does not say who is who; or a text is not proper text; or nothing was said.
    """
    wanted = {_folded(name) for name in customers}
    names = (message.name for item in transcripts for message in item.messages)
    if not elsewhere and (silent := who_is_silent(customers, names)):
        raise InvalidInputError(f"no speaker is called {silent[0]!r}; {_speakers(transcripts)}")
    spoken = [item for item in transcripts if item.messages]
    if not spoken:
        raise InvalidInputError("nobody says anything in it")
    nameless = sum(not item.conversation_id for item in spoken)
    numbered = (f"{called}-{number}" for number in count(1))
    return [
        _conversation(
            item, wanted, item.conversation_id or (next(numbered) if nameless > 1 else called)
        )
        for item in spoken
    ]


def _conversation(transcript: Transcript, wanted: set[str], name: str) -> Conversation:
    told = any(_folded(message.name) in wanted for message in transcript.messages)
    spoken = []
    for message in transcript.messages:
        if told:
            role: str | None = "customer" if _folded(message.name) in wanted else "agent"
        else:
            role = message.role
        if role is None:
            raise InvalidInputError(
                f"{message.place}: the file does not say whether {message.name!r} is the customer;"
                f" name the customer with --customer NAME; {_speakers([transcript])}"
            )
        spoken.append(
            SpokenTurn(
                _turn(role, message), message.name, message.vendor_sentiment, message.metadata
            )
        )
    return Conversation(name, tuple(spoken), transcript.left_out, transcript.metadata)


def _turn(role: str, message: Message) -> Turn:
    try:
        return Turn(role, message.text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{message.place}: {error}") from None


def _speakers(transcripts: Sequence[Transcript]) -> str:
    names = dict.fromkeys(message.name for item in transcripts for message in item.messages)
    shown = ", ".join(repr(name) for name in list(names)[:10])
    return f"its speakers are {shown}{' …' if len(names) > 10 else ''}"


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()

"""`Desk`: everything that one open page holds; every change returns another one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final, Self

from deesc_model import EscalationClassifier, EscalationPolicy, InvalidInputError, Step
from deesc_model.playbook import channel_of
from deesc_model.transcripts import Conversation
from explorer.session import Session

Models = Mapping[str, EscalationClassifier]
"""The bundles that can be chosen, by name; the first is the one to begin with."""


SHIPPED: Final = "the shipped one"


@dataclass(frozen=True, slots=True)
class Desk:
    """The conversations, at least one, and how they are looked at.

    Attributes:
        sessions: The conversations; those not yet viewed are not labelled.
        chosen: Position of the one in view.
        turn: The turn that is looked at closely, from 0.
        model: Name of the bundle that labels.
        policy: When to act.
        policy_name: What the policy is called.
    """

    sessions: tuple[Session, ...] = (Session(),)
    chosen: int = 0
    turn: int = 0
    model: str = ""
    policy: EscalationPolicy = field(default_factory=EscalationPolicy.read)
    policy_name: str = SHIPPED

    @property
    def session(self) -> Session:
        """The conversation in view."""
        return self.sessions[self.chosen]

    @property
    def names(self) -> list[str]:
        """What the conversations are called, numbered."""
        return [f"{n}: {session.name}" for n, session in enumerate(self.sessions, start=1)]

    @property
    def mark(self) -> str:
        """What tells the turn that is looked at from any other, in any conversation."""
        there = (self.chosen, self.session.name, self.session.turns[: self.turn + 1])
        return sha256(repr(there).encode()).hexdigest()

    def steps(self) -> list[Step]:
        """Return what is known and advised after each turn in view."""
        return self.session.steps(self.policy)

    def lay_out(self, conversations: Sequence[Conversation], models: Models) -> Self:
        """Lay out what was read; its first conversation comes into view.

        Of what lay there only conversations with labels that a person checked stay, in front. The
        channel stays the one in view where a file names none that is known.
        """
        kept = tuple(session for session in self.sessions if session.checked)
        read = (
            Session(
                item.conversation_id,
                item.turns,
                channel=channel_of(item.metadata, self.session.channel),
            )
            for item in conversations
        )
        return replace(self, sessions=(*kept, *read), turn=0).view(len(kept), models)

    def clear(self) -> Self:
        """Begin with an empty conversation, looked at in the same way."""
        return replace(self, sessions=(Session(channel=self.session.channel),), chosen=0, turn=0)

    def view(self, position: int, models: Models) -> Self:
        """Bring a conversation into view and look at its most frustrated customer's turn.

        One whose turns were all taken back has none to look at.
        """
        session = self.sessions[position].labelled(self._classifier(models))
        heat = {
            number: session.predictions[number].frustration
            for number, turn in enumerate(session.turns)
            if turn.speaker == "customer"
        }
        there = replace(self, chosen=position, turn=0).put(session)
        if not session.turns:
            return there
        return there.look(max(heat, key=lambda number: heat[number], default=0), models)

    def look(self, turn: int, models: Models) -> Self:
        """Look closely at a turn and find the words behind its labels."""
        there = replace(self, turn=turn)
        try:
            return there.put(self.session.explained(turn, self._classifier(models)))
        except InvalidInputError:  # too long to be explained, which the page says
            return there

    def relabel(self, model: str, models: Models) -> Self:
        """Label by another bundle."""
        there = replace(self, model=model)
        if not self.session.turns:
            return there
        return there.put(self.session.labelled(models[model])).look(self.turn, models)

    def put(self, session: Session) -> Self:
        """Replace the conversation in view."""
        others = (*self.sessions[: self.chosen], session, *self.sessions[self.chosen + 1 :])
        return replace(self, sessions=others)

    def _classifier(self, models: Models) -> EscalationClassifier:
        return models[self.model]

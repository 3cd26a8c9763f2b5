"""A conversation as the companion saw it, turn by turn, and the words behind its labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, pairwise

from deesc_model.companion import ConversationCompanion, Step
from deesc_model.evidence import Evidence
from deesc_model.monitor import ConversationState
from deesc_model.policy import Action, EscalationPolicy
from deesc_model.transcripts.conversation import Conversation, SpokenTurn
from deesc_model.types import Prediction


@dataclass(frozen=True, slots=True)
class FollowedTurn:
    """A turn, what its file says of it, and what was known and advised after it.

    Attributes:
        number: Its number from 1, as the report counts.
        spoken: What its file says of it.
        step: What the companion made of it.
        evidence: The words behind its labels; empty where none were looked for.
    """

    number: int
    spoken: SpokenTurn
    step: Step
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class FollowedConversation:
    """A conversation from its first turn to its last.

    Attributes:
        conversation: What its file says of it.
        turns: All turns, oldest first; at least one.
        policy: What decided on the actions.
        horizon: How many turns ahead the risk speaks of.
    """

    conversation: Conversation
    turns: tuple[FollowedTurn, ...]
    policy: EscalationPolicy
    horizon: int

    @property
    def end(self) -> ConversationState:
        """What is known after the last turn."""
        return self.turns[-1].step.state

    @property
    def peak(self) -> FollowedTurn | None:
        """The customer's turn of the highest frustration, the first of equals; or None."""
        return None if self.end.peak_turn is None else self.turns[self.end.peak_turn]

    @property
    def action_changes(self) -> tuple[FollowedTurn, ...]:
        """The turns after which another action is due than before; at first none is."""
        actions = [Action.NONE, *(turn.step.decision.action for turn in self.turns)]
        changed = (after != before for before, after in pairwise(actions))
        return tuple(compress(self.turns, changed))

    def said_by(self, speaker: str) -> tuple[FollowedTurn, ...]:
        """Return the turns of ``"customer"`` or ``"agent"``."""
        return tuple(turn for turn in self.turns if turn.spoken.turn.speaker == speaker)


def follow(
    conversation: Conversation,
    predictions: Sequence[Prediction],
    companion: ConversationCompanion,
    evidence: Sequence[tuple[Evidence, ...]] = (),
) -> FollowedConversation:
    """Take a conversation through a companion that has heard nothing yet.

    Args:
        conversation: What was said.
        predictions: One for each turn.
        companion: Decides and advises.
        evidence: What `explain_turns` found; empty if it was not asked.
    """
    found = evidence or ((),) * len(predictions)
    turns = tuple(
        FollowedTurn(number, spoken, companion.update(spoken.turn, prediction), words)
        for number, (spoken, prediction, words) in enumerate(
            zip(conversation.spoken, predictions, found, strict=True), start=1
        )
    )
    return FollowedConversation(conversation, turns, companion.policy, companion.risk.horizon)

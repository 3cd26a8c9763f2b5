"""`ConversationCompanion`: course, decision and advice of one conversation, turn by turn."""

from dataclasses import asdict, dataclass
from typing import Any

from deesc_model.monitor import ConversationMonitor, ConversationState
from deesc_model.playbook import Advice, Playbook, Remark, check_channel, shipped_playbook
from deesc_model.policy import Decision, EscalationPolicy, PolicyFollower, shipped_policy
from deesc_model.risk import RiskModel, shipped_risk
from deesc_model.types import Prediction, Turn


@dataclass(frozen=True, slots=True)
class Step:
    """Everything that is known and advised after one turn.

    Attributes:
        turn: What was said.
        prediction: Its labels.
        state: The course of the conversation.
        decision: What to do.
        advice: How to do it.
        remarks: What the turn risks or lacks, if it is the agent's.
    """

    turn: Turn
    prediction: Prediction
    state: ConversationState
    decision: Decision
    advice: Advice
    remarks: tuple[Remark, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            **asdict(self.turn),
            "deesc": self.prediction.to_dict(),
            "state": self.state.to_dict(),
            "action": self.decision.action.label,
            "alert": self.decision.alert,
            "reason": self.decision.reason,
            "advice": asdict(self.advice),
            "remarks": [asdict(remark) for remark in self.remarks],
        }


class ConversationCompanion:
    """Follows one conversation with a policy and a playbook.

    Attributes:
        policy: What decides on the actions.
        risk: The weights of the risk that it decides by.
    """

    def __init__(
        self,
        channel: str = "chat",
        policy: EscalationPolicy | None = None,
        playbook: Playbook | None = None,
        risk: RiskModel | None = None,
    ) -> None:
        """Start before the first turn.

        Args:
            channel: One of `CHANNELS`.
            policy: None takes the shipped one.
            playbook: None takes the shipped one.
            risk: Weights of the risk, fitted to the model that is asked; None takes those that
                are fitted to the shipped one.

        Raises:
            SettingsError: The channel is unknown.
        """
        self._channel = check_channel(channel)
        self.risk = risk or shipped_risk()
        self._monitor = ConversationMonitor(self.risk)
        self.policy = policy or shipped_policy()
        self._follower = PolicyFollower(self.policy)
        self._playbook = playbook or shipped_playbook()
        self._state: ConversationState | None = None

    def update(self, turn: Turn, prediction: Prediction) -> Step:
        """Take the next turn and what the classifier said of it."""
        remarks = self._playbook.check_agent(turn, prediction, self._state)
        state = self._state = self._monitor.update(turn, prediction)
        decision = self._follower.update(state)
        advice = self._playbook.advise(decision.action, state, self._channel)
        return Step(turn, prediction, state, decision, advice, remarks)

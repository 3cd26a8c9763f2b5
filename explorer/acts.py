"""What the page can be asked to do: each act takes a desk and returns the next one, with a note."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from deesc_model import SIGNALS, TRIGGERS, EscalationPolicy, InvalidInputError, Turn
from deesc_model.inputs import parse_conversations
from deesc_model.policy import shipped_policy
from deesc_model.risk import shipped_risk
from explorer.desk import SHIPPED, Desk, Models
from explorer.labels import Labels

Outcome = tuple[Desk, str]


class Acts:
    """The acts, with the models that they need.

    Every act may raise a `DeescError` whose message is for the page.
    """

    def __init__(self, models: Models) -> None:
        self._models = models

    def read(self, desk: Desk, name: str, raw: bytes, named: str, customers: str) -> Outcome:
        """Read a transcript or rows; `named` is empty to find the format out."""
        wanted = [line.strip() for line in customers.splitlines() if line.strip()]
        try:
            found = parse_conversations(name, raw, named=named or None, customers=wanted)
        except InvalidInputError as error:
            # The fields of the page stand for the options of the command.
            message = str(error).replace("with --customer NAME", "in the field “Customer’s name”")
            message = message.replace("with --input-format NAME", "in the field “Format”")
            raise InvalidInputError(message.replace("--customer is", "a name is")) from None
        left_out = sum((Counter(item.left_out) for item in found), Counter[str]())
        notes = [f"{name}: {_count(len(found), 'conversation')} read"]
        notes += [f"left out {kind} ({count})" for kind, count in left_out.items()]
        if kept := sum(bool(session.checked) for session in desk.sessions):
            notes.append(f"{_count(kept, 'conversation')} with checked labels kept")
        return desk.lay_out(found, self._models), ", ".join(notes)

    def say(self, desk: Desk, speaker: str, text: str) -> Outcome:
        """Add a typed turn and look at it."""
        session = desk.session.say(Turn(speaker, text), self._models[desk.model])
        return desk.put(session).look(len(session.turns) - 1, self._models), ""

    def take_back(self, desk: Desk) -> Outcome:
        """Leave out the latest turn."""
        session = desk.session.take_back()
        if not session.turns:
            return replace(desk.put(session), turn=0), ""
        return desk.put(session).look(min(desk.turn, len(session.turns) - 1), self._models), ""

    def clear(self, desk: Desk) -> Outcome:
        """Forget all conversations."""
        return desk.clear(), "Everything is forgotten."

    def view(self, desk: Desk, position: int) -> Outcome:
        """Bring another conversation into view."""
        return desk.view(position, self._models), ""

    def look(self, desk: Desk, turn: int | None) -> Outcome:
        """Look closely at a turn."""
        return (desk if turn is None else desk.look(turn, self._models)), ""

    def use_channel(self, desk: Desk, channel: str) -> Outcome:
        """Advise for another channel."""
        return desk.put(replace(desk.session, channel=channel)), ""

    def use_policy(self, desk: Desk, name: str, raw: bytes) -> Outcome:
        """Act by another policy."""
        policy = EscalationPolicy.parse(raw, name)
        return replace(desk, policy=policy, policy_name=name), f"acting by {name}"

    def use_shipped_policy(self, desk: Desk) -> Outcome:
        """Act by the policy of the package again."""
        policy = shipped_policy()
        return replace(desk, policy=policy, policy_name=SHIPPED), ""

    def use_model(self, desk: Desk, model: str) -> Outcome:
        """Label by another bundle."""
        said = shipped_risk().mismatch(self._models[model].model_version)
        return desk.relabel(model, self._models), said

    def explain_all(self, desk: Desk) -> Outcome:
        """Mark the words in every turn of the customer that is short enough."""
        there = desk
        for turn in range(len(desk.session.turns)):
            there = there.look(turn, self._models)
        return replace(there, turn=desk.turn), ""

    def check(
        self,
        desk: Desk,
        level: int | None,
        triggers: Sequence[str],
        signals: Sequence[str],
        mark: str,
    ) -> Outcome:
        """Take a person's labels of the turn that is looked at; `mark` is its `Desk.mark`."""
        if not desk.session.turns or level is None:
            raise InvalidInputError("there is no turn yet")
        _refuse_another(desk, mark)
        labels = Labels(
            level,
            tuple(name for name in TRIGGERS if name in triggers),
            tuple(name for name in SIGNALS if name in signals),
        )
        session = desk.session.check(desk.turn, labels)
        return desk.put(session), f"turn {desk.turn + 1} is checked"

    def check_rest(
        self,
        desk: Desk,
        level: int | None,
        triggers: Sequence[str],
        signals: Sequence[str],
        mark: str,
    ) -> Outcome:
        """As `check`, and take the model's labels of the other turns that nobody checked."""
        checked, _ = self.check(desk, level, triggers, signals, mark)
        session = checked.session.check_rest()
        left = ", ".join(str(turn + 1) for turn in session.unchecked)
        said = (
            f"all turns are checked but {left}, where the model says what the guide does not allow"
        )
        return checked.put(session), said if left else "all turns are checked"


def _refuse_another(desk: Desk, mark: str) -> None:
    """Refuse what was said of a turn that is not looked at any more: the page lags behind."""
    if mark != desk.mark:
        raise InvalidInputError(
            "the page still showed the turn before, so nothing was taken over; look again"
        )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

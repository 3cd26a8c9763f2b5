"""`Session`: one conversation, its labels, and what a person made of them."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from deesc_model import (
    ConversationCompanion,
    EscalationClassifier,
    EscalationPolicy,
    Evidence,
    InvalidInputError,
    Prediction,
    Step,
    Turn,
)
from deesc_model.evidence import explain_turn
from explorer.labels import Labels, check_labels


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation so far; every change returns another one.

    Attributes:
        name: What its file calls it.
        turns: What was said.
        predictions: What the model says of it, one for each turn once it is labelled.
        checked: Labels that a person confirmed or corrected, by turn from 0.
        evidence: The words behind the labels of the turns that were explained.
        channel: One of `deesc_model.playbook.CHANNELS`: the one that the file names, or that was
            in view before, until a person chooses another.
    """

    name: str = ""
    turns: tuple[Turn, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    checked: Mapping[int, Labels] = field(default_factory=dict)
    evidence: Mapping[int, tuple[Evidence, ...]] = field(default_factory=dict)
    channel: str = "chat"

    def labelled(self, classifier: EscalationClassifier) -> Self:
        """Label every turn unless this model already did; what a person checked stays."""
        versions = [prediction.model_version for prediction in self.predictions]
        if versions == [classifier.model_version] * len(self.turns):
            return self
        predictions = tuple(classifier.predict_conversation(self.turns))
        return replace(self, predictions=predictions, evidence={})

    def say(self, turn: Turn, classifier: EscalationClassifier) -> Self:
        """Add a turn and label it, with the turns before it as context."""
        before = self.labelled(classifier)
        prediction = classifier.predict(turn, self.turns)
        return replace(
            before, turns=(*before.turns, turn), predictions=(*before.predictions, prediction)
        )

    def take_back(self) -> Self:
        """Leave out the latest turn and what is known of it."""
        last = len(self.turns) - 1
        return replace(
            self,
            turns=self.turns[:-1],
            predictions=self.predictions[:-1],
            checked={turn: found for turn, found in self.checked.items() if turn != last},
            evidence={turn: found for turn, found in self.evidence.items() if turn != last},
        )

    def steps(self, policy: EscalationPolicy) -> list[Step]:
        """Return what is known and advised after each turn."""
        companion = ConversationCompanion(self.channel, policy)
        pairs = zip(self.turns, self.predictions, strict=True)
        return [companion.update(turn, prediction) for turn, prediction in pairs]

    def explained(self, turn: int, classifier: EscalationClassifier) -> Self:
        """Find the words behind the labels of a customer's turn, once.

        Raises:
            InvalidInputError: The text is too long to be explained.
        """
        if turn in self.evidence or self.turns[turn].speaker != "customer":
            return self
        found = explain_turn(classifier, self.turns, turn, self.predictions[turn])
        return replace(self, evidence={**self.evidence, turn: found})

    def labels(self, turn: int) -> Labels:
        """Return what a person said of a turn, or else the model."""
        return self.checked.get(turn) or Labels.of(self.predictions[turn])

    def check(self, turn: int, labels: Labels) -> Self:
        """Take a person's labels of a turn.

        Raises:
            InvalidInputError: The guide does not allow them together.
        """
        try:
            check_labels(self.turns[turn].speaker, labels)
        except InvalidInputError as error:
            raise InvalidInputError(f"turn {turn + 1}: {error}") from None
        return replace(self, checked={**self.checked, turn: labels})

    def check_rest(self) -> Self:
        """Take the model's labels of all other turns as a person's, where the guide allows them."""
        session = self
        for turn in self.unchecked:
            with contextlib.suppress(InvalidInputError):
                session = session.check(turn, self.labels(turn))
        return session

    @property
    def unchecked(self) -> list[int]:
        """The turns that no person has checked, from 0."""
        return [turn for turn in range(len(self.turns)) if turn not in self.checked]

"""Why a label: which words carry it, found by leaving each out and labelling again."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from deesc_model.classifier import EscalationClassifier
from deesc_model.errors import InvalidInputError
from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.rendering import turns_before
from deesc_model.types import Prediction, Turn

FRUSTRATION: Final = "frustration"
"""Explain the level by its expected value, which has no threshold to jump over."""

MOST_WORDS: Final = 200
"""Longest text that is explained, in words: each costs a forward pass."""

_LETTERS: Final = r"(?:\w[\u0300-\u036f]*)+"  # an accent may be a character of its own
_WORD: Final = re.compile(rf"{_LETTERS}(?:['’\-]{_LETTERS})*|[!?]+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word and what it adds to a score.

    Attributes:
        start: Where it begins in the text, in characters.
        end: Where it ends; ``text[start:end]`` is the word.
        text: The word itself.
        effect: The score with the word less the score without it: above 0 it speaks for the
            label. Of a probability, or of the frustration in levels.
    """

    start: int
    end: int
    text: str
    effect: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """The words behind one label of one text.

    Attributes:
        label: ``"frustration"``, a trigger, or a signal.
        score: The score of the whole text, from the same batch as the others.
        words: Every word, in order.
        noise: How far the score of the whole text moved in other company: alone, and beside one
            other text. Effects that are not above it say nothing.
    """

    label: str
    score: float
    words: tuple[Word, ...]
    noise: float

    def top(self, count: int) -> list[Word]:
        """Return the words that speak for the label above the noise, the strongest first."""
        heard = [word for word in self.words if word.effect > self.noise]
        return sorted(heard, key=lambda word: -word.effect)[:count]


def split_words(text: str) -> list[tuple[int, int]]:
    """Return where each word begins and ends; runs of ``!`` and ``?`` are words."""
    return [match.span() for match in _WORD.finditer(text)]


def without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return the text without some spans, which are in order and apart."""
    kept, at = [], 0
    for start, end in spans:
        kept.append(text[at:start])
        at = end
    return "".join([*kept, text[at:]])


def find_evidence(
    classifier: EscalationClassifier,
    turn: Turn,
    context: Sequence[Turn] = (),
    labels: Sequence[str] = (FRUSTRATION,),
) -> list[Evidence]:
    """Explain labels of one utterance by leave-one-out, in one batch for all labels.

    Words are left out one at a time, so of two that say the same neither may show.

    Args:
        classifier: The model.
        turn: The utterance.
        context: The turns before it, oldest first; they are kept whole.
        labels: What to explain: `FRUSTRATION`, triggers, signals.

    Raises:
        InvalidInputError: A label is unknown, or the text has more than `MOST_WORDS` words.
    """
    for label in labels:
        if label not in (FRUSTRATION, *TRIGGERS, *SIGNALS):
            raise InvalidInputError(f"{label!r} is no trigger, no signal and not {FRUSTRATION!r}")
    spans = split_words(turn.text)
    if len(spans) > MOST_WORDS:
        raise InvalidInputError(
            f"the text has {len(spans)} words, the limit for evidence is {MOST_WORDS};"
            " explain a part of it"
        )
    # What is left of a text of one word may be empty: a full stop stands for nothing said.
    shorter = [without(turn.text, [span]) for span in spans]
    texts = [turn.text, *(text if text.strip() else "." for text in shorter)]
    utterances = [Turn(turn.speaker, text) for text in texts]
    together = classifier.predict_batch(
        utterances, [context] * len(utterances), batch_size=len(utterances)
    )
    alone = classifier.predict(turn, context)
    beside = classifier.predict_batch(utterances[:2], [context] * len(utterances[:2]))[0]
    whole, *others = together
    found = []
    for label in labels:
        score = score_of(whole, label)
        repeats = [score_of(prediction, label) for prediction in (alone, beside)]
        words = tuple(
            Word(start, end, turn.text[start:end], score - score_of(other, label))
            for (start, end), other in zip(spans, others, strict=True)
        )
        noise = max(abs(score - repeat) for repeat in repeats)
        found.append(Evidence(label, score, words, noise))
    return found


def explained_labels(prediction: Prediction, *, calm: bool = False) -> tuple[str, ...]:
    """Return what of a prediction is explained: frustration, triggers and signals.

    Args:
        prediction: What the text was labelled with.
        calm: Whether the frustration is also explained if there is none.
    """
    frustration = (FRUSTRATION,) if calm or prediction.level > Level.CALM else ()
    return (*frustration, *prediction.triggers, *prediction.signals)


def explain_turn(
    classifier: EscalationClassifier, turns: Sequence[Turn], index: int, prediction: Prediction
) -> tuple[Evidence, ...]:
    """Explain what a turn was labelled with; one that is calm without labels gives nothing.

    Args:
        classifier: The model that made the prediction.
        turns: The conversation, oldest turn first.
        index: Which of them, from 0.
        prediction: What it was labelled with.

    Raises:
        InvalidInputError: It is to be explained and has more than `MOST_WORDS` words.
    """
    labels = explained_labels(prediction)
    if not labels:
        return ()
    context = turns_before(turns, index, classifier.bundle.config.encoder.context_turns)
    return tuple(find_evidence(classifier, turns[index], context, labels))


def explain_turns(
    classifier: EscalationClassifier, turns: Sequence[Turn], predictions: Sequence[Prediction]
) -> Iterator[tuple[Evidence, ...]]:
    """Explain a conversation turn by turn: what the customer's turns were labelled with.

    A turn's words make a batch of their own: one across turns would only add padding, and the
    scores that are compared would no longer come from one batch.

    Args:
        classifier: The model that made the predictions.
        turns: The conversation, oldest turn first.
        predictions: One for each turn.

    Yields:
        For each turn the evidence for its frustration if it is not calm, its triggers and its
        signals; nothing for an agent's turn and for one of more than `MOST_WORDS` words.
    """
    for index, (turn, prediction) in enumerate(zip(turns, predictions, strict=True)):
        if turn.speaker == "customer" and len(split_words(turn.text)) <= MOST_WORDS:
            yield explain_turn(classifier, turns, index, prediction)
        else:
            yield ()


def score_of(prediction: Prediction, label: str) -> float:
    """Return the frustration, or the probability of a trigger or signal."""
    if label == FRUSTRATION:
        return prediction.frustration
    scores = prediction.trigger_scores if label in TRIGGERS else prediction.signal_scores
    return scores[label]

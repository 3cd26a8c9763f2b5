"""What goes in (`Turn`) and what comes out (`Prediction`)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from deesc_model.errors import InvalidInputError
from deesc_model.labels import SIGNALS, SPEAKERS, TRIGGERS, Level

MAX_CHARACTERS: Final = 100_000
"""Longest text that is accepted, in characters: a guard, not the model's window."""

# Line breaks and tabs are ordinary; every other C0 or C1 control says that the text was
# decoded wrongly. Surrogates can't be written as UTF-8 at all.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# What errors="surrogateescape" makes of bytes that are not UTF-8.
_UNDECODED = re.compile(r"[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance and who said it.

    Attributes:
        speaker: ``"customer"`` or ``"agent"``.
        text: The utterance: 1 to `MAX_CHARACTERS` characters, not only whitespace.

    Raises:
        InvalidInputError: The speaker is unknown, or the text is not a string, empty, too
            long, or holds control characters or lone surrogates.
    """

    speaker: str
    text: str

    def __post_init__(self) -> None:
        """Check both fields, so that a `Turn` in hand is a valid one."""
        if not isinstance(self.speaker, str) or self.speaker not in SPEAKERS:
            raise InvalidInputError(
                f"speaker must be one of {', '.join(SPEAKERS)}, not {self.speaker!r:.40}"
            )
        if not isinstance(self.text, str):
            raise InvalidInputError(f"text must be a string, not {type(self.text).__name__}")
        if not self.text.strip():
            raise InvalidInputError("text is empty or only whitespace")
        if len(self.text) > MAX_CHARACTERS:
            raise InvalidInputError(
                f"text has {len(self.text):,} characters, the limit is {MAX_CHARACTERS:,};"
                " split it into turns"
            )
        if bad := _UNDECODED.search(self.text):
            raise InvalidInputError(
                f"text holds the byte 0x{ord(bad[0]) - 0xDC00:02X} at character {bad.start()}:"
                " not UTF-8; convert the source to UTF-8"
            )
        if bad := _SURROGATE.search(self.text):
            raise InvalidInputError(
                f"text holds a lone surrogate (U+{ord(bad[0]):04X}) at character {bad.start()};"
                " decode the source as UTF-8 or UTF-16"
            )
        if bad := _CONTROL.search(self.text):
            raise InvalidInputError(
                f"text holds a control character (U+{ord(bad[0]):04X}) at character"
                f" {bad.start()}; remove it or decode the source correctly"
            )


@dataclass(frozen=True, slots=True)
class Prediction:
    """The labels of one utterance.

    Attributes:
        level: The frustration level: the one that is expected, by `level_scores`, to cost least. A
            wrong level costs 1, one off by two or more 2 beside it, and one that misses a heated
            customer (3, 4) what the bundle says beside both.
        level_scores: Five calibrated probabilities, level 0 to 4, that sum to 1.
        frustration: Expected level under `level_scores`, 0.0 to 4.0.
        uncertain: Whether the level is doubtful enough for a person to look: its score is below
            the one from which, on validation data, levels were wrong no more often than the
            bundle was trained to allow.
        triggers: Trigger types whose score reaches its fitted threshold, in vocabulary order.
        trigger_scores: Calibrated probability 0–1 of every trigger type.
        signals: Escalation signals whose score reaches its fitted threshold.
        signal_scores: Calibrated probability 0–1 of every signal.
        model_version: Name and content hash of the bundle that answered.
    """

    level: Level
    level_scores: tuple[float, ...]
    frustration: float
    uncertain: bool
    triggers: tuple[str, ...]
    trigger_scores: Mapping[str, float]
    signals: tuple[str, ...]
    signal_scores: Mapping[str, float]
    model_version: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, scores rounded to four decimals."""
        return {
            "level": int(self.level),
            "level_name": self.level.label,
            "frustration": round(self.frustration, 4),
            "uncertain": self.uncertain,
            "level_scores": [round(score, 4) for score in self.level_scores],
            "triggers": list(self.triggers),
            "trigger_scores": {k: round(v, 4) for k, v in self.trigger_scores.items()},
            "signals": list(self.signals),
            "signal_scores": {k: round(v, 4) for k, v in self.signal_scores.items()},
            "model_version": self.model_version,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a prediction from what `to_dict` returned.

        Raises:
            InvalidInputError: A field is missing or has the wrong form.
        """
        try:
            if data["uncertain"] not in (True, False):
                raise ValueError(f"uncertain must be true or false, not {data['uncertain']!r:.40}")
            if not isinstance(data["model_version"], str):
                raise TypeError("model_version must be text")
            return cls(
                level=Level(data["level"]),
                level_scores=_level_scores(data["level_scores"]),
                frustration=_within(data["frustration"], max(Level)),
                uncertain=bool(data["uncertain"]),
                triggers=_known(data["triggers"], TRIGGERS),
                trigger_scores=_scores(data["trigger_scores"], TRIGGERS),
                signals=_known(data["signals"], SIGNALS),
                signal_scores=_scores(data["signal_scores"], SIGNALS),
                model_version=data["model_version"],
            )
        except KeyError as error:
            raise InvalidInputError(f"prediction lacks the field {error.args[0]!r}") from None
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InvalidInputError(f"not a prediction: {error}") from None


def _within(value: Any, highest: float) -> float:
    if not 0 <= (number := float(value)) <= highest:
        raise ValueError(f"{number} is not from 0 to {highest:g}")
    return number


def _level_scores(values: Any) -> tuple[float, ...]:
    scores = tuple(_within(value, 1) for value in values)
    if len(scores) != len(Level):
        raise ValueError(f"level_scores must be {len(Level)} numbers, not {len(scores)}")
    return scores


def _known(names: Any, vocabulary: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError(f"labels must be a list, not {names!r:.40}")
    for name in names:
        if name not in vocabulary:
            raise ValueError(f"{name!r:.40} is none of {', '.join(vocabulary)}")
    return tuple(names)


def _scores(values: Any, vocabulary: tuple[str, ...]) -> dict[str, float]:
    if odd := sorted({*values} ^ {*vocabulary}):
        raise ValueError(f"there must be one score each for {', '.join(vocabulary)}; see {odd[0]}")
    return {name: _within(value, 1) for name, value in values.items()}


def as_turn(item: str | Turn) -> Turn:
    """Return a turn; a plain string is the customer's.

    Raises:
        InvalidInputError: It is neither, or not proper text.
    """
    if isinstance(item, Turn):
        return item
    if not isinstance(item, str):
        raise InvalidInputError(f"expected a string or a Turn, not {type(item).__name__}")
    return Turn("customer", item)


def as_list(values: object, name: str) -> list[Any]:
    """Take any iterable but a bare text, which would be read character by character.

    Raises:
        InvalidInputError: It is none; `name` says of what.
    """
    if isinstance(values, str | bytes | Turn | Mapping) or not isinstance(values, Iterable):
        raise InvalidInputError(f"{name} must be a list, not one {type(values).__name__}")
    return list(values)


def as_batch(utterances: object, contexts: object) -> list[tuple[Turn, list[Turn]]]:
    """Return utterances, each with the turns before it; plain strings are the customer's.

    Args:
        utterances: The utterances, strings or turns.
        contexts: For each of them a list of the same; None means no context.

    Raises:
        InvalidInputError: A text is not proper text (the message names its index), or there are
            not as many contexts as utterances.
    """
    texts = as_list(utterances, "utterances")
    before = [()] * len(texts) if contexts is None else as_list(contexts, "contexts")
    if len(before) != len(texts):
        raise InvalidInputError(
            f"{len(texts)} utterances but {len(before)} contexts; give one each"
        )
    batch = []
    for index, (utterance, context) in enumerate(zip(texts, before, strict=True)):
        try:
            batch.append((as_turn(utterance), _as_context(context)))
        except InvalidInputError as error:
            raise InvalidInputError(f"utterance {index}: {error}") from None
    return batch


def _as_context(context: object) -> list[Turn]:
    try:
        return [as_turn(item) for item in as_list(context, "context")]
    except InvalidInputError as error:
        raise InvalidInputError(f"in its context: {error}") from None

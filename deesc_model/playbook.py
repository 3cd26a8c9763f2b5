"""The playbook: what to do and to say, by trigger, level and channel; and what an agent missed."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Final, Self

from deesc_model.errors import SettingsError
from deesc_model.labels import TRIGGERS, Level
from deesc_model.monitor import ConversationState
from deesc_model.policy import Action
from deesc_model.types import Prediction, Turn

PLAYBOOK_FILE: Final = Path(__file__).with_name("playbook.toml")
"""The playbook that comes with the package."""

CHANNELS: Final = ("phone", "chat", "email", "social")
_VENDORS_CHANNELS: Final = {"voice": "phone", "call": "phone"}
ANY: Final = "any"
"""Stands for every trigger, and for none."""

SUGGESTIONS: Final = {Action.NONE: 0, Action.WATCH: 1, Action.DE_ESCALATE: 2, Action.HAND_OVER: 1}
"""How many suggestions an action comes with at most."""


@dataclass(frozen=True, slots=True)
class Technique:
    """One way to calm: its name, what the agent does, and why it works."""

    name: str
    does: str
    why: str


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What fits one trigger at a level and channel.

    Attributes:
        trigger: The trigger that it answers, or ``"any"``.
        techniques: What to do, the most important first.
        say: Two or three phrasings, to be put into own words.
        avoid: What makes it worse.
    """

    trigger: str
    techniques: tuple[Technique, ...]
    say: tuple[str, ...]
    avoid: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """What the playbook says to an action.

    Attributes:
        suggestions: One for each open trigger, the one mentioned last first.
        channel: What to mind on this channel.
        checklist: What to do for a hand-over; empty for other actions.
    """

    suggestions: tuple[Suggestion, ...] = ()
    channel: str = ""
    checklist: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that an agent's turn risks or lacks, and the technique that would help."""

    what: str
    technique: Technique


@dataclass(frozen=True, slots=True)
class _Entry:
    levels: tuple[int, ...]
    channels: tuple[str, ...]
    suggestion: Suggestion

    def fits(self, trigger: str, level: int, channel: str) -> bool:
        """Say whether the entry is about this trigger, level and channel."""
        known = self.suggestion.trigger in (ANY, trigger)
        return known and level in self.levels and channel in (self.channels or CHANNELS)


@dataclass(frozen=True, slots=True)
class Playbook:
    """Contents of a playbook file, checked.

    Attributes:
        after: What to do when the conversation is over.
    """

    after: tuple[str, ...]
    _hand_over: tuple[str, ...] = field(repr=False)
    _channels: Mapping[str, str] = field(repr=False)
    _entries: tuple[_Entry, ...] = field(repr=False)
    _provocations: Mapping[str, Remark] = field(repr=False)
    _missed: Remark = field(repr=False)
    _acknowledgement: re.Pattern[str] = field(repr=False)

    @classmethod
    def read(cls, path: str | PathLike[str] = PLAYBOOK_FILE) -> Self:
        """Read and check a playbook.

        Raises:
            SettingsError: The file cannot be read, names an unknown trigger, technique, channel
                or key, or has no entry for some trigger, level and channel.
        """
        try:
            data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} is not TOML: {error}") from None
        try:
            return cls(*_read_parts(data))
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from None

    def suggest(self, trigger: str, level: Level, channel: str) -> Suggestion:
        """Return what fits; `trigger` may be ``"any"`` where none is known.

        Raises:
            SettingsError: The channel or trigger is unknown.
        """
        check_channel(channel)
        for entry in self._entries:
            if entry.fits(trigger, level, channel):
                return entry.suggestion
        raise SettingsError(f"no entry for trigger {trigger!r} at level {int(level)}")

    def advise(self, action: Action, state: ConversationState, channel: str = "chat") -> Advice:
        """Return the top suggestions for an action in a state of the conversation."""
        if action is Action.NONE:
            return Advice()
        courses = [course for course in state.triggers if not course.resolved]
        courses.sort(key=lambda course: -course.latest)
        names = [course.name for course in courses] or [ANY]
        found = [self.suggest(name, state.level, channel) for name in names]
        unique = tuple(dict.fromkeys(found))[: SUGGESTIONS[action]]
        checklist = self._hand_over if action is Action.HAND_OVER else ()
        return Advice(unique, self._channels[channel], checklist)

    def check_agent(
        self, turn: Turn, prediction: Prediction, before: ConversationState | None
    ) -> tuple[Remark, ...]:
        """Return what an agent's turn risks or lacks; nothing for a customer's turn.

        Args:
            turn: The agent's turn.
            prediction: What the classifier says of it: its triggers name provoking wording.
            before: The state before the turn; None if it is the first.
        """
        if turn.speaker != "agent":
            return ()
        remarks = [
            self._provocations[name] for name in prediction.triggers if name in self._provocations
        ]
        answers = before is not None and before.speaker == "customer"
        upset = before is not None and before.level >= Level.FRUSTRATED
        if answers and upset and not self._acknowledgement.search(_straight(turn.text)):
            remarks.append(self._missed)
        return tuple(remarks)


@cache
def shipped_playbook() -> Playbook:
    """Return the playbook that comes with the package."""
    return Playbook.read()


def check_channel(channel: str) -> str:
    """Return the channel.

    Raises:
        SettingsError: It is none of `CHANNELS`.
    """
    if channel not in CHANNELS:
        raise SettingsError(f"channel must be one of {', '.join(CHANNELS)}, not {channel!r}")
    return channel


def channel_of(metadata: Mapping[str, Any], default: str = "chat") -> str:
    """Return the channel that a conversation's metadata names in a word that is known, or else."""
    named = str(metadata.get("channel", "")).lower()
    channel = _VENDORS_CHANNELS.get(named, named)
    return channel if channel in CHANNELS else default


def _read_parts(data: Mapping[str, Any]) -> tuple[Any, ...]:
    """Check a whole file; return the fields of `Playbook`."""
    top = _table(
        data,
        "the file",
        ("techniques", "entries", "channels", "provocations", "acknowledgement", "checklists"),
    )
    techniques = {}
    for key, row in _table(top["techniques"], "techniques").items():
        text = _table(row, f"techniques.{key}", ("name", "does", "why"))
        techniques[key] = Technique(*(_text(text, k, f"techniques.{key}") for k in text))

    def technique(name: object, where: str) -> Technique:
        if not isinstance(name, str) or name not in techniques:
            raise SettingsError(f"{where}: unknown technique {name!r}")
        return techniques[name]

    def entry(row: object, where: str) -> _Entry:
        keys = ("trigger", "levels", "techniques", "say", "avoid")
        optional = ("channels",) if isinstance(row, dict) and "channels" in row else ()
        given = _table(row, where, keys + optional)
        suggestion = Suggestion(
            trigger=_words([given["trigger"]], f"{where}.trigger", (*TRIGGERS, ANY))[0],
            techniques=tuple(technique(name, where) for name in _words(given["techniques"], where)),
            say=_words(given["say"], f"{where}.say"),
            avoid=_words(given["avoid"], f"{where}.avoid"),
        )
        levels = given["levels"]
        if not isinstance(levels, list) or not levels or any(n not in list(Level) for n in levels):
            raise SettingsError(f"{where}.levels must be a list of levels 0 to 4, not {levels!r}")
        channels = given.get("channels", list(CHANNELS))
        return _Entry(tuple(levels), _words(channels, f"{where}.channels", CHANNELS), suggestion)

    if not isinstance(top["entries"], list):
        raise SettingsError("entries must be a list of tables, [[entries]]")
    entries = tuple(entry(row, f"entries[{k}]") for k, row in enumerate(top["entries"], start=1))
    _check_complete(entries)
    provocations = {}
    for name, row in _table(top["provocations"], "provocations").items():
        _words([name], "provocations", TRIGGERS)
        where = f"provocations.{name}"
        given = _table(row, where, ("what", "technique"))
        provocations[name] = Remark(
            _text(given, "what", where), technique(given["technique"], where)
        )
    where = "acknowledgement"
    given = _table(top[where], where, ("what", "technique", "words"))
    missed = Remark(_text(given, "what", where), technique(given["technique"], where))
    words = "|".join(re.escape(_straight(word)) for word in _words(given["words"], where))
    checklists = _table(top["checklists"], "checklists", ("hand_over", "after"))
    channels = _table(top["channels"], "channels", CHANNELS)
    return (
        _words(checklists["after"], "checklists.after"),
        _words(checklists["hand_over"], "checklists.hand_over"),
        {name: _text(channels, name, "channels") for name in CHANNELS},
        entries,
        provocations,
        missed,
        re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE),
    )


def _straight(text: str) -> str:
    """Return a text with the apostrophes of a keyboard."""
    return text.replace("’", "'")


def _check_complete(entries: Sequence[_Entry]) -> None:
    """Refuse a playbook that would have nothing to say."""
    for trigger in (*TRIGGERS, ANY):
        for level in Level:
            for channel in CHANNELS:
                if not any(entry.fits(trigger, level, channel) for entry in entries):
                    raise SettingsError(
                        f"no entry for trigger {trigger!r} at level {int(level)} by {channel};"
                        ' add one, or one for trigger "any"'
                    )


def _table(value: object, where: str, keys: Sequence[str] | None = None) -> dict[str, Any]:
    """Take a table with exactly these keys, in their order."""
    if not isinstance(value, dict):
        raise SettingsError(f"{where} must be a table, not {value!r:.40}")
    for key in value if keys is not None else ():
        if key not in (keys or ()):
            raise SettingsError(f"{where}: unknown key {key!r}; known are {', '.join(keys or ())}")
    for key in keys or ():
        if key not in value:
            raise SettingsError(f"{where}: the key {key!r} is missing")
    return {key: value[key] for key in keys or value}


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"{where}.{key} must be a text, not {value!r:.40}")
    return value


def _words(value: object, where: str, known: Sequence[str] | None = None) -> tuple[str, ...]:
    """Take a list of texts, at least one, of `known` ones if those are given."""
    if not isinstance(value, list) or not value:
        raise SettingsError(f"{where} must be a list of texts, not {value!r:.40}")
    for item in value:
        if not isinstance(item, str) or not item.strip():
            raise SettingsError(f"{where} must hold texts, not {item!r:.40}")
        if known is not None and item not in known:
            raise SettingsError(f"{where} names {item!r}, which is none of {', '.join(known)}")
    return tuple(value)

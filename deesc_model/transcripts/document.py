"""What a transcript file holds: its bytes, its text and, where it is JSON, its objects."""

import json
import re
from dataclasses import dataclass
from typing import Final, Self

from deesc_model.errors import InvalidInputError

UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
"""How a text in UTF-16 begins."""

_LARGEST: Final = 1e18


@dataclass(frozen=True, slots=True)
class Node:
    """A value inside of a JSON file and where it stands there.

    Attributes:
        value: What `json` made of it; None if it is null or missing.
        place: Its path, for example ``Transcript[3].Content``.
    """

    value: object
    place: str

    def has(self, *names: str) -> bool:
        """Return whether this is an object with all of these fields."""
        return isinstance(self.value, dict) and all(name in self.value for name in names)

    def get(self, name: str) -> "Node":
        """Return a field of this object; null has null in every field.

        Raises:
            InvalidInputError: This is no object.
        """
        fields = {} if self.value is None else self.value
        if not isinstance(fields, dict):
            raise self._wrong("an object")
        return Node(fields.get(name), f"{self.place}.{name}".lstrip("."))

    def items(self) -> "list[Node]":
        """Return the members of this list; null has none.

        Raises:
            InvalidInputError: This is no list.
        """
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self._wrong("a list")
        return [Node(item, f"{self.place}[{index}]") for index, item in enumerate(self.value)]

    def fields(self) -> "dict[str, Node]":
        """Return the fields of this object; null has none.

        Raises:
            InvalidInputError: This is no object.
        """
        if self.value is not None and not isinstance(self.value, dict):
            raise self._wrong("an object")
        return {name: self.get(name) for name in self.value or {}}

    def text(self) -> str:
        """Return this string; null is an empty one.

        Raises:
            InvalidInputError: This is no string.
        """
        if self.value is None:
            return ""
        if not isinstance(self.value, str):
            raise self._wrong("a string")
        return self.value

    def number(self) -> float | None:
        """Return this number, or None for null.

        Raises:
            InvalidInputError: This is no number, or one that no time, score or id reaches.
        """
        if self.value is None:
            return None
        if type(self.value) not in (int, float):
            raise self._wrong("a number")
        if not -_LARGEST <= self.value <= _LARGEST:  # type: ignore[operator]
            raise self._wrong(f"a number up to {_LARGEST:g}")
        return self.value  # type: ignore[return-value]

    def identifier(self) -> str:
        """Return this string or whole number as a string; null is an empty one.

        Raises:
            InvalidInputError: This is neither.
        """
        if type(self.value) is int:
            return str(self.value)
        return self.text()

    def _wrong(self, expected: str) -> InvalidInputError:
        kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
        found = "missing" if self.value is None else kinds.get(type(self.value), "a number")
        return InvalidInputError(f"{self.place or 'the file'} must be {expected}, not {found}")


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read whole.

    Attributes:
        raw: Its bytes.
        text: Its text; bytes that are not UTF-8 are surrogates, which `Turn` refuses.
        objects: Its JSON values: the members of a list, one a line, or the only one; empty if
            it is not JSON.
        json_error: Why it is not JSON although it begins like it, or an empty string.
    """

    raw: bytes
    text: str
    objects: tuple[Node, ...]
    json_error: str

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Decode a file's bytes.

        Raises:
            InvalidInputError: It has the mark of UTF-16 but is not UTF-16.
        """
        text = _decode(raw)
        objects: tuple[Node, ...] = ()
        json_error = ""
        if text.lstrip().startswith(("{", "[")):
            try:
                objects = _json_objects(text)
            except (ValueError, RecursionError) as error:
                json_error = str(error)
        return cls(raw, text, objects, json_error)

    def members(self, name: str) -> list[Node]:
        """Return the JSON values; of those that list their own under `name`, the listed ones."""
        return [
            member
            for item in self.objects
            for member in (
                item.get(name).items()
                if item.has(name) and isinstance(item.get(name).value, list)
                else [item]
            )
        ]

    def first(self, name: str) -> Node:
        """Return the first of `members`, or null if there is none: what formats are told by."""
        members = self.members(name)
        return members[0] if members else Node(None, "")

    def lines(self) -> list[str]:
        """Return the lines of the text, split at line breaks only, not at U+2028 and the like."""
        return re.split(r"\r\n|\r|\n", self.text)


def _decode(raw: bytes) -> str:
    if raw.startswith(UTF16_MARKS):
        try:
            return raw.decode("utf-16")
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"the file begins as UTF-16, but: {error.reason}") from None
    return raw.decode("utf-8-sig", "surrogateescape")


def _json_objects(text: str) -> tuple[Node, ...]:
    """Return the members of a JSON list, the values of JSON Lines, or the only value."""
    try:
        whole = _parse(text)
    except ValueError:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) < 2 or not lines[0].rstrip().endswith("}"):
            raise
        return tuple(Node(_parse(line), f"[{index}]") for index, line in enumerate(lines))
    if isinstance(whole, list):
        return tuple(Node(item, f"[{index}]") for index, item in enumerate(whole))
    return (Node(whole, ""),)


def _parse(text: str) -> object:
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")

"""Whole conversations that repeat earlier ones, word for word or nearly."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from training.near_duplicates import SHORTEST, SimilarTexts

SHARE = 0.5
"""Share of a customer's longer turns from which on a conversation repeats another one."""


class KnownConversations:
    """What was seen so far."""

    def __init__(self) -> None:
        self._exact: set[tuple[tuple[str, str], ...]] = set()
        self._similar = SimilarTexts()
        self._count = 0

    def add(self, turns: Sequence[tuple[str, str]]) -> str:
        """Remember a conversation of speakers and texts.

        Agents' turns count for exact repetition only: agents greet all alike.

        Returns:
            ``"exact"`` or ``"near"`` if it repeats an earlier one, else an empty string.
        """
        key = tuple((speaker, " ".join(text.lower().split())) for speaker, text in turns)
        if key in self._exact:
            return "exact"
        self._exact.add(key)
        self._count += 1
        longer = [
            text for who, text in turns if who == "customer" and len(text.split()) >= SHORTEST
        ]
        repeated: Counter[int] = Counter()
        for text in longer:
            repeated.update({name for name, _ in self._similar.add(text, self._count)})
        repeated.pop(self._count, None)  # a customer may say the same twice
        return "near" if max(repeated.values(), default=0) >= max(SHARE * len(longer), 1) else ""

    def add_all(self, turns: Iterable[tuple[str, str, str]]) -> None:
        """Remember turns, each with the id of its conversation in front."""
        conversations: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        for name, speaker, text in turns:
            conversations[name].append((speaker, text))
        for members in conversations.values():
            self.add(members)

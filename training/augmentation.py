"""Changes to a text that leave its labels as they are: how people type, not what they say."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from training.corpus import Utterance

HANDLES = ("@{}_help", "@{}Support", "@{}", "@ask{}", "@{}Cares", "@{}_uk")
NAMES = ("Brightline", "northgate", "Tarvo", "kestrel", "OneHub", "velora", "Zenbank", "mooviq")
TAGS = ("#help", "#support", "#service", "#{}")
EMOJI = ("📦", "📞", "✈️", "💳", "🚌", "📶", "🧾", "🏠")
FILLERS = ("um", "uh", "so", "like", "you know", "well")

Change = Callable[[str, random.Random], str]


def _lower(text: str, chance: random.Random) -> str:
    del chance
    # Capitals carry heat: texts that shout stay as they are.
    return text if re.search(r"\b[A-Z]{3,}\b", text) else text.lower()


def _bare(text: str, chance: random.Random) -> str:
    """Drop punctuation but what carries heat, as phone transcripts and hurried people do."""
    del chance
    return " ".join(re.sub(r"[.,;:…\"“”()]", " ", text).split()) or text


def _misspelt(text: str, chance: random.Random) -> str:
    words = list(re.finditer(r"[^\W\d_]{4,}", text))
    for word in sorted(chance.sample(words, min(len(words), 1 + len(words) // 12)), key=_backwards):
        at = chance.randrange(word.start() + 1, word.end() - 1)
        kind = chance.randrange(3)
        if kind == 0:
            text = text[:at] + text[at + 1 :]
        elif kind == 1:
            text = text[:at] + text[at] + text[at:]
        else:
            text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text


def _backwards(word: re.Match[str]) -> int:
    return -word.start()


def _addressed(text: str, chance: random.Random) -> str:
    handle = chance.choice(HANDLES).format(chance.choice(NAMES))
    return f"{handle} {text}" if chance.random() < 0.7 else f"{text} {handle}"


def _tagged(text: str, chance: random.Random) -> str:
    return f"{text} {chance.choice(TAGS).format(chance.choice(NAMES))}"


def _linked(text: str, chance: random.Random) -> str:
    letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return f"{text} https://t.co/{''.join(chance.choices(letters, k=8))}"


def _with_emoji(text: str, chance: random.Random) -> str:
    return f"{text} {chance.choice(EMOJI)}"


def _hesitant(text: str, chance: random.Random) -> str:
    words = text.split(" ")
    words.insert(chance.randrange(len(words)), chance.choice(FILLERS))
    return " ".join(words)


CHANGES: tuple[Change, ...] = (
    _lower,
    _bare,
    _misspelt,
    _addressed,
    _tagged,
    _linked,
    _with_emoji,
    _hesitant,
)


def augment(rows: Sequence[Utterance], seed: int) -> list[Utterance]:
    """Return the same utterances, each changed in one or two ways; context and labels stay.

    Args:
        rows: Of the training split.
        seed: Seed of what is changed and how.
    """
    chance = random.Random(seed)  # noqa: S311
    changed = []
    for row in rows:
        text = row.text
        for change in chance.sample(CHANGES, chance.choice((1, 1, 2))):
            text = change(text, chance)
        changed.append(replace(row, text=text))
    return changed

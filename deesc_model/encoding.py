"""From rendered text to arrays: `tokenizer.json` in, int64 arrays (batch, sequence) out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer
from tokenizers.normalizers import BertNormalizer, Lowercase
from tokenizers.pre_tokenizers import BertPreTokenizer, Whitespace

from deesc_model.errors import BundleError
from deesc_model.labels import SPEAKERS
from deesc_model.rendering import newest_turns, render_context, render_turn, speaker_prefix
from deesc_model.types import Turn

Int64Array = npt.NDArray[np.int64]

INPUT_NAMES: Final = ("input_ids", "attention_mask", "utterance_mask")
"""Names of the model's inputs, each int64 of shape (batch, sequence)."""


READ_TOGETHER: Final = 256
"""Texts that the tokenizer reads in one call: enough for every CPU, and few enough that what it
notes about each token takes little memory."""


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How much the model reads.

    Attributes:
        max_length: Longest input in tokens, special tokens included.
        context_turns: How many preceding turns are read at most.
        context_tokens: How many tokens of them are read at most, the newest.
        window_overlap: Tokens shared by neighbouring windows of a text that is longer than
            `max_length`.
    """

    max_length: int = 256
    context_turns: int = 4
    context_tokens: int = 96
    window_overlap: int = 32


@dataclass(frozen=True, slots=True)
class EncodedInput:
    """Token ids of one window: the first `utterance_length` belong to the utterance."""

    ids: tuple[int, ...]
    utterance_length: int


@dataclass(frozen=True, slots=True)
class _Frame:
    """The special tokens around an utterance, and around the context after it if there is one."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, pair: bool) -> "_Frame":
        """Read them off what the tokenizer makes of a word."""
        word, other = (tokenizer.encode("hello", add_special_tokens=False) for _ in range(2))
        whole = tokenizer.post_process(word, other if pair else None)
        ids, special = whole.ids, whole.special_tokens_mask
        first = special.index(0)
        end = first + len(word)
        second = special.index(0, end) if pair else end
        last = second + len(other) if pair else end
        return cls(tuple(ids[:first]), tuple(ids[end:second]), tuple(ids[last:]))

    @property
    def size(self) -> int:
        """Number of special tokens."""
        return len(self.before) + len(self.between) + len(self.after)

    def around(self, utterance: Sequence[int], context: Sequence[int] = ()) -> EncodedInput:
        """Return the whole input; without a context what is after it belongs to the utterance."""
        mine = (*self.before, *utterance, *self.between)
        ids = (*mine, *context, *self.after)
        return EncodedInput(ids, len(mine) if context else len(ids))


class InputEncoder:
    """Turns an utterance and its context into one or more windows of token ids.

    A window reads ``[CLS] utterance [SEP] context [SEP]``. The context gives way to the
    utterance and loses its oldest tokens first, but not the speaker of what is left. An
    utterance that alone is longer than the model reads is split into overlapping windows
    without context, so nothing is cut; each window begins with the speaker.
    """

    def __init__(self, tokenizer: Tokenizer, settings: EncoderSettings) -> None:
        # Base checkpoints ship fixed padding and truncation; both are ours to decide.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # "[SEP]" in a customer's text is five characters, not the end of the utterance.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.settings = settings
        self._alone = _Frame.of(tokenizer, pair=False)
        self._with_context = _Frame.of(tokenizer, pair=True)
        pads = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>"))
        self.pad_id = next((pad for pad in pads if pad is not None), 0)
        self._words_apart = _reads_words_apart(tokenizer)
        prefixes = {name: speaker_prefix(Turn(name, "hello")) for name in SPEAKERS}
        self._speakers = {name: self._encode_text(text).ids for name, text in prefixes.items()}

    @classmethod
    def from_file(cls, path: Path, settings: EncoderSettings) -> "InputEncoder":
        """Load `tokenizer.json`.

        Raises:
            BundleError: The file cannot be read as a tokenizer, or encodes nothing.
        """
        try:
            return cls(Tokenizer.from_file(str(path)), settings)
        except Exception as error:  # tokenizers raises bare Exception, some at the first text
            raise BundleError(f"{path} is not a usable tokenizer: {error}") from None

    def encode(self, turn: Turn, context: Sequence[Turn] = ()) -> list[EncodedInput]:
        """Return the windows of one utterance, at least one.

        Args:
            turn: The utterance.
            context: The turns before it, oldest first.
        """
        return self.encode_many([turn], [context], parallel=False)[0]

    def encode_many(
        self, turns: Sequence[Turn], contexts: Sequence[Sequence[Turn]], *, parallel: bool
    ) -> list[list[EncodedInput]]:
        """Return the windows of each utterance, as `encode` does.

        Args:
            turns: The utterances.
            contexts: The turns before each of them, oldest first.
            parallel: Whether the tokenizer may read texts side by side, on every CPU.
        """
        windows: list[list[EncodedInput]] = []
        for start in range(0, len(turns), READ_TOGETHER):
            part = slice(start, start + READ_TOGETHER)
            windows += self._encode_part(turns[part], contexts[part], parallel)
        return windows

    def _encode_part(
        self, turns: Sequence[Turn], contexts: Sequence[Sequence[Turn]], parallel: bool
    ) -> list[list[EncodedInput]]:
        settings = self.settings
        bodies = self._ids([render_turn(turn) for turn in turns], parallel)
        windows: list[list[EncodedInput]] = []
        after: list[tuple[int, Sequence[Turn], int]] = []
        for index, (turn, body, context) in enumerate(zip(turns, bodies, contexts, strict=True)):
            room = min(
                settings.context_tokens, settings.max_length - self._with_context.size - len(body)
            )
            newest = newest_turns(context, settings.context_turns)
            if len(body) > settings.max_length - self._alone.size:
                windows.append(self._split(turn))
            else:
                windows.append([self._alone.around(body)])
                if newest and room > 0:
                    after.append((index, newest, room))
        told = [(context, room) for _, context, room in after]
        for (index, _, _), before in zip(after, self._contexts(told, parallel), strict=True):
            windows[index] = [self._with_context.around(bodies[index], before)]
        return windows

    def _ids(self, texts: Sequence[str], parallel: bool) -> list[list[int]]:
        """Return the tokens of each text, without offsets, which take a third of the time."""
        groups = [list(texts)] if parallel else [[text] for text in texts]
        return [
            encoding.ids
            for group in groups
            for encoding in self._tokenizer.encode_batch_fast(group, add_special_tokens=False)
        ]

    def _split(self, turn: Turn) -> list[EncodedInput]:
        """Return the windows of an utterance that is longer than the model reads."""
        body = self._encode_text(render_turn(turn))
        speaker = _speaker_tokens(body, turn)
        room = self.settings.max_length - self._alone.size
        body.truncate(room - len(speaker), stride=self.settings.window_overlap)
        windows = [body.ids, *([*speaker, *window.ids] for window in body.overflowing)]
        return [self._alone.around(window) for window in windows]

    def _contexts(
        self, contexts: Sequence[tuple[Sequence[Turn], int]], parallel: bool
    ) -> list[list[int]]:
        """Return the newest tokens of contexts, of each as many as it has room for."""
        tails = [
            self._tail(render_context(context, len(context)), room) for context, room in contexts
        ]
        texts = [text for text, _ in tails]
        read = (
            self._tokenizer.encode_batch(texts, add_special_tokens=False)
            if parallel
            else map(self._encode_text, texts)
        )
        return [
            self._newest_ids(context, room, encoding, skipped)
            for (context, room), (_, skipped), encoding in zip(contexts, tails, read, strict=True)
        ]

    def _tail(self, text: str, room: int) -> tuple[str, int]:
        """Return the end of a text that hardly holds fewer than `room` tokens, or all of it.

        Tokens that are cut are not worth making. Where words are read apart, one word more than
        `room` is enough, as hardly a word is no token.

        Returns:
            The end, and how many characters before it were skipped.
        """
        if self._words_apart:
            older, *words = text.rstrip(" ").rsplit(" ", room + 1)
            if len(words) > room:
                return " ".join(words), len(older) + 1
        return text, 0

    def _newest_ids(
        self, context: Sequence[Turn], room: int, before: Encoding, skipped: int
    ) -> list[int]:
        """Return the newest `room` tokens of a context.

        A turn that is cut keeps its speaker, in place of as many of its oldest tokens.

        Args:
            context: The turns.
            room: How many tokens there is room for.
            before: The end of them as text.
            skipped: How many characters before that end were not read.
        """
        if skipped and len(before) <= room:  # some words were no tokens
            before, skipped = self._encode_text(render_context(context, len(context))), 0
        speaker: list[int] = []
        if len(before) > room:
            cut = skipped + before.offsets[len(before) - room][0]
            start = 0
            for turn in context:
                end = start + len(render_turn(turn))
                if start < cut <= end:
                    speaker = (
                        self._speakers[turn.speaker]
                        if self._words_apart
                        else _speaker_tokens(before, turn, start)
                    )
                start = end + 1
        ids = list(before.ids[-room:])
        if len(speaker) < room:
            ids[: len(speaker)] = speaker
        return ids

    def _encode_text(self, text: str) -> Encoding:
        encoding: Encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding

    def collate(self, inputs: Sequence[EncodedInput]) -> dict[str, Int64Array]:
        """Pad windows to the longest of them.

        Returns:
            The arrays named in `INPUT_NAMES`, int64 of shape (len(inputs), longest).
            `utterance_mask` is 1 on the tokens that the heads see: the utterance with its
            special tokens, not the context and not the padding.
        """
        shape = (len(inputs), max(len(item.ids) for item in inputs))
        input_ids = np.full(shape, self.pad_id, dtype=np.int64)
        attention_mask = np.zeros(shape, dtype=np.int64)
        utterance_mask = np.zeros(shape, dtype=np.int64)
        for row, item in enumerate(inputs):
            input_ids[row, : len(item.ids)] = item.ids
            attention_mask[row, : len(item.ids)] = 1
            utterance_mask[row, : item.utterance_length] = 1
        return dict(zip(INPUT_NAMES, (input_ids, attention_mask, utterance_mask), strict=True))

    def to_json(self) -> str:
        """Return the tokenizer as the content of `tokenizer.json`, without padding or cutting."""
        return self._tokenizer.to_str(pretty=True)


def _reads_words_apart(tokenizer: Tokenizer) -> bool:
    """Return whether no token depends on what is beyond a space, as in BERT's tokenizers."""
    added = tokenizer.get_added_tokens_decoder().values()
    return (
        isinstance(tokenizer.normalizer, BertNormalizer | Lowercase | None)
        and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer | Whitespace)
        and not any(" " in token.content for token in added)
    )


def _speaker_tokens(encoding: Encoding, turn: Turn, start: int = 0) -> list[int]:
    """Return the tokens of a turn's speaker; `start` is where the turn begins in the text."""
    end = start + len(speaker_prefix(turn))
    return [
        token
        for token, (_, high) in zip(encoding.ids, encoding.offsets, strict=True)
        if start < high <= end  # some tokens begin at the blank before them
    ]

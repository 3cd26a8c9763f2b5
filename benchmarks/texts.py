"""The texts that everybody reads: the corpus's test turns, and one text of 27 words."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from benchmarks.contenders import Text
from deesc_model import Turn
from deesc_model.bundle import TOKENIZER_FILE, Bundle
from deesc_model.encoding import InputEncoder
from deesc_model.rendering import render_turn
from training.corpus import Utterance

SHORT: Final = (
    "I have called three times about this parcel, nobody rings back, and now the tracking page"
    " says it was delivered yesterday. Please sort this out by tonight."
)
"""27 words."""


def short_turn() -> Utterance:
    """Return the text of 27 words, without context."""
    return Utterance("short", 0, "customer", SHORT, 2, ("delay",), (), "chat", "parcel", "", "")


def mixed(rows: Iterable[Utterance]) -> list[Utterance]:
    """Return rows in an order in which any stretch has the real mix of lengths; always the same."""
    found = list(rows)
    random.Random(4).shuffle(found)  # noqa: S311 - no secret
    return found


def texts_of(rows: Iterable[Utterance], bundle: Bundle) -> list[Text]:
    """Return rows as contenders read them.

    The context is cut here by our rule, so that everybody's tokenizer gives as many tokens as
    ours without time spent on it. Of an utterance that fills several windows others read one.
    """
    path: Path = bundle.path / TOKENIZER_FILE
    encoder = InputEncoder.from_file(path, bundle.config.encoder)
    tokenizer = Tokenizer.from_file(str(path))
    texts = []
    for row in rows:
        turn = Turn(row.speaker, row.text)
        window = encoder.encode(turn, row.context)[0]
        second = tokenizer.decode(list(window.ids[window.utterance_length :]))
        context = tuple((each.speaker, each.text) for each in row.context)
        texts.append(Text(row.speaker, row.text, context, render_turn(turn), second))
    return texts

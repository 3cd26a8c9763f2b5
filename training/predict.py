"""Logits of utterances, windows already combined."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from deesc_model.encoding import EncodedInput, InputEncoder
from deesc_model.network import Network
from deesc_model.scoring import Calibration, Logits, combine_windows
from deesc_model.types import Turn
from training.corpus import Utterance

PASS_TOKENS = 8192
"""Tokens that training, a teacher or an export sends through a network at once, padding included:
more gain nothing, and their memory is given back and got again at each pass."""

WindowLogits = Callable[[Sequence[EncodedInput]], Logits]


def encode_utterance(row: Utterance, encoder: InputEncoder) -> list[EncodedInput]:
    """Return the windows of one utterance with its context."""
    return encoder.encode(Turn(row.speaker, row.text), row.context)


def predict_logits(
    rows: Sequence[Utterance], encoder: InputEncoder, run: WindowLogits, calibration: Calibration
) -> Logits:
    """Return one row of logits per utterance.

    Args:
        rows: The utterances; each is read with its `context`.
        encoder: Text to token ids.
        run: The network: windows in, logits in the same order out.
        calibration: Says which window of a long text counts, see `combine_windows`; before there
            is one, that of no data with the model's level head.
    """
    windows = [encode_utterance(row, encoder) for row in rows]
    owners = np.repeat(np.arange(len(rows)), [len(group) for group in windows])
    logits = run([window for group in windows for window in group])
    return combine_windows(logits, owners, len(rows), calibration)


def like_lengths(windows: Sequence[EncodedInput], batch_size: int) -> list[list[int]]:
    """Return the places of all windows in batches of like length, which waste no padding.

    Args:
        windows: What is read.
        batch_size: Windows in one batch at most; fewer if they have more than `PASS_TOKENS`.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(windows)), key=lambda place: len(windows[place].ids)):
        room = min(batch_size, PASS_TOKENS // max(1, len(windows[place].ids)))
        if batches and len(batches[-1]) < room:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def onnx_runner(path: Path, encoder: InputEncoder, batch_size: int) -> WindowLogits:
    """Return a function that runs an exported network."""
    return partial(Network(path, encoder).logits, batch_size=batch_size)

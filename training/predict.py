"""Logits of utterances of a checkpoint or an exported network, windows already combined."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from deesc_model.encoding import EncodedInput, InputEncoder
from deesc_model.network import Network
from deesc_model.scoring import Calibration, Logits, combine_windows
from deesc_model.types import Turn
from training.corpus import Utterance
from training.model import EscalationModel

WindowLogits = Callable[[Sequence[EncodedInput]], Logits]


def encode_utterance(row: Utterance, encoder: InputEncoder) -> list[EncodedInput]:
    """Return the windows of one utterance with its context."""
    return encoder.encode(Turn(row.speaker, row.text), row.context)


def predict_logits(
    rows: Sequence[Utterance], encoder: InputEncoder, run: WindowLogits, level_head: str
) -> Logits:
    """Return one row of logits per utterance.

    Args:
        rows: The utterances; each is read with its `context`.
        encoder: Text to token ids.
        run: The network: windows in, logits in the same order out.
        level_head: ``"softmax"`` or ``"corn"``.
    """
    windows = [encode_utterance(row, encoder) for row in rows]
    owners = np.repeat(np.arange(len(rows)), [len(group) for group in windows])
    logits = run([window for group in windows for window in group])
    return combine_windows(logits, owners, len(rows), Calibration(level_head))


def like_lengths(windows: Sequence[EncodedInput], batch_size: int) -> list[list[int]]:
    """Return the places of all windows in batches of like length, which waste no padding."""
    order = sorted(range(len(windows)), key=lambda place: len(windows[place].ids))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def checkpoint_runner(
    model: EscalationModel, encoder: InputEncoder, batch_size: int
) -> WindowLogits:
    """Return a function that runs a torch model in fp32, sorted by length, with progress."""

    def run(windows: Sequence[EncodedInput]) -> Logits:
        batches = like_lengths(windows, batch_size)
        device = next(model.parameters()).device
        outputs = []
        model.eval()
        with torch.inference_mode():
            for places in tqdm(batches, "checkpoint", leave=False):
                batch = encoder.collate([windows[i] for i in places])
                tensors = {
                    name: torch.from_numpy(array).to(device) for name, array in batch.items()
                }
                outputs.append({k: v.double().cpu().numpy() for k, v in model(**tensors).items()})
        back = np.argsort(np.concatenate(batches))
        return Logits(
            *(
                np.concatenate([output[name] for output in outputs])[back]
                for name in ("level_logits", "trigger_logits", "signal_logits")
            )
        )

    return run


def onnx_runner(path: Path, encoder: InputEncoder, batch_size: int) -> WindowLogits:
    """Return a function that runs an exported network."""
    return partial(Network(path, encoder).logits, batch_size=batch_size)

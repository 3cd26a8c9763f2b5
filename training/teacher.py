"""What teachers answer to every text that a student learns from: computed once, kept on disk."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from deesc_model.encoding import EncodedInput, InputEncoder
from training.model import EscalationModel
from training.predict import like_lengths

log = logging.getLogger("training")


@dataclass(frozen=True, slots=True)
class Answers:
    """Teachers' answers to n texts.

    Attributes:
        logits: float32 (n, outputs), all of them side by side, the mean of all teachers'.
        states: float16 (n, layers, width), the mean of each layer's output over the utterance;
            of the first teacher, from whose layers the student starts.
    """

    logits: npt.NDArray[np.float32]
    states: npt.NDArray[np.float16]


def ask(
    teachers: Sequence[EscalationModel],
    layers: Sequence[int],
    encoder: InputEncoder,
    windows: Sequence[EncodedInput],
    batch_size: int,
) -> Answers:
    """Run teachers over windows, in fp32 and in evaluation mode.

    Source: the mean of several, Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural
    Network, 2015, section 3.

    Args:
        teachers: At least one network, left in evaluation mode.
        layers: Whose states to keep, counted from 1.
        encoder: The teachers'.
        windows: What they read.
        batch_size: Windows in one forward pass.
    """
    batches = like_lengths(windows, batch_size)
    device = next(teachers[0].parameters()).device
    chosen = [number - 1 for number in layers]
    logits, states = [], []
    for teacher in teachers:
        teacher.eval()
    with torch.inference_mode():
        for places in tqdm(batches, "teacher", leave=False):
            batch = encoder.collate([windows[place] for place in places])
            inputs = [torch.from_numpy(array).to(device) for array in batch.values()]
            answer, state = teachers[0].with_states(*inputs)
            others = [teacher.all_logits(*inputs) for teacher in teachers[1:]]
            logits.append(torch.stack([answer, *others]).float().mean(dim=0).cpu().numpy())
            states.append(state[:, chosen].half().cpu().numpy())
    back = np.argsort(np.concatenate(batches))
    return Answers(np.concatenate(logits)[back], np.concatenate(states)[back])


def question_key(
    teachers: Sequence[str], layers: Sequence[int], windows: Sequence[EncodedInput]
) -> str:
    """Return a hash of all that answers depend on.

    Args:
        teachers: Hashes of their weights, in order.
        layers: As for `ask`.
        windows: As for `ask`.
    """
    digest = hashlib.sha256(json.dumps([list(teachers), list(layers)]).encode())
    for window in windows:
        digest.update(json.dumps(asdict(window)).encode())
    return digest.hexdigest()


def remembered(file: Path, key: str, compute: Callable[[], Answers]) -> Answers:
    """Return the answers in a file, or compute them and write it, whole or not at all.

    Args:
        file: One ``.npz``; other answers there are replaced.
        key: What `question_key` returned.
        compute: Gives the answers.
    """
    if file.is_file():
        with np.load(file) as content:
            if str(content["key"]) == key:
                log.info("the teachers' answers are in %s", file)
                return Answers(content["logits"], content["states"])
    answers = compute()
    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as stream:
        np.savez(stream, key=np.array(key), logits=answers.logits, states=answers.states)
    partial.replace(file)
    return answers

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
class Reader:
    """A network that is asked, and how it reads the n texts.

    Attributes:
        model: Left in evaluation mode.
        encoder: Its own.
        windows: The texts, n of them, as its encoder makes them.
    """

    model: EscalationModel
    encoder: InputEncoder
    windows: Sequence[EncodedInput]


@dataclass(frozen=True, slots=True)
class Answers:
    """What is answered to n texts.

    Attributes:
        logits: float32 (n, outputs), all of them side by side, the mean of all teachers'.
        states: float16 (n, layers, width), the mean of each layer's output over the utterance;
            of the network from whose layers the student starts.
    """

    logits: npt.NDArray[np.float32]
    states: npt.NDArray[np.float16]


def ask(
    teachers: Sequence[Reader],
    start: Reader,
    layers: Sequence[int],
    batch_size: int,
    *,
    bf16: bool,
) -> Answers:
    """Run networks over texts, in evaluation mode.

    Source: the mean of several, Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural
    Network, 2015, section 3.

    Args:
        teachers: At least one; with the same head, whatever their size and tokenizer.
        start: Whose states are kept; may be one of the teachers.
        layers: Of which of its layers, counted from 1.
        batch_size: Windows in one forward pass.
        bf16: Whether to compute under bf16 autocast.
    """
    logits = []
    states = None
    for teacher in teachers:
        answer, seen = _read(teacher, layers if teacher is start else (), batch_size, bf16=bf16)
        logits.append(answer)
        states = seen if teacher is start else states
    if states is None:
        _, states = _read(start, layers, batch_size, bf16=bf16)
    return Answers(np.mean(logits, axis=0, dtype=np.float32), states)


def _read(
    reader: Reader, layers: Sequence[int], batch_size: int, *, bf16: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
    """Return the logits of one network and the states of some of its layers."""
    batches = like_lengths(reader.windows, batch_size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = reader.model.eval().to(device)
    chosen = [number - 1 for number in layers]
    logits, states = [], []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for places in tqdm(batches, "teacher", leave=False):
            batch = reader.encoder.collate([reader.windows[place] for place in places])
            inputs = [torch.from_numpy(array).to(device) for array in batch.values()]
            if layers:
                answer, state = model.with_states(*inputs)
                states.append(state[:, chosen].half().cpu().numpy())
            else:
                answer = model.all_logits(*inputs)
            logits.append(answer.float().cpu().numpy())
    model.cpu()  # the next one may need the room
    back = np.argsort(np.concatenate(batches))
    seen = np.concatenate(states)[back] if layers else np.empty((len(back), 0, 0), np.float16)
    return np.concatenate(logits)[back], seen


def question_key(weights: Sequence[str], readers: Sequence[Reader], *facts: object) -> str:
    """Return a hash of all that answers depend on.

    Args:
        weights: Hashes of the networks' weights, in order.
        readers: The networks.
        facts: What else they are asked with, as JSON has it.
    """
    digest = hashlib.sha256(json.dumps([list(weights), *facts]).encode())
    for reader in readers:
        for window in reader.windows:
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

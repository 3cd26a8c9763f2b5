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
from deesc_model.files import open_binary
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
        logits: float32 (n, outputs), all of them side by side.
        states: float16 (n, layers, width), the mean of each layer's output over the utterance.
    """

    logits: npt.NDArray[np.float32]
    states: npt.NDArray[np.float16]


def ask(reader: Reader, layers: Sequence[int], batch_size: int, *, bf16: bool) -> Answers:
    """Run a network over texts, in evaluation mode.

    Args:
        reader: The network and what it reads.
        layers: Of which of its layers states are kept, counted from 1; may be none.
        batch_size: Windows in one forward pass.
        bf16: Whether to compute under bf16 autocast.
    """
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
    return Answers(np.concatenate(logits)[back], seen)


def agree(teachers: Sequence[Answers], followed: Answers) -> Answers:
    """Return the mean of the teachers' logits, and the states of the network that is followed.

    Source: the mean of several, Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural
    Network, 2015, section 3.

    Args:
        teachers: At least one; with the same head, whatever their size and tokenizer.
        followed: Whose states are kept; may be one of the teachers.
    """
    logits = [teacher.logits for teacher in teachers]
    return Answers(np.mean(logits, axis=0, dtype=np.float32), followed.states)


def question_key(weights: str, windows: Sequence[EncodedInput], *facts: object) -> str:
    """Return a hash of all that answers depend on.

    Args:
        weights: Hash of the network's weights.
        windows: What it is asked.
        facts: What else it is asked with, as JSON has it.
    """
    digest = hashlib.sha256(json.dumps([weights, *facts]).encode())
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
                log.info("what a teacher answers is in %s", file)
                return Answers(content["logits"], content["states"])
    answers = compute()
    with open_binary(file) as stream:
        np.savez(stream, key=np.array(key), logits=answers.logits, states=answers.states)
    return answers

"""Vectors of utterances from a bundle's encoder, to compare texts by what they say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from deesc_model.bundle import Bundle
from deesc_model.encoding import EncodedInput, InputEncoder
from deesc_model.errors import BundleError
from deesc_model.network import OUTPUT_NAMES, available_cpus
from deesc_model.scoring import FloatArray
from deesc_model.types import Turn

BATCH = 32


def embed(
    bundle: Bundle, turns: Sequence[Turn], contexts: Sequence[Sequence[Turn]] | None = None
) -> FloatArray:
    """Return the mean vector of each utterance's tokens, of length 1, shape (n, width).

    A long text is read in windows, whose vectors are summed. Like scores, vectors of a bundle in
    int8 depend a little on the batch.

    Args:
        bundle: Whose encoder reads the texts, as it reads them to label them.
        turns: The utterances, at least one.
        contexts: The turns before each of them, oldest first; None means no context.

    Raises:
        BundleError: The bundle's network is not built as `training.export` builds it.
    """
    encoder = InputEncoder.from_file(bundle.tokenizer_path, bundle.config.encoder)
    before = [()] * len(turns) if contexts is None else contexts
    windows = [encoder.encode(*pair) for pair in zip(turns, before, strict=True)]
    owners = np.repeat(np.arange(len(turns)), [len(group) for group in windows])
    flat = [window for group in windows for window in group]
    vectors = embed_windows(bundle.model_path, encoder, flat)
    sums = np.zeros((len(turns), vectors.shape[1]))
    np.add.at(sums, owners, vectors)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


def embed_windows(
    model_path: Path, encoder: InputEncoder, windows: Sequence[EncodedInput]
) -> FloatArray:
    """Return the mean vector of the utterance's tokens in each window, shape (n, width).

    Args:
        model_path: The ONNX file.
        encoder: Collates windows into the model's inputs.
        windows: At least one.

    Raises:
        BundleError: The network is not built as `training.export` builds it.
    """
    session, output = _open(model_path)
    order = sorted(range(len(windows)), key=lambda index: len(windows[index].ids))
    parts = []
    for start in range(0, len(order), BATCH):
        inputs = encoder.collate([windows[index] for index in order[start : start + BATCH]])
        (hidden,) = session.run([output], inputs)
        mask = inputs["utterance_mask"][:, :, None]
        parts.append((hidden * mask).sum(axis=1) / mask.sum(axis=1))
    return np.concatenate(parts).astype(np.float64)[np.argsort(order)]


def _open(model_path: Path) -> tuple[ort.InferenceSession, str]:
    """Open a network with one output more, the vectors that its heads read; return its name.

    Bundles give logits only, and a caller who labels needs no more: the output is added to a
    copy in memory.
    """
    model = onnx.load(model_path)
    name = _heads_input(model.graph)
    more = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    model.graph.output.append(more)
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session, name


def _heads_input(graph: onnx.GraphProto) -> str:
    """Return the tensor that all matrix products next to the outputs read."""
    makers = {made: node for node in graph.node for made in node.output}
    ahead, found = list(OUTPUT_NAMES), set()
    while ahead:
        node = makers.get(ahead.pop())
        if node is not None and node.op_type == "MatMul":
            found.add(node.input[0])
        elif node is not None:
            ahead += node.input
    if len(found) != 1:
        raise BundleError(
            "the heads of the network do not read one tensor; embeddings need a bundle that"
            " training.export wrote"
        )
    return str(found.pop())

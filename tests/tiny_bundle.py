"""A tiny bundle whose answers can be computed by hand: most tests need no weights."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from deesc_model import SIGNALS, TRIGGERS
from deesc_model.bundle import (
    CARD_FILE,
    CONFIG_FILE,
    HASHED_FILES,
    MANIFEST_FILE,
    METRICS_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    BundleConfig,
    Manifest,
    file_sha256,
)
from deesc_model.encoding import INPUT_NAMES, EncoderSettings
from deesc_model.network import OUTPUT_NAMES
from deesc_model.scoring import Calibration

WIDTH = 5 + len(TRIGGERS) + len(SIGNALS)

# What each word adds to the logits: level 0-4, then triggers, then signals. Pooling takes the
# mean over the utterance's tokens; context counts as much as the utterance does.
WORDS: dict[str, dict[int, float]] = {
    "fine": {0: 60.0},
    "hoping": {1: 60.0},
    "again": {2: 60.0, 5 + TRIGGERS.index("unresolved"): 60.0},
    "furious": {3: 60.0},
    "idiot": {4: 60.0, 5 + len(TRIGGERS) + SIGNALS.index("personal_abuse"): 60.0},
    "late": {1: 30.0, 5 + TRIGGERS.index("delay"): 60.0},
    "manager": {5 + len(TRIGGERS) + SIGNALS.index("supervisor_request"): 60.0},
}
PLAIN = ("customer", "agent", ":", "the", "parcel", "is", ".", "!")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
BIAS = -3.0
SETTINGS = EncoderSettings(max_length=16, context_turns=2, context_tokens=6, window_overlap=2)


def tiny_tokenizer() -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *PLAIN, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def tiny_network(crowd: float = 0.0) -> onnx.ModelProto:
    """mean(E[utterance]) + mean(E[context]), and a bias on all but the levels.

    A product that changes nothing stands where a real network has its heads. `crowd` is added for
    each token id of the batch, so that scores depend on the company that a text is in, as those of
    int8 weights do.
    """
    table = np.zeros((len(SPECIAL) + len(PLAIN) + len(WORDS), WIDTH), dtype=np.float32)
    for row, effects in enumerate(WORDS.values(), start=len(SPECIAL) + len(PLAIN)):
        for column, value in effects.items():
            table[row, column] = value
    bias = np.full(WIDTH, BIAS, dtype=np.float32)
    bias[:5] = 0
    sizes = np.array([5, len(TRIGGERS), len(SIGNALS)], dtype=np.int64)
    constants = {
        "table": table,
        "same": np.eye(WIDTH, dtype=np.float32),
        "bias": bias,
        "sizes": sizes,
        "last": np.array([-1], dtype=np.int64),
        "middle": np.array([1], dtype=np.int64),
        "one": np.array(1, dtype=np.float32),
        "crowd": np.array(crowd, dtype=np.float32),
    }

    def pool(mask: str, name: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("Unsqueeze", [mask, "last"], [f"{name}_mask"]),
            helper.make_node("Mul", ["valued", f"{name}_mask"], [f"{name}_masked"]),
            helper.make_node(
                "ReduceSum", [f"{name}_masked", "middle"], [f"{name}_sum"], keepdims=0
            ),
            helper.make_node("ReduceSum", [mask, "middle"], [f"{name}_count"], keepdims=1),
            helper.make_node("Max", [f"{name}_count", "one"], [f"{name}_at_least_one"]),
            helper.make_node("Div", [f"{name}_sum", f"{name}_at_least_one"], [f"{name}_mean"]),
        ]

    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "same"], ["valued"]),
        helper.make_node("Cast", ["utterance_mask"], ["utterance"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["attention"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["attention", "utterance"], ["context"]),
        *pool("utterance", "u"),
        *pool("context", "c"),
        helper.make_node("Add", ["u_mean", "c_mean"], ["pooled"]),
        helper.make_node("Cast", ["input_ids"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers"], ["company"], keepdims=0),
        helper.make_node("Mul", ["company", "crowd"], ["pressure"]),
        helper.make_node("Add", ["pooled", "bias"], ["alone"]),
        helper.make_node("Add", ["alone", "pressure"], ["logits"]),
        helper.make_node("Split", ["logits", "sizes"], list(OUTPUT_NAMES), axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "sequence"])
            for n in INPUT_NAMES
        ],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", None])
            for n in OUTPUT_NAMES
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write_tiny_bundle(folder: Path, crowd: float = 0.0, metrics: str = "{}") -> Path:
    folder.mkdir(parents=True)
    onnx.save(tiny_network(crowd), folder / MODEL_FILE)
    tiny_tokenizer().save(str(folder / TOKENIZER_FILE))
    config = BundleConfig(SETTINGS, Calibration())
    (folder / CONFIG_FILE).write_text(json.dumps(config.to_dict()))
    (folder / METRICS_FILE).write_text(metrics)
    (folder / CARD_FILE).write_text("# tiny\n")
    manifest = Manifest(
        name="tiny",
        format_version=1,
        base_model="none",
        training_run="none",
        git_commit="none",
        data_fingerprint="none",
        weights="fp32",
        files={name: file_sha256(folder / name) for name in HASHED_FILES},
    )
    (folder / MANIFEST_FILE).write_text(json.dumps(asdict(manifest)))
    return folder

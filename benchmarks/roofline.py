"""What share of this CPU's rate of multiplication the network reaches.

The roof is measured: products of large matrices, in fp32, bf16 and int8, in whichever of
onnxruntime and torch is the faster here, and the bandwidth of a copy. The network's operations
are counted from its graph: two for each weight that a token meets, and those of attention.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper

from deesc_model import EscalationClassifier
from deesc_model.encoding import EncodedInput
from deesc_model.network import available_cpus
from training.bundle_network import float_network, matrices

SHAPES: Final = ((1, 36), (1, 128), (14, 36), (4, 128))
"""Texts and tokens of each at which the network is measured; 36 tokens are some 27 words. The last
two are as much as it takes at once, see `deesc_model.network.PASS_TOKENS`."""

QUERIES: Final = ("self.query.weight", "attn.q.weight")
"""How a BERT and an MPNet call the matrix that each layer's attention has one of."""

COPY_MB: Final = 256
"""Bytes copied to measure bandwidth, far more than a cache holds."""

EMULATED: Final = 0.1
"""Share of the rate in fp32 below which a kind has no instructions here, and is no roof."""

SLOW_S: Final = 5.0
"""Seconds of one product after which it is not repeated."""


@dataclass(frozen=True, slots=True)
class Work:
    """How much there is to do in one pass.

    Attributes:
        weights: Weights in the products that every token meets.
        width: Size of a token's vector.
        layers: Layers with attention.
    """

    weights: int
    width: int
    layers: int

    def operations(self, batch: int, length: int) -> float:
        """Return multiplications and additions for `batch` texts of `length` tokens."""
        attention = 4 * self.layers * self.width * length  # scores and weighted sum, a token
        return float(batch * length * (2 * self.weights + attention))


def work_of(network: Path) -> Work:
    """Count the work of a bundle's network."""
    found = matrices(float_network(network))
    queries = [each for name, each in found.items() if name.endswith(QUERIES)]
    return Work(sum(each.size for each in found.values()), len(queries[0]), len(queries))


def measure(bundle: Path, *, size: int = 2048, repeats: int = 5) -> dict[str, Any]:
    """Return roof and points.

    Args:
        bundle: The bundle that is measured.
        size: Rows and columns of the matrices that show the rate.
        repeats: Each rate is the best of so many, each time of the network the median.
    """
    rates = {name: _best(rate, size, repeats) for name, rate in _engines().items()}
    kinds = ("fp32", "bf16", "int8")
    roof = {
        kind: max((rate for (found, _), rate in rates.items() if found == kind), default=0.0)
        for kind in kinds
    }
    engines = {
        kind: max((rate, name) for (found, name), rate in rates.items() if found == kind)[1]
        for kind in kinds
        if roof[kind] > EMULATED * roof["fp32"]
    }
    classifier = EscalationClassifier.from_pretrained(bundle)
    work = work_of(classifier.bundle.model_path)
    points = []
    for batch, length in SHAPES:
        seconds = _network_seconds(classifier, batch, length, repeats)
        rate = work.operations(batch, length) / seconds / 1e9
        points.append(
            {
                "batch": batch,
                "tokens": length,
                "gops": round(rate, 1),
                # int8: each weight is a byte, read once in a pass.
                "operations_per_byte": round(work.operations(batch, length) / work.weights, 1),
                **{f"share_of_{kind}": round(rate / roof[kind], 3) for kind in engines},
            }
        )
    return {
        "threads": available_cpus(),
        "matrix_gops": {kind: round(roof[kind], 1) for kind in engines},
        "engine": engines,
        "copy_gb_per_s": round(_copy_rate(repeats), 1),
        "points": points,
    }


Step = Callable[[], object]
Engine = Callable[[int], Step]


def _engines() -> dict[tuple[str, str], Engine]:
    """Return products of two square matrices, by kind and engine."""
    found: dict[tuple[str, str], Engine] = {
        ("fp32", "onnxruntime"): lambda size: _onnxruntime(size, integer=False),
        ("int8", "onnxruntime"): lambda size: _onnxruntime(size, integer=True),
    }
    torch.set_num_threads(available_cpus())
    for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        found[kind, "torch"] = lambda size, dtype=dtype: _torch(size, dtype)
    return found


def _onnxruntime(size: int, *, integer: bool) -> Step:
    random = np.random.default_rng(0)
    if integer:  # unsigned by signed, as in the bundle
        left = random.integers(0, 128, (size, size)).astype(np.uint8)
        right = random.integers(-64, 64, (size, size)).astype(np.int8)
        kinds, name = (TensorProto.UINT8, TensorProto.INT32), "MatMulInteger"
    else:
        left, right = (random.random((size, size), dtype=np.float32) for _ in range(2))
        kinds, name = (TensorProto.FLOAT, TensorProto.FLOAT), "MatMul"
    graph = helper.make_graph(
        [helper.make_node(name, ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", kinds[0], [size, size])],
        [helper.make_tensor_value_info("product", kinds[1], [size, size])],
        [onnx.numpy_helper.from_array(right, "right")],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"left": left})


def _torch(size: int, dtype: torch.dtype) -> Step:
    left, right = (torch.rand(size, size).to(dtype) for _ in range(2))
    return lambda: left @ right


def _best(engine: Engine, size: int, repeats: int) -> float:
    """Return the best rate of a product in 1e9 operations a second."""
    step = engine(size)
    best = _seconds(step)
    if best < SLOW_S:  # else the CPU lacks the instructions, and a minute says so as well as five
        best = min(_seconds(step) for _ in range(repeats))
    return 2 * size**3 / best / 1e9


def _network_seconds(
    classifier: EscalationClassifier, batch: int, length: int, repeats: int
) -> float:
    """Return the median seconds of one pass of the network alone."""
    windows = [EncodedInput(tuple(range(1000, 1000 + length)), length)] * batch
    network = classifier._network

    def step() -> object:
        return network.logits(windows, batch_size=batch)

    step()
    times = repeats if batch > 1 else 10 * repeats
    return statistics.median(_seconds(step) for _ in range(times))


def _copy_rate(repeats: int) -> float:
    """Return the best bandwidth of a copy, read and written, in 1e9 bytes a second."""
    source = np.ones(COPY_MB * 2**20, dtype=np.uint8)
    target = np.empty_like(source)
    seconds = min(_seconds(lambda: np.copyto(target, source)) for _ in range(repeats + 1))
    return 2 * source.nbytes / seconds / 1e9


def _seconds(step: Step) -> float:
    before = time.perf_counter()
    step()
    return time.perf_counter() - before

"""From fp32 to int8: weights per channel, activations in ranges that are known beforehand.

onnxruntime's own dynamic quantisation takes the range of an activation from the batch at hand, so
that what a text is given depends on its neighbours. Ranges that were measured once make it depend
on the text alone, and spare each product the search for its largest value.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

HEAD_PRODUCTS = 2
"""Matrix products of the heads: too small to gain from int8."""

LAST_LAYER_PRODUCTS = HEAD_PRODUCTS + 6
"""With those of the last BERT layer: query, key, value, output, two of the MLP."""

STEPS = 255
"""Steps of an activation in eight bits."""

Inputs = Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Quantization:
    """A way to make int8 of fp32.

    Attributes:
        keep_last: How many products with a weight matrix stay in fp32, the last ones.
        reduce_range: Weights take 7 of the 8 bits, so that CPUs that add pairs of products in
            16 bits (x86 before VNNI) cannot overflow.
    """

    keep_last: int = HEAD_PRODUCTS
    reduce_range: bool = False


QUANTIZATIONS = {
    "int8": Quantization(),
    "int8 of 7 bits": Quantization(reduce_range=True),
    "int8 but for the last layer": Quantization(keep_last=LAST_LAYER_PRODUCTS),
}
"""From the smallest to the gentlest."""


def quantize(source: Path, target: Path, method: Quantization, examples: Iterable[Inputs]) -> None:
    """Write a network with its matrix products in int8.

    Args:
        source: ONNX file in fp32.
        target: Where to write.
        method: What stays as it is, and how many bits the rest gets.
        examples: Inputs of forward passes like those to come, at least one; the largest and
            smallest value that an activation has in them is the largest and smallest that it can
            have in the network written.
    """
    _quantize_weights(source, target, method)
    model = onnx.load(target)
    rounded = [
        node.input[0] for node in model.graph.node if node.op_type == "DynamicQuantizeLinear"
    ]
    _fix_ranges(model.graph, activation_ranges(source, rounded, examples))
    _fuse_products(model)
    onnx.save(model, target)


def activation_ranges(
    network: Path, names: Iterable[str], examples: Iterable[Inputs]
) -> dict[str, tuple[float, float]]:
    """Return the smallest and the largest value that tensors of a network have.

    Args:
        network: ONNX file in fp32.
        names: Names of the tensors.
        examples: At least one set of inputs.
    """
    model = onnx.load(network)
    wanted = list(names)
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    extremes = np.array(
        [
            [(tensor.min(), tensor.max()) for tensor in session.run(wanted, dict(inputs))]
            for inputs in examples
        ]
    )
    low, high = extremes[..., 0].min(axis=0), extremes[..., 1].max(axis=0)
    return dict(zip(wanted, zip(low.tolist(), high.tolist(), strict=True), strict=True))


def _quantize_weights(source: Path, target: Path, method: Quantization) -> None:
    """Run onnxruntime's quantisation: weights per channel, activations by what a batch has."""
    model = onnx.load(source)
    weights = {initializer.name for initializer in model.graph.initializer}
    # Shape notes of initializers make quantize_dynamic fail on every Linear layer.
    notes = [info for info in model.graph.value_info if info.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(notes)
    products = [
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights
    ]
    kept = products[len(products) - method.keep_last :]
    kept += [f"{name}_MatMul" for name in kept]  # what quantize_dynamic makes of a Gemm
    stripped = source.with_suffix(".stripped.onnx")
    onnx.save(model, stripped)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # quantize_dynamic recommends a pre-processing we don't need
    try:
        quantize_dynamic(
            stripped,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=method.reduce_range,
            nodes_to_exclude=kept,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        root.setLevel(level)
        stripped.unlink()


def _fix_ranges(graph: GraphProto, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Round activations in given ranges instead of those that a batch has."""
    nodes = []
    for node in graph.node:
        if node.op_type != "DynamicQuantizeLinear":
            nodes.append(node)
            continue
        (activation,), (rounded, scale, zero) = node.input, node.output
        low, high = ranges[activation]
        low, high = min(low, 0.0), max(high, 0.0)  # zero must be one of the steps
        step = max((high - low) / STEPS, np.finfo(np.float32).tiny)
        graph.initializer.extend(
            [
                numpy_helper.from_array(np.array(step, dtype=np.float32), scale),
                numpy_helper.from_array(np.array(round(-low / step), dtype=np.uint8), zero),
            ]
        )
        nodes.append(
            helper.make_node("QuantizeLinear", [activation, scale, zero], [rounded], node.name)
        )
    _replace(graph, nodes)


def _fuse_products(model: ModelProto) -> None:
    """Make one operation of onnxruntime of each product in integers, its scale and its bias.

    onnxruntime fuses them itself where the scale of the activation is computed, and not where it
    is known.
    """
    graph = model.graph
    constants = {each.name: each for each in graph.initializer}
    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    fused: dict[str, NodeProto] = {}
    dropped: set[str] = set()
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            continue
        (cast,) = users[node.output[0]]
        (last,) = users[cast.output[0]]  # times the scales of both
        values, matrix, value_zero, matrix_zero = node.input
        scales = [name.replace("zero_point", "scale") for name in (value_zero, matrix_zero)]
        inputs = [values, matrix, *scales, value_zero, matrix_zero]
        dropped |= {node.output[0], cast.output[0], last.output[0]}
        followers = users.get(last.output[0], [])
        if len(followers) == 1 and followers[0].op_type == "Add":
            (bias,) = (name for name in followers[0].input if name != last.output[0])
            if bias in constants and len(constants[bias].dims) == 1:
                (last,) = followers
                inputs.append(bias)
        fused[last.output[0]] = helper.make_node(
            "MatMulIntegerToFloat", inputs, list(last.output), node.name, domain="com.microsoft"
        )
    _replace(
        graph,
        [
            fused.get(node.output[0], node)
            for node in graph.node
            if node.output[0] in fused or node.output[0] not in dropped
        ],
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _replace(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Give a graph other nodes, and take away what none of them needs."""
    kept = list(nodes)
    needed = {each.name for each in graph.output}
    for node in reversed(kept):
        if needed.intersection(node.output):
            needed.update(node.input)
    used = [node for node in kept if needed.intersection(node.output)]
    constants = [each for each in graph.initializer if each.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(used)
    graph.initializer.extend(constants)

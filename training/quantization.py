"""From fp32 to int8: weights per channel, activations in ranges that are known beforehand.

onnxruntime's own dynamic quantisation takes the range of an activation from the batch at hand, so
that what a text is given depends on its neighbours. Ranges that were measured once make it depend
on the text alone, and spare each product the search for its largest value.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
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

SMOOTHING = 0.8
"""Share of an activation's unevenness that weights take over, 0–1: alpha of SmoothQuant. .8
changes the logits of a wide encoder far less than .5 and .7, and no more than .9."""

Inputs = Mapping[str, npt.NDArray[np.int64]]
Channels = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Quantization:
    """A way to make int8 of fp32.

    Attributes:
        keep_last: How many products with a weight matrix stay in fp32, the last ones.
        reduce_range: Weights take 7 of the 8 bits, so that CPUs that add pairs of products in
            16 bits (x86 before VNNI) cannot overflow.
        smooth: Channels of an activation are made alike first: in wide encoders a few of them are
            dozens of times as large as the others, which then have a handful of steps.
    """

    keep_last: int = HEAD_PRODUCTS
    reduce_range: bool = False
    smooth: bool = False


QUANTIZATIONS = {
    "int8": Quantization(),
    "smoothed int8": Quantization(smooth=True),
    "int8 of 7 bits": Quantization(reduce_range=True),
    "int8 but for the last layer": Quantization(keep_last=LAST_LAYER_PRODUCTS),
}
"""From the smallest to the gentlest."""


def quantize(source: Path, target: Path, method: Quantization, examples: Sequence[Inputs]) -> None:
    """Write a network with its matrix products in int8.

    Args:
        source: ONNX file in fp32.
        target: Where to write.
        method: What stays as it is, and how many bits the rest gets.
        examples: Inputs of forward passes like those to come, at least one; the largest and
            smallest value that an activation has in them is the largest and smallest that it can
            have in the network written.
    """
    exact = source
    if method.smooth:
        exact = source.with_suffix(".smoothed.onnx")
        smooth(source, exact, method.keep_last, examples)
    _quantize_weights(exact, target, method)
    model = onnx.load(target)
    rounded = [
        node.input[0] for node in model.graph.node if node.op_type == "DynamicQuantizeLinear"
    ]
    _fix_ranges(model.graph, channel_ranges(exact, rounded, examples))
    _fuse_products(model)
    onnx.save(model, target)
    if exact != source:
        exact.unlink()


def smooth(source: Path, target: Path, keep_last: int, examples: Iterable[Inputs]) -> None:
    """Write the same network with activations whose channels are more alike.

    Each channel is divided by a number before the product, and its row of the matrix multiplied by
    it. Source: Xiao et al., SmoothQuant, 2022, equation 4.

    Args:
        source: ONNX file in fp32.
        target: Where to write.
        keep_last: Products with a weight matrix that stay as they are, the last ones.
        examples: As for `quantize`.
    """
    model = onnx.load(source)
    weights = {initializer.name: initializer for initializer in model.graph.initializer}
    readers: dict[str, list[NodeProto]] = {}
    for node in _products(model.graph, keep_last):
        if node.op_type == "MatMul":  # a Gemm may read its matrix the other way round
            readers.setdefault(node.input[0], []).append(node)
    ranges = channel_ranges(source, readers, examples)
    nodes = list(model.graph.node)
    for name, products in readers.items():
        matrices = [numpy_helper.to_array(weights[product.input[1]]) for product in products]
        largest = np.maximum(*map(np.abs, ranges[name]))
        theirs = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)
        largest, theirs = (np.maximum(each, np.float32(1e-5)) for each in (largest, theirs))
        share = (largest**SMOOTHING / theirs ** (1 - SMOOTHING)).astype(np.float32)
        divided, factor = f"{name}_smoothed", f"{name}_smoothing"
        nodes.insert(
            min(map(nodes.index, products)), helper.make_node("Mul", [name, factor], [divided])
        )
        model.graph.initializer.append(numpy_helper.from_array(1 / share, factor))
        for product, matrix in zip(products, matrices, strict=True):
            even = numpy_helper.from_array(matrix * share[:, None], product.input[1])
            weights[product.input[1]].CopyFrom(even)
            product.input[0] = divided
    _replace(model.graph, nodes)
    onnx.save(model, target)


def channel_ranges(
    network: Path, names: Iterable[str], examples: Iterable[Inputs]
) -> dict[str, tuple[Channels, Channels]]:
    """Return the smallest and the largest value that each channel of tensors of a network has.

    Args:
        network: ONNX file in fp32.
        names: Names of the tensors; the last axis are the channels.
        examples: At least one set of inputs.
    """
    model = onnx.load(network)
    wanted = list(names)
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: dict[str, tuple[Channels, Channels]] = {}
    for inputs in examples:
        for name, tensor in zip(wanted, session.run(wanted, dict(inputs)), strict=True):
            rows = tensor.reshape(-1, tensor.shape[-1])
            low, high = found.get(name, (rows[0], rows[0]))
            found[name] = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
    return found


def _products(graph: GraphProto, keep_last: int = 0) -> list[NodeProto]:
    """Return the products with a weight matrix, but for the last ones."""
    weights = {initializer.name for initializer in graph.initializer}
    found = [
        node
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights
    ]
    return found[: len(found) - keep_last]


def _quantize_weights(source: Path, target: Path, method: Quantization) -> None:
    """Run onnxruntime's quantisation: weights per channel, activations by what a batch has."""
    model = onnx.load(source)
    weights = {initializer.name for initializer in model.graph.initializer}
    # Shape notes of initializers make quantize_dynamic fail on every Linear layer.
    notes = [info for info in model.graph.value_info if info.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(notes)
    products = [node.name for node in _products(model.graph)]
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


def _fix_ranges(graph: GraphProto, ranges: Mapping[str, tuple[Channels, Channels]]) -> None:
    """Round activations in the range of all their channels instead of that which a batch has."""
    nodes = []
    for node in graph.node:
        if node.op_type != "DynamicQuantizeLinear":
            nodes.append(node)
            continue
        (activation,), (rounded, scale, zero) = node.input, node.output
        lowest, highest = ranges[activation]
        low, high = min(float(lowest.min()), 0.0), max(float(highest.max()), 0.0)  # zero: a step
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

"""The bundle's network in fp32: its int8 weights multiplied out, as ONNX and as a torch model.

The checkpoint that the bundle came from is not in the repository, so who compares precisions
from a fresh clone compares these: the same architecture and size, with weights that were rounded
to int8 once. What they say about speed and memory holds for the checkpoint; their quality is
that of the rounded weights with exact activations.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

HEAD_WIDTH: Final = 32
"""Width of an attention head in MiniLM; `benchmarks.torch_model` checks it by comparing logits."""

Arrays = dict[str, np.ndarray]


class _Rewriter:
    """Takes the integer arithmetic that `training.quantization` wrote out of one graph."""

    def __init__(self, graph: GraphProto, *, keep_int8: bool) -> None:
        self.arrays: Arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.makers = {output: node for node in graph.node for output in node.output}
        self.users: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self._nodes = list(graph.node)
        self._keep_int8 = keep_int8
        self._dropped: set[str] = set()

    def nodes(self) -> list[NodeProto]:
        """Return the nodes of the graph in floating point, in an order that runs."""
        rewritten = [found for node in self._nodes for found in self._rewritten(node)]
        return [node for node in rewritten if node.name not in self._dropped]

    def _rewritten(self, node: NodeProto) -> list[NodeProto]:
        if node.op_type == "QuantizeLinear":
            return []
        if node.op_type == "MatMulIntegerToFloat":
            return self._product(node)
        if node.op_type == "Gather" and node.input[0].endswith("_quantized"):
            return self._table(node)
        return [node]

    def _product(self, node: NodeProto) -> list[NodeProto]:
        """The product in integers becomes one of the activation before it was rounded."""
        rounded, matrix, *_, bias = node.input
        activation = self.makers[rounded].input[0]
        weight, made = self._weight(matrix.removesuffix("_quantized"))
        (output,) = node.output
        if bias.endswith("_zero_point"):  # no bias
            return [*made, helper.make_node("MatMul", [activation, weight], [output], node.name)]
        times = f"{output}_times"
        return [
            *made,
            helper.make_node("MatMul", [activation, weight], [times], node.name),
            helper.make_node("Add", [times, bias], [output], f"{node.name}_bias"),
        ]

    def _table(self, node: NodeProto) -> list[NodeProto]:
        """Gather, DequantizeLinear become one Gather of the table in fp32."""
        (exact,) = self.users[node.output[0]]
        self._dropped.add(exact.name)
        name = node.input[0].removesuffix("_quantized")
        self._multiply_out(name)
        return [helper.make_node("Gather", [name, node.input[1]], list(exact.output), node.name)]

    def _weight(self, name: str) -> tuple[str, list[NodeProto]]:
        if not self._keep_int8:
            self._multiply_out(name)
            return name, []
        parts = [f"{name}_{part}" for part in ("quantized", "scale", "zero_point")]
        made = helper.make_node("DequantizeLinear", parts, [name], f"{name}_exact", axis=1)
        return name, [made]

    def _multiply_out(self, name: str) -> None:
        if name not in self.arrays:
            whole, scale, zero = (
                self.arrays[f"{name}_{part}"] for part in ("quantized", "scale", "zero_point")
            )
            exact = whole.astype(np.float32) - zero.astype(np.float32)
            self.arrays[name] = (exact * scale).astype(np.float32)


def float_network(path: Path, *, keep_int8: bool = False) -> ModelProto:
    """Return a bundle's network with activations in fp32; one that is fp32 comes back as it is.

    Args:
        path: `model.onnx` of a bundle.
        keep_int8: Leave the matrices in int8 behind a DequantizeLinear, the form from which
            engines with integer arithmetic of their own start.
    """
    model = onnx.load(path)
    rewriter = _Rewriter(model.graph, keep_int8=keep_int8)
    nodes = rewriter.nodes()
    used = {name for node in nodes for name in node.input}
    kept = [
        numpy_helper.from_array(array, name)
        for name, array in rewriter.arrays.items()
        if name in used
    ]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    return model


def matrices(model: ModelProto) -> Arrays:
    """Return the weight matrix of each product, (inputs, outputs), named after its bias.

    The exporter numbers matrices and names biases; a product without one is the query of the
    heads.
    """
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    biases = {
        name: each
        for node in model.graph.node
        if node.op_type == "Add"
        for name in node.input
        for each in node.input
        if each.endswith(".bias")
    }
    return {
        biases.get(node.output[0], "model.heads.query.bias").replace(".bias", ".weight"): arrays[
            node.input[1]
        ]
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in arrays
    }


def state_of(model: ModelProto) -> Arrays:
    """Return the parameters of `training.model.EscalationModel` from its network in fp32."""
    named = {
        each.name: numpy_helper.to_array(each)
        for each in model.graph.initializer
        if each.name.endswith((".weight", ".bias"))
    }
    # Linear keeps its matrix as (outputs, inputs).
    named |= {name: np.ascontiguousarray(each.T) for name, each in matrices(model).items()}
    return {name.removeprefix("model."): array for name, array in named.items()}


def is_bert(network: Path) -> bool:
    """Return whether a network is a BERT, which alone can be taken apart here."""
    names = (each.name for each in onnx.load(network).graph.initializer)
    return any("token_type_embeddings" in name for name in names)


def encoder_options(model: ModelProto) -> dict[str, Any]:
    """Return the arguments of transformers' `BertConfig` for a network in fp32."""
    state = state_of(model)
    words, width = state["encoder.embeddings.word_embeddings.weight"].shape
    norm = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    epsilon = next(each.f for each in norm.attribute if each.name == "epsilon")
    layers = {name.split(".")[3] for name in state if name.startswith("encoder.encoder.layer.")}
    return {
        "vocab_size": words,
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": width // HEAD_WIDTH,
        "intermediate_size": len(state["encoder.encoder.layer.0.intermediate.dense.bias"]),
        "max_position_embeddings": len(state["encoder.embeddings.position_embeddings.weight"]),
        "type_vocab_size": len(state["encoder.embeddings.token_type_embeddings.weight"]),
        "layer_norm_eps": float(epsilon),
        "hidden_act": "relu"
        if any(node.op_type == "Relu" for node in model.graph.node)
        else "gelu",
    }

"""A bundle's network in fp32: its int8 weights multiplied out, as ONNX and as a state of torch.

The checkpoint that a bundle came from is in no repository, so who learns on from the bundle or
compares precisions takes these: the same architecture and size, with weights that were rounded to
int8 once. Their quality is that of the rounded weights with exact activations.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from deesc_model.errors import DeescError

WORDS: Final = "encoder.embeddings.word_embeddings.weight"

SMOOTHING: Final = "_smoothing"
"""End of the name of what `training.quantization` takes an activation times, so that its channels
are more alike; the rows of the matrix after it were divided by the same."""

Arrays = dict[str, np.ndarray]


class _Rewriter:
    """Takes the integer arithmetic that `training.quantization` wrote out of one graph."""

    def __init__(self, graph: GraphProto, *, keep_int8: bool) -> None:
        self.arrays: Arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.makers = {output: node for node in graph.node for output in node.output}
        self._nodes = list(graph.node)
        self._keep_int8 = keep_int8

    def nodes(self) -> list[NodeProto]:
        """Return the nodes of the graph in floating point, in an order that runs."""
        return [found for node in self._nodes for found in self._rewritten(node)]

    def _rewritten(self, node: NodeProto) -> list[NodeProto]:
        if node.op_type == "QuantizeLinear" or self._smooths(node):
            return []
        if node.op_type == "MatMulIntegerToFloat":
            return self._product(node)
        if node.op_type == "Gather" and node.input[0].endswith("_quantized"):
            return [self._table(node)]
        if node.op_type == "DequantizeLinear":  # of gathered rows, which are in fp32 already
            return [helper.make_node("Identity", [node.input[0]], list(node.output), node.name)]
        return [node]

    def _product(self, node: NodeProto) -> list[NodeProto]:
        """The product in integers becomes one of the activation before it was rounded."""
        rounded, matrix, *_, bias = node.input
        activation, factor = self.makers[rounded].input[0], None
        maker = self.makers.get(activation)
        if maker and self._smooths(maker):
            activation, name = maker.input
            factor = self.arrays[name][:, None]
        weight, made = self._weight(matrix.removesuffix("_quantized"), factor)
        (output,) = node.output
        if bias.endswith("_zero_point"):  # no bias
            return [*made, helper.make_node("MatMul", [activation, weight], [output], node.name)]
        times = f"{output}_times"
        return [
            *made,
            helper.make_node("MatMul", [activation, weight], [times], node.name),
            helper.make_node("Add", [times, bias], [output], f"{node.name}_bias"),
        ]

    def _smooths(self, node: NodeProto) -> bool:
        """Return whether a node is for rounding alone; integers need it, exact products do not."""
        return not self._keep_int8 and node.op_type == "Mul" and node.input[1].endswith(SMOOTHING)

    def _table(self, node: NodeProto) -> NodeProto:
        """Rows are gathered from the table in fp32."""
        name = node.input[0].removesuffix("_quantized")
        self._multiply_out(name)
        return helper.make_node("Gather", [name, node.input[1]], list(node.output), node.name)

    def _weight(self, name: str, factor: np.ndarray | None) -> tuple[str, list[NodeProto]]:
        if not self._keep_int8:
            self._multiply_out(name, factor)
            return name, []
        parts = [f"{name}_{part}" for part in ("quantized", "scale", "zero_point")]
        made = helper.make_node("DequantizeLinear", parts, [name], f"{name}_exact", axis=1)
        return name, [made]

    def _multiply_out(self, name: str, factor: np.ndarray | None = None) -> None:
        if name not in self.arrays:
            whole, scale, zero = (
                self.arrays[f"{name}_{part}"] for part in ("quantized", "scale", "zero_point")
            )
            exact = (whole.astype(np.float32) - zero.astype(np.float32)) * scale
            self.arrays[name] = (exact if factor is None else exact * factor).astype(np.float32)


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


def encoder_options(model: ModelProto) -> dict[str, Any]:
    """Return the arguments of transformers' `AutoConfig.for_model` for a network in fp32.

    Raises:
        DeescError: It is neither a BERT nor an MPNet.
    """
    state = state_of(model)
    kind = _kind_options(state)
    words, width = state[WORDS].shape
    norm = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    epsilon = next(each.f for each in norm.attribute if each.name == "epsilon")
    layers = {name.split(".")[3] for name in state if name.startswith("encoder.encoder.layer.")}
    return kind | {
        "vocab_size": words,
        "hidden_size": width,
        "num_attention_heads": width // _head_width(model),
        "num_hidden_layers": len(layers),
        "intermediate_size": len(state["encoder.encoder.layer.0.intermediate.dense.bias"]),
        "max_position_embeddings": len(state["encoder.embeddings.position_embeddings.weight"]),
        "layer_norm_eps": float(epsilon),
        "hidden_act": "relu"
        if any(node.op_type == "Relu" for node in model.graph.node)
        else "gelu",
    }


def _head_width(model: ModelProto) -> int:
    """Return how wide an attention head is: what the first query is cut into."""
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    cut = next(node for node in model.graph.node if node.op_type == "Reshape")
    return int(arrays[makers[cut.input[1]].input[-1]].item())  # (batch, sequence, heads, width)


def _kind_options(state: Arrays) -> dict[str, Any]:
    """Return what only networks of this kind have."""
    segments = state.get("encoder.embeddings.token_type_embeddings.weight")
    distances = state.get("encoder.encoder.relative_attention_bias.weight")
    if segments is not None:
        return {"model_type": "bert", "type_vocab_size": len(segments)}
    if distances is not None:
        return {"model_type": "mpnet", "relative_attention_num_buckets": len(distances)}
    raise DeescError("only a BERT or an MPNet can be taken apart here, and this is neither")

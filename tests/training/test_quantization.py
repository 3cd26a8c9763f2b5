import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from onnx.numpy_helper import from_array, to_array

from training.export import export_onnx
from training.model import LossWeights, new_model
from training.quantization import (
    LAST_LAYER_PRODUCTS,
    Quantization,
    channel_ranges,
    quantize,
    smooth,
)

PLAIN = LossWeights((1.0,) * 5, (1.0,) * 11, (1.0,) * 5, 1.0, 1.0)
MATRIX = np.array([[1.27, 0.0], [0.0, 2.54], [-1.27, 2.54]], dtype=np.float32)
BIAS = np.array([0.5, -0.25], dtype=np.float32)
SEEN = np.array([[-1.0, 0.0, 1.55], [0.2, 0.4, 0.0]], dtype=np.float32)
"""From -1 to 1.55: steps of .01, of which 100 stands for zero."""


@pytest.fixture(scope="module")
def exact(base_model, tmp_path_factory):
    model, _ = new_model(str(base_model), "corn", 0.0, PLAIN)
    path = tmp_path_factory.mktemp("exact") / "model.onnx"
    export_onnx(model.eval(), path)
    return path


def inputs(batch, length, padded=0):
    """Token ids of a batch, the same in every row, and so many more that are padding."""
    ids = np.tile(np.arange(2, 2 + length, dtype=np.int64), (batch, 1))
    mask = np.ones_like(ids)
    ids, mask = (np.pad(each, ((0, 0), (0, padded))) for each in (ids, mask))
    return {"input_ids": ids, "attention_mask": mask, "utterance_mask": mask}


def run(path, arrays):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, arrays)


def write_products(path, matrix, bias):
    """One product, its bias, and a second product that is left as it is."""
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["times"], "first"),
        helper.make_node("Add", ["times", "bias"], ["y"], "add"),
        helper.make_node("MatMul", ["y", "one"], ["z"], "second"),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["rows", 2])],
        [
            from_array(matrix, "matrix"),
            from_array(bias, "bias"),
            from_array(np.eye(2, dtype=np.float32), "one"),
        ],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    path = write_products(tmp_path_factory.mktemp("product") / "exact.onnx", MATRIX, BIAS)
    quantize(path, path.with_name("int8.onnx"), Quantization(keep_last=1), [{"x": SEEN}])
    return path


def test_a_range_is_that_of_a_channel_in_all_examples(product):
    examples = [{"x": SEEN}, {"x": np.array([[3.0, 0.0, -0.5]], dtype=np.float32)}]
    found = channel_ranges(product, ["x", "y"], examples)
    np.testing.assert_array_equal(found["x"], np.float32([[-1.0, 0.0, -0.5], [3.0, 0.4, 1.55]]))
    # y of the three rows: 1.27 * (x0 - x2) + .5 and 2.54 * (x1 + x2) - .25.
    np.testing.assert_allclose(found["y"], [[-2.7385, -1.52], [4.945, 3.687]], rtol=1e-5)


def test_values_within_the_range_are_rounded_to_a_step(product):
    int8 = product.with_name("int8.onnx")
    # .204 is .2, .396 is .4: steps of .01. The matrix is exact in 127 steps of .01 and of .02.
    (found,) = run(int8, {"x": np.array([[0.204, 0.396, 0.0]], dtype=np.float32)})
    np.testing.assert_allclose(found, [[0.2 * 1.27 + 0.5, 0.4 * 2.54 - 0.25]], atol=1e-5)


def test_values_beyond_the_range_are_its_ends(product):
    int8 = product.with_name("int8.onnx")
    (found,) = run(int8, {"x": np.array([[-7.0, 99.0, 0.0]], dtype=np.float32)})
    np.testing.assert_allclose(found, [[-1.0 * 1.27 + 0.5, 1.55 * 2.54 - 0.25]], atol=1e-5)


def test_one_operation_is_left_of_a_product_its_scale_and_its_bias(product):
    nodes = onnx.load(product.with_name("int8.onnx")).graph.node
    assert [node.op_type for node in nodes] == ["QuantizeLinear", "MatMulIntegerToFloat", "MatMul"]


def test_what_a_text_is_given_does_not_depend_on_its_neighbours(exact, tmp_path):
    quantize(exact, tmp_path / "int8.onnx", Quantization(), [inputs(2, 9), inputs(1, 20)])
    alone = run(tmp_path / "int8.onnx", inputs(1, 12))
    loud = inputs(3, 12)
    loud["input_ids"][1:] = 7  # neighbours with other activations
    for expected, found in zip(alone, run(tmp_path / "int8.onnx", loud), strict=True):
        np.testing.assert_allclose(found[:1], expected, atol=1e-5)
    for expected, found in zip(alone, run(tmp_path / "int8.onnx", inputs(1, 12, 9)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_int8_is_near_the_exact_network(exact, tmp_path):
    examples = [inputs(2, 9), inputs(1, 20)]
    quantize(exact, tmp_path / "int8.onnx", Quantization(), examples)
    for expected, found in zip(
        run(exact, examples[1]), run(tmp_path / "int8.onnx", examples[1]), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=0.05)
        assert not np.array_equal(found, expected)


def test_smoothing_saves_the_channels_beside_a_loud_one(tmp_path):
    matrix = np.array([[0.01, 0.02], [1.0, -1.0], [0.5, 1.0]], dtype=np.float32)
    path = write_products(tmp_path / "exact.onnx", matrix, np.zeros(2, dtype=np.float32))
    seen = np.array([[100.0, 0.4, 1.0], [-100.0, -0.4, -1.0]], dtype=np.float32)
    text = {"x": np.array([[50.0, 0.3, -0.2]], dtype=np.float32)}
    exact = text["x"] @ matrix  # [.7, .5]
    errors = []
    for smoothed in (False, True):
        method = Quantization(keep_last=1, smooth=smoothed)
        quantize(path, tmp_path / "int8.onnx", method, [{"x": seen}])
        errors.append(np.abs(run(tmp_path / "int8.onnx", text)[0] - exact).max())
    assert errors[0] > 0.1  # steps of .78: the second and the third channel are nothing
    assert errors[1] < 0.01
    assert {file.name for file in tmp_path.iterdir()} == {"exact.onnx", "int8.onnx"}


def test_smoothing_alone_changes_no_logit(exact, tmp_path):
    examples = [inputs(2, 9), inputs(1, 20)]
    smooth(exact, tmp_path / "smoothed.onnx", 0, examples)
    for expected, found in zip(
        run(exact, examples[1]), run(tmp_path / "smoothed.onnx", examples[1]), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    names = [node.op_type for node in onnx.load(tmp_path / "smoothed.onnx").graph.node]
    before = [node.op_type for node in onnx.load(exact).graph.node]
    # Query, key and value read the same: four inputs in each of two layers, one of the heads.
    assert names.count("Mul") - before.count("Mul") == 9


def test_kept_layers_stay_in_fp32(exact, tmp_path):
    examples = [inputs(1, 9)]
    quantize(exact, tmp_path / "all.onnx", Quantization(keep_last=0), examples)
    quantize(exact, tmp_path / "some.onnx", Quantization(LAST_LAYER_PRODUCTS), examples)

    def count(name):
        nodes = onnx.load(tmp_path / name).graph.node
        return sum(node.op_type == "MatMulIntegerToFloat" for node in nodes)

    assert count("all.onnx") == 14  # six in each of two layers, two of the heads
    assert count("some.onnx") == 6


def test_a_reduced_range_takes_7_bits_of_a_weight(exact, tmp_path):
    def largest(method):
        quantize(exact, tmp_path / "int8.onnx", method, [inputs(1, 9)])
        arrays = map(to_array, onnx.load(tmp_path / "int8.onnx").graph.initializer)
        return max(np.abs(array.astype(int)).max() for array in arrays if array.dtype == np.int8)

    assert largest(Quantization()) == 127
    assert largest(Quantization(reduce_range=True)) == 64

"""ONNX Runtime's operators on integers (com.microsoft): read, executed, and compiled for every target."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.api import compile_model, load
from compiler.errors import OnnxError, ShapeError
from compiler.evaluate import evaluate
from compiler.oracle import open_session, run_session
from compiler.tensor import Array
from targets.onnx.target import OnnxTarget

RNG = np.random.default_rng(4)
IMAGE, ROWS = (1, 5, 6, 6), (4, 10)
S = (np.float32(0.05), np.uint8(131))  # scale and zero point
T = (np.float32(0.02), np.uint8(97))
OUT = (np.float32(0.03), np.uint8(120))


def model(op: str, given: list[Any], *, n_inputs: int = 1, result: int = TensorProto.UINT8, **attributes: Any) -> Any:
    """A node of com.microsoft: a triple is an input of the model, None is left out, the others are constants."""
    inputs, names, tensors = [], [], []
    for i, item in enumerate(given):
        if isinstance(item, tuple):
            name, shape, kind = item
            inputs.append(helper.make_tensor_value_info(name, kind, shape))
            names.append(name)
        elif item is None:
            names.append("")
        else:
            tensors.append(numpy_helper.from_array(np.asarray(item), f"c{i}"))
            names.append(f"c{i}")
    assert len(inputs) == n_inputs
    node = helper.make_node(op, names, ["y"], domain="com.microsoft", **attributes)
    y = helper.make_tensor_value_info("y", result, None)
    graph = helper.make_graph([node], "g", inputs, [y], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def u8(shape: tuple[int, ...], name: str = "x") -> tuple[str, tuple[int, ...], int]:
    return name, shape, TensorProto.UINT8


def stored(shape: tuple[int, ...], kind: Any = np.uint8) -> Array:  # Any: an integer type of numpy
    return RNG.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, endpoint=True).astype(kind)


W = stored((10, 7), np.int8)
COLUMNS = np.linspace(0.001, 0.004, 7, dtype=np.float32)
BIAS = RNG.integers(-4000, 4000, 7).astype(np.int32)
KERNEL = stored((4, 5, 3, 3), np.int8)
CEILED: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}
ZEROS = np.zeros(7, np.int8)
REALS, WIDE = ("x", (4, 7), TensorProto.FLOAT), ("x", (4, 7), TensorProto.UINT16)
MIDDLE = (np.float32(1e-4), np.uint16(32768))
BOTH: dict[str, Any] = {"transA": 1, "transB": 1}
POOL: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
LAST = (1, 6, 6, 5)
CASES: dict[str, Any] = {
    "add": model("QLinearAdd", [u8(ROWS), *S, u8(ROWS, "z"), *T, *OUT], n_inputs=2),
    "add broadcast": model("QLinearAdd", [u8(IMAGE), *S, stored((5, 1, 1)), *T, *OUT]),
    "mul": model("QLinearMul", [u8(ROWS), *S, u8(ROWS, "z"), *T, *OUT], n_inputs=2),
    "mul by a constant": model("QLinearMul", [u8(IMAGE), *S, stored((1, 5, 1, 1)), *T, *OUT]),
    "sigmoid": model("QLinearSigmoid", [u8(ROWS), *S, np.float32(1 / 256), np.uint8(0)]),
    "leaky relu": model("QLinearLeakyRelu", [u8(ROWS), *S, *OUT], alpha=0.2),
    "average pool": model("QLinearAveragePool", [u8(IMAGE), *S, *OUT], **POOL),
    "average pool of all": model("QLinearAveragePool", [u8(IMAGE), *S, *OUT], count_include_pad=1, **POOL),
    "average pool, last": model("QLinearAveragePool", [u8(LAST), *S, *OUT], channels_last=1, **POOL),
    "average pool, ceil": model("QLinearAveragePool", [u8(IMAGE), *S, *OUT], **CEILED),
    "global pool": model("QLinearGlobalAveragePool", [u8(IMAGE), *S, *OUT], channels_last=0),
    "global pool, last": model("QLinearGlobalAveragePool", [u8(LAST), *S, *OUT], channels_last=1),
    "concat": model("QLinearConcat", [*OUT, u8(ROWS), *S, u8((4, 3), "z"), *T], n_inputs=2, axis=-1),
    "softmax": model("QLinearSoftmax", [u8(ROWS), *S, np.float32(1 / 256), np.uint8(0)], axis=-1, opset=13),
    "softmax, rows": model("QLinearSoftmax", [u8((2, 3, 4)), *S, np.float32(1 / 256), np.uint8(0)], axis=1, opset=13),
    "softmax, old": model("QLinearSoftmax", [u8((2, 3, 4)), *S, np.float32(1 / 256), np.uint8(0)], axis=1, opset=11),
    "gemm": model("QGemm", [u8(ROWS), *S, W, np.float32(0.003), np.int8(0), BIAS, *OUT], alpha=1.0),
    "gemm of columns": model("QGemm", [u8(ROWS), *S, W, COLUMNS, ZEROS, BIAS, *OUT]),
    "gemm, transposed": model("QGemm", [u8(ROWS), *S, W.T.copy(), COLUMNS, ZEROS, BIAS, *OUT], transB=1),
    "gemm, both": model("QGemm", [u8(ROWS[::-1]), *S, W.T.copy(), np.float32(0.003), np.int8(4), None, *OUT], **BOTH),
    "gemm with a factor": model("QGemm", [u8(ROWS), *S, W, np.float32(0.003), np.int8(0), BIAS, *OUT], alpha=0.5),
    "gemm to floats": model("QGemm", [u8(ROWS), *S, W, np.float32(0.003), np.int8(0), BIAS], result=TensorProto.FLOAT),
    "conv": model("QLinearConv", [u8(IMAGE), *S, KERNEL, np.float32(0.01), np.int8(0), *OUT], pads=[1, 1, 1, 1]),
    "conv, last": model("QLinearConv", [u8(LAST), *S, KERNEL, np.float32(0.01), np.int8(0), *OUT], channels_last=1),
    "where": model("QLinearWhere", [("c", ROWS, TensorProto.BOOL), u8(ROWS), *S, u8(ROWS, "z"), *T, *OUT], n_inputs=3),
    "quantize": model("QuantizeLinear", [REALS, *OUT]),
    "quantize columns": model("QuantizeLinear", [REALS, COLUMNS, ZEROS], axis=1, result=TensorProto.INT8),
    "quantize to 16 bits": model("QuantizeLinear", [REALS, np.float32(1e-4), np.int16(3)], result=TensorProto.INT16),
    "dequantize": model("DequantizeLinear", [u8(ROWS), *S], result=TensorProto.FLOAT),
    "dequantize 16 bits": model("DequantizeLinear", [WIDE, *MIDDLE], result=TensorProto.FLOAT),
}  # fmt: skip


def outputs(m: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    return run_session(open_session(m.SerializeToString()), feeds)


def feeds_of(m: onnx.ModelProto) -> dict[str, Array]:
    found = {}
    for v in m.graph.input:
        kind = helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)
        shape = tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
        if kind == np.bool_:
            found[v.name] = RNG.random(shape) < 0.5
        elif kind == np.float32:
            found[v.name] = RNG.standard_normal(shape).astype(np.float32)
        else:
            found[v.name] = stored(shape, kind)
    return found


def steps(expected: Array, found: Array, step: float = 1.0) -> float:
    """The largest difference."""
    assert (expected.shape, expected.dtype) == (found.shape, found.dtype)
    return float(np.abs(expected.astype(np.float64) - found.astype(np.float64)).max() / step)


@pytest.mark.parametrize("name", CASES)
def test_a_node_is_within_a_step(name: str) -> None:
    m = CASES[name]
    feeds = feeds_of(m)
    expected, graph = outputs(m, feeds), load(m)
    graph.verify()
    found = evaluate(graph, feeds)
    y = expected["y"]
    if y.dtype == np.float32:
        np.testing.assert_allclose(found["y"], y, rtol=1e-5, atol=1e-5)
    else:
        assert len(np.unique(y)) > 3 and steps(y, found["y"]) <= 1
        assert (y != found["y"]).mean() <= 0.1


@pytest.mark.parametrize("target", ["onnx", "ane", "nnapi"])
@pytest.mark.parametrize("name", CASES)
def test_a_node_is_compiled(name: str, target: str) -> None:
    m = CASES[name]
    feeds = feeds_of(m)
    compiled = compile_model(m, OnnxTarget(opset=21) if target == "onnx" else target, verify="off")
    y, found = outputs(m, feeds)["y"], compiled.run(feeds)["y"]
    if y.dtype == np.float32:
        assert steps(y, found) <= 2e-2
    else:
        ends = 2.0**-10 * np.abs(y.astype(np.float64)).max() if target == "ane" and y.dtype == np.int16 else 1.0
        assert steps(y, found) <= max(ends, 1)  # fp16 has 11 binary places


def test_a_mean_over_axes() -> None:
    """ONNX Runtime knows the operator and has no kernel of it."""
    m = model("QLinearReduceMean", [u8((2, 3, 5)), *S, *OUT], axes=[1], keepdims=0)
    x = stored((2, 3, 5))
    mean = ((x.astype(np.float64) - 131) * 0.05).mean(1)
    expected = np.clip(np.rint(mean / 0.03) + 120, 0, 255)
    found = evaluate(load(m), {"x": x})["y"]
    assert found.dtype == np.uint8 and np.abs(found - expected).max() <= 1


def test_zero_points_that_are_left_out() -> None:
    scales = np.array([0.1, 0.2, 2], np.float32)
    m = model("QLinearMul", [u8(ROWS), scales[0], None, u8(ROWS, "z"), scales[1], None, scales[2]], n_inputs=2)
    x, z = stored(ROWS), stored(ROWS)
    expected = np.clip(np.rint((x * 0.1) * (z * 0.2) / 2), 0, 255)
    found = evaluate(load(m), {"x": x, "z": z})["y"]
    assert found.dtype == np.uint8 and np.abs(found - expected).max() <= 1


def test_others_of_the_domain_are_refused() -> None:
    with pytest.raises(
        OnnxError, match=r"of the domain com\.microsoft, only the operators of quantized models are known"
    ):
        load(model("FusedMatMul", [("x", ROWS, TensorProto.FLOAT), np.ones((10, 3), np.float32)]))


def test_operands_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="needs a scale and a zero point for each operand, not 2 operands"):
        load(model("QLinearConcat", [*OUT, u8(ROWS), S[0]], axis=0))
    with pytest.raises(ShapeError, match="needs two matrices"):
        load(model("QGemm", [u8(IMAGE), *S, W, np.float32(0.003), np.int8(0)]))
    with pytest.raises(OnnxError, match="operand 1 is missing"):
        load(model("QLinearSigmoid", [u8(ROWS), None, None, np.float32(1), np.uint8(0)]))


def test_the_default_domain_is_not_mixed_up() -> None:
    """QLinearAdd is an operator of com.microsoft alone."""
    m = CASES["add"]
    plain = onnx.ModelProto()
    plain.CopyFrom(m)
    plain.graph.node[0].domain = ""
    with pytest.raises(OnnxError, match="this operator is not supported"):
        load(plain)
    assert load(m).op_counts == {"dequantize_linear": 2, "add": 1, "quantize_linear": 1}

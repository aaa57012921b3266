"""Small ONNX models and arrays of every element type, for tests of the door to ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from compiler.onnx_proto import DATA_TYPES
from compiler.tensor import Array, dtype_of

RNG = np.random.default_rng(7)


def random(data_type: int, shape: tuple[int, ...]) -> Array:
    dtype = DATA_TYPES[data_type]
    if dtype.kind == "s":
        return np.array([f"é{i}\n" for i in range(int(np.prod(shape)))], object).reshape(shape)
    if dtype.bits < 8:
        return RNG.integers(0, 1 << dtype.bits, shape, np.uint8).view(dtype.numpy)
    if dtype.kind == "b":
        return RNG.integers(0, 2, shape, np.uint8).astype(np.bool_)
    return RNG.integers(0, 255, (*shape, dtype.bits // 8), np.uint8).view(dtype.numpy).reshape(shape)


def same(a: Array, b: Array) -> bool:
    """Equal in type, shape and bits."""
    if a.dtype == object:
        return a.dtype == b.dtype and a.shape == b.shape and bool(np.all(a == b))
    bits = [x.astype(np.int8) if dtype_of(x).bits < 8 and dtype_of(x).kind in "iu" else x for x in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and bits[0].tobytes() == bits[1].tobytes()


def model(nodes: list[onnx.NodeProto], weights: list[TensorProto], **options: Any) -> onnx.ModelProto:  # Any: passed on
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])
    options.setdefault("opset_imports", [helper.make_opsetid("", 21)])
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], weights), ir_version=10, **options)


W = RNG.standard_normal((64, 64)).astype(np.float32)
B = RNG.standard_normal(64).astype(np.float32)
C = RNG.standard_normal((3, 64)).astype(np.float64)


def small() -> onnx.ModelProto:
    """A matrix in raw_data, a vector in float_data, a large constant in a node, one in a branch."""
    branch = [
        helper.make_node("Constant", [], [f"b{i}"], value=numpy_helper.from_array(W * i, f"bw{i}")) for i in (1, 2)
    ]
    info = [helper.make_tensor_value_info(f"b{i}", TensorProto.FLOAT, [64, 64]) for i in (1, 2)]
    graphs = [helper.make_graph([n], "branch", [], [i]) for n, i in zip(branch, info, strict=True)]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["a"]),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(W.T.copy(), "cw")),
        helper.make_node("If", ["yes"], ["i"], then_branch=graphs[0], else_branch=graphs[1]),
        helper.make_node("MatMul", ["c", "i"], ["m"]),
        helper.make_node("MatMul", ["a", "m"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(W, "w"),
        helper.make_tensor("b", TensorProto.FLOAT, [64], B),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    return model(nodes, weights)


def run(path: Path | bytes, x: Array) -> Array:
    session = onnxruntime.InferenceSession(
        path if isinstance(path, bytes) else str(path), providers=["CPUExecutionProvider"]
    )
    result: Array = session.run(None, {"x": x})[0]
    return result

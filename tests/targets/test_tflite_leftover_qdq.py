"""Q and DQ layers that say more than an annotation can stay layers, and are computed as arithmetic on floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler import ops
from compiler.api import compile_model
from compiler.oracle import open_session, run_session
from compiler.tensor import Array

CHANNELS = np.array([0.01, 0.02, 0.04, 0.03], np.float32)
LEFT = {
    "scales of channels": (CHANNELS, np.array([0, 3, -7, 5], np.int8)),
    "uint16 that is not symmetric": (np.float32(0.0004), np.uint16(20000)),
}


def between(scale: Array, zero: Array) -> onnx.ModelProto:
    """A convolution of an image of bytes, whose result is rounded by these parameters, and a second one."""
    rng = np.random.default_rng(5)
    tensors = {
        "s": np.float32(0.03), "z": np.int8(2), "scale": scale, "zero": zero,
        "w": rng.integers(-127, 127, (4, 3, 3, 3)).astype(np.int8), "ws": np.float32(0.003), "wz": np.int8(0),
        "v": rng.integers(-127, 127, (2, 4, 1, 1)).astype(np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("DequantizeLinear", ["v", "ws", "wz"], ["vd"]),
        helper.make_node("Conv", ["d", "wd"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "scale", "zero"], ["cq"], axis=1),
        helper.make_node("DequantizeLinear", ["cq", "scale", "zero"], ["cd"], axis=1),
        helper.make_node("Conv", ["cd", "vd"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.INT8, [1, 3, 6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 4, 4])
    held = [numpy_helper.from_array(np.asarray(a), n) for n, a in tensors.items()]
    return helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], held), opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    )


@pytest.mark.parametrize("target", ["nnapi", "ane", "onnx"])
@pytest.mark.parametrize("what", LEFT)
def test_what_stays_is_computed(what: str, target: str, tmp_path: Path) -> None:
    """The layers are behind the choice of layouts: scales lie along the last axis there."""
    scale, zero = (np.asarray(a) for a in LEFT[what])
    model = between(scale, zero)
    result = compile_model(model, target, tmp_path / "m", verify="off")
    if target == "nnapi":
        assert result.report.precision == "int8"
        (quantize,) = result.graph.of(ops.QuantizeLinear)
        assert quantize.inputs[0] is not None and quantize.inputs[0].type.quant is None
        assert quantize.inputs[0].type.layout is not None
    x = {"x": np.random.default_rng(8).integers(-90, 90, (1, 3, 6, 6)).astype(np.int8)}
    expected = run_session(open_session(model.SerializeToString()), x)["y"]
    found = result.run(x)["y"]
    assert np.ptp(expected) > 1
    reach = float(np.abs(numpy_helper.to_array(model.graph.initializer[-1])).max()) * 0.003
    halves = 2**-9 * float(np.abs(expected).max()) if target == "ane" else 1e-5
    assert np.abs(found - expected).max() <= 4 * float(scale.max()) * reach + halves
    clipped = run_session(open_session(between(scale * 4, zero).SerializeToString()), x)["y"]
    assert np.abs(clipped - expected).max() > 0  # the scales matter

"""Random quantized ONNX models, with a bound on what two correct executions of one may differ by."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compiler.tensor import Array

SIDE = 6
KINDS = ("conv", "relu conv", "dense", "add", "concat", "max_pool", "average_pool", "sigmoid", "transpose")


class Chain:
    """A chain of layers between Q and DQ nodes, from x [1,C,6,6] to y. `error` bounds how far apart two executions are:
    each rounds a value to the neighbouring step at most, and kernels of integers round once more for an operand."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.shape: tuple[int, ...] = (1, int(rng.integers(1, 5)), SIDE, SIDE)
        self.given = self.shape
        self.error = self.step = 0.0
        self.value = self.rounded("x", 4.0)

    def const(self, array: Array) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:  # Any: as the operator has it
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def rounded(self, x: str, reach: float, low: float | None = None) -> str:
        """x, quantized for numbers from `low` to `reach` and dequantized; operands of kernels may be rounded again."""
        low = -reach if low is None else low
        kind = np.uint8 if self.rng.random() < 0.5 else np.int8
        first = int(np.iinfo(kind).min)
        step = np.float32((reach - low) / 255)
        zero = kind(np.clip(round(first - low / float(step)), first, first + 255))
        self.step, self.error = float(step), self.error + 2 * float(step)
        parameters = self.const(np.asarray(step)), self.const(np.asarray(zero))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, *parameters), *parameters)

    def weight(self, shape: tuple[int, ...], axis: int) -> tuple[str, Array]:
        """A dequantized weight, of which the magnitudes for one result sum to 1; and its scales."""
        stored = self.rng.integers(-127, 128, shape).astype(np.int8)
        others = tuple(i for i in range(len(shape)) if i != axis)
        sums = np.abs(stored.astype(np.float32)).sum(others)
        scales = (1 / np.maximum(sums, 1)).astype(np.float32)
        if self.rng.random() < 0.4:
            scale = scales.min()
            return self.node(
                "DequantizeLinear", self.const(stored), self.const(scale), self.const(np.zeros((), np.int8))
            ), scale
        zeros = self.const(np.zeros(len(scales), np.int8))
        return self.node("DequantizeLinear", self.const(stored), self.const(scales), zeros, axis=axis), scales

    def add(self, kind: str) -> None:
        """One more layer; those of images become dense ones on rows."""
        image = len(self.shape) == 4 and self.shape[2] > 1
        if kind == "dense" or (not image and kind not in ("add", "concat", "sigmoid")):
            self._dense()
        elif kind.endswith("conv"):
            self._conv(rectified=kind.startswith("relu"))
        elif kind == "sigmoid":
            self.error = self.error / 4 + 1 / 256
            self.value = self.rounded(self.node("Sigmoid", self.value), 1.0, 0.0)
        elif kind in ("add", "concat"):
            self._two(kind)
        elif kind == "transpose":
            self.value = self.rounded(self.node("Transpose", self.value, perm=[0, 1, 3, 2]), 4.0)
        else:
            op = "MaxPool" if kind == "max_pool" else "AveragePool"
            self.value = self.rounded(self.node(op, self.value, kernel_shape=[2, 2], strides=[2, 2]), 4.0)
            self.shape = (*self.shape[:2], self.shape[2] // 2, self.shape[3] // 2)

    def _dense(self) -> None:
        if len(self.shape) == 4:
            self.value = self.node("Reshape", self.value, self.const(np.array([1, -1], np.int64)))
            self.shape = (1, int(np.prod(self.shape)))
        w, _ = self.weight((self.shape[1], int(self.rng.integers(1, 7))), 1)
        self.shape = (1, next(t for t in reversed(self.tensors) if len(t.dims) == 2).dims[1])
        self.value = self.rounded(self.node("MatMul", self.value, w), 4.0)

    def _conv(self, rectified: bool) -> None:
        filters = int(self.rng.integers(1, 6))
        step = self.step
        w, scales = self.weight((filters, self.shape[1], 3, 3), 0)
        scale = np.float32(step) * scales if self.rng.random() < 0.6 else np.array(1e-4, np.float32)
        own = np.broadcast_to(scale, (filters,)).astype(np.float32)
        bias = self.rng.integers(-900, 900, filters).astype(np.int32)
        b = self.node("DequantizeLinear", self.const(bias), self.const(own), axis=0)
        y = self.node("Conv", self.value, w, b, pads=[1, 1, 1, 1])
        self.shape = (1, filters, *self.shape[2:])
        self.value = self.rounded(self.node("Relu", y) if rectified else y, 3.0, 0.0 if rectified else None)

    def _two(self, kind: str) -> None:
        before, first = self.error, self.value
        second = self.rounded(self.node("Relu", first), 3.0, 0.0)
        if kind == "add":
            self.error += before
            y = self.node("Add", first, second)
        else:
            self.shape = (1, 2 * self.shape[1], *self.shape[2:])
            y = self.node("Concat", first, second, axis=1)
        self.value = self.rounded(y, 6.0)

    def model(self) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [self.value], ["y"]))
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.given)
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, self.shape)
        graph = helper.make_graph(self.nodes, "chain", [x], [y], self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

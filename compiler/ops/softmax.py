"""Normalisations along one axis without parameters: softmax and its kin, division by a norm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, expect, normalize_axis, op
from compiler.ops.elementwise import Sample
from compiler.ops.numeric import widen
from compiler.tensor import Array, TensorType


class AxisWise(Op):
    """A function of the vectors along one axis, counted from the front, of a float tensor."""

    axis: int

    def infer(self, x: TensorType) -> TensorType:
        expect(x.dtype.is_float, f"does not take elements of type {x.dtype}")
        expect(0 <= self.axis < x.rank, f"axis {self.axis} is out of range for rank {x.rank}")
        return x

    def compute(self, x: Array) -> Array:
        """The result for `x` of at least 32 bits."""
        raise NotImplementedError

    def evaluate(self, x: Array) -> Array:
        if not x.size:
            return x
        with np.errstate(all="ignore"):
            return self.compute(widen(x)).astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return 2 * outputs[0].size

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> AxisWise:
        return cls(axis=normalize_axis(node.attr("axis", -1), node.type(0).rank))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return (cls(axis=int(rng.integers(x.rank))), ()) if x.rank and x.dtype.is_float else None


@op("softmax", onnx="Softmax", since=13)
class Softmax(AxisWise):
    """exp(x) / sum(exp(x))."""

    def compute(self, x: Array) -> Array:
        e = np.exp(x - x.max(self.axis, keepdims=True))
        e /= e.sum(self.axis, keepdims=True)
        return e


@op("log_softmax", onnx="LogSoftmax", since=13)
class LogSoftmax(AxisWise):
    """x - log(sum(exp(x)))."""

    def compute(self, x: Array) -> Array:
        x = x - x.max(self.axis, keepdims=True)
        return x - np.log(np.exp(x).sum(self.axis, keepdims=True))


@op("hardmax", onnx="Hardmax", since=13)
class Hardmax(AxisWise):
    """1 at the first of the largest elements, 0 elsewhere."""

    def compute(self, x: Array) -> Array:
        y: Array = np.zeros_like(x)
        np.put_along_axis(y, x.argmax(self.axis, keepdims=True), 1, self.axis)
        return y

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        return 0


@op("lp_normalize", onnx="LpNormalization")
class LpNormalize(AxisWise):
    """x / max(norm, eps) with the p-norm; 0 where that is 0 / 0. With p = 2, an L2 normalisation."""

    p: int = 2
    eps: float = 0.0

    def validate(self) -> None:
        expect(self.p in (1, 2), f"p {self.p} should be 1 or 2")

    def compute(self, x: Array) -> Array:
        total = (np.abs(x) ** self.p).sum(self.axis, keepdims=True)
        norm = np.maximum(total ** x.dtype.type(1 / self.p), x.dtype.type(self.eps))
        return x / np.where(norm == 0, x.dtype.type(1), norm)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> LpNormalize:
        return cls(axis=normalize_axis(node.attr("axis", -1), node.type(0).rank), p=node.attr("p", 2))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        if self.eps == 0:
            return e.node("LpNormalization", *inputs, axis=self.axis, p=self.p)
        reduction = f"ReduceL{self.p}"
        if e.opset < 18:
            (norm,) = e.node(reduction, *inputs, axes=(self.axis,), keepdims=1)
        else:
            (norm,) = e.node(reduction, *inputs, e.const(np.array([self.axis], np.int64)), keepdims=1)
        return e.node("Div", *inputs, *e.node("Max", norm, e.const(self.eps, e.types[0])))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if not x.rank or not x.dtype.is_float:
            return None
        eps = float(rng.choice([0.0, 1e-6, 0.5]))
        return cls(axis=int(rng.integers(x.rank)), p=int(rng.integers(1, 3)), eps=eps), ()


__all__ = ["AxisWise", "Hardmax", "LogSoftmax", "LpNormalize", "Softmax"]

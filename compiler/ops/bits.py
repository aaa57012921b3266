"""Operations on the bits of elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, expect, expect_opset, op
from compiler.ops.elementwise import Nary, Sample
from compiler.tensor import DTYPES, STRING, Array, TensorType


@op("bitshift", onnx="BitShift", since=11)
class BitShift(Nary):
    """x shifted by y bits to the LEFT or RIGHT; beyond its width (or by less than 0) only copies of the sign stay."""

    kinds = "iu"
    direction: str

    def evaluate(self, x: Array, y: Array) -> Array:
        beyond = (y < 0) | (y >= 8 * x.dtype.itemsize)
        by = np.where(beyond, 0, y).astype(y.dtype)
        if self.direction == "LEFT":
            return np.where(beyond, 0, np.left_shift(x, by)).astype(x.dtype)
        return np.where(beyond, np.where(x < 0, -1, 0).astype(x.dtype), np.right_shift(x, by)).astype(x.dtype)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.dtype.kind != "u" or not x.is_static:
            return None
        return cls(direction=str(rng.choice(["LEFT", "RIGHT"]))), (rng.integers(0, 8, x.dims).astype(x.dtype.numpy),)


@op("bitcast", onnx="BitCast", since=26)
class BitCast(Op):
    """The bits of each element (little-endian) read as another element type of the same width."""

    elementwise = True
    to: str

    def infer(self, x: TensorType) -> TensorType:
        expect(self.to in DTYPES, f"{self.to!r} is no element type")
        target = DTYPES[self.to]
        expect(STRING not in (target, x.dtype), "strings have no bits to read")
        expect(x.dtype.bits == target.bits, f"{x.dtype} has {x.dtype.bits} bits, {target} has {target.bits}")
        return x.with_dtype(target)

    def evaluate(self, x: Array) -> Array:
        return np.ascontiguousarray(x).view(DTYPES[self.to].numpy).reshape(x.shape)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> BitCast:
        return cls(to=node.attr("to").name)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        expect_opset(e, self.since, "BitCast")
        return e.node("BitCast", *inputs, to=DTYPES[self.to])

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        twin = {"f32": "i32", "f16": "i16", "f64": "i64", "i32": "f32", "u8": "i8"}.get(x.dtype.name)
        return (cls(to=twin), ()) if twin else None

"""Operations that keep every element and change the shape or the order, and those that read the shape itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations
from math import gcd, prod

import numpy as np

from compiler.errors import ShapeError
from compiler.op import Emitter, OnnxNode, Op, broadcast, expect, expect_opset, op
from compiler.ops.elementwise import Sample
from compiler.tensor import I64, Array, Dim, Shape, TensorType


def i64_vector(values: Iterable[int]) -> Array:
    """A rank-1 int64 array, also of no values."""
    return np.array(tuple(values), np.int64)


def resolve_reshape(shape: Shape, wanted: Sequence[int], allowzero: bool = False) -> Shape:
    """The shape that ONNX Reshape gives: 0 copies the operand's dimension (unless `allowzero`), -1 takes what is left.

    What is left of unbound dimensions is the dimension itself where it divides out, else a name for the product.
    Raises ShapeError if the elements do not fit.
    """
    out: list[Dim] = []
    for i, d in enumerate(wanted):
        if d == 0 and not allowzero:
            expect(i < len(shape), f"a 0 at position {i} of {list(wanted)} copies a dimension that {list(shape)} lacks")
            out.append(shape[i])
        else:
            out.append(d)
    expect(out.count(-1) <= 1, f"more than one -1 in {list(wanted)}")
    if -1 in out:
        at = out.index(-1)
        out[at] = _quotient(shape, (*out[:at], *out[at + 1 :]))
    return tuple(out)


def _quotient(shape: Shape, divisor: Shape) -> Dim:
    names = [d for d in shape if isinstance(d, str)]
    for d in divisor:
        if isinstance(d, str) and d in names:
            names.remove(d)
    above, below = _static_size(shape), _static_size(divisor)
    if not names:
        if below == 0:
            raise ShapeError(f"-1 is ambiguous beside a dimension of 0: {list(shape)} into {list(divisor)}")
        expect(above % below == 0, f"{list(shape)} does not divide into {list(divisor)}")
        return above // below
    common = gcd(above, below) or 1
    above, below = above // common, below // common
    name = "*".join(([str(above)] if above != 1 else []) + sorted(names))
    return name if below == 1 else f"{name}/{below}"


def _static_size(shape: Shape) -> int:
    return prod(d for d in shape if type(d) is int)


@op("reshape", onnx="Reshape", since=5)
class Reshape(Op):
    """The same elements in row-major order under another shape; at most one dimension of it is unbound."""

    shape: Shape

    def infer(self, x: TensorType) -> TensorType:
        names = sum(type(d) is str for d in self.shape)
        expect(names <= 1, f"shape {list(self.shape)} has more than one unbound dimension")
        if x.is_static or sorted(map(str, x.shape)) == sorted(map(str, self.shape)):
            fits = names <= sum(type(d) is str for d in x.shape) and _static_size(x.shape) == _static_size(self.shape)
            expect(fits, f"{x} does not have the elements of shape {list(self.shape)}")
        return x.with_shape(self.shape)

    def evaluate(self, x: Array) -> Array:
        return x.reshape([d if isinstance(d, int) else -1 for d in self.shape])

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Reshape:
        wanted = node.ints("shape", 1)
        return cls(shape=resolve_reshape(node.type(0).shape, wanted, bool(node.attr("allowzero", 0))))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        shape = [d if isinstance(d, int) else -1 for d in self.shape]
        allowzero = None
        if 0 in shape:
            x = e.types[0]
            assert x is not None
            copied = all(d != 0 or (i < x.rank and x.shape[i] == 0) for i, d in enumerate(shape))
            if not copied:
                expect_opset(e, 14, f"a reshape of {x} to {shape}")
                allowzero = 1
        return e.node("Reshape", *inputs, e.const(i64_vector(shape)), allowzero=allowzero)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if not x.is_static:
            return None
        d = x.dims
        at = int(rng.integers(len(d) + 1))
        shapes = [(x.size,), (*d[:at], 1, *d[at:]), tuple(v for v in d if v != 1), (prod(d[:at]), prod(d[at:])), d]
        return cls(shape=shapes[int(rng.integers(len(shapes)))]), ()


@op("transpose", onnx="Transpose")
class Transpose(Op):
    """Axis i of the result is axis perm[i] of x."""

    perm: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        expect(sorted(self.perm) == list(range(x.rank)), f"perm {list(self.perm)} is no permutation of {x.rank} axes")
        return x.with_shape(tuple(x.shape[i] for i in self.perm))

    def evaluate(self, x: Array) -> Array:
        return x.transpose(self.perm)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Transpose:
        rank = node.type(0).rank
        perm = node.attr("perm", tuple(reversed(range(rank))))
        return cls(perm=tuple(int(i) + rank if i < 0 else int(i) for i in perm))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        perms = list(permutations(range(x.rank))) if x.rank <= 4 else [tuple(map(int, rng.permutation(x.rank)))]
        return cls(perm=perms[int(rng.integers(len(perms)))]), ()


@op("expand", onnx="Expand", since=8)
class Expand(Op):
    """x repeated along its dimensions of 1, and along new leading ones, up to `shape`."""

    shape: Shape

    def infer(self, x: TensorType) -> TensorType:
        expect(broadcast(x.shape, self.shape) == self.shape, f"{x} does not broadcast to {list(self.shape)}")
        return x.with_shape(self.shape)

    def evaluate(self, x: Array) -> Array:
        lead = len(self.shape) - x.ndim
        return np.broadcast_to(x, [d if isinstance(d, int) else x.shape[i - lead] for i, d in enumerate(self.shape)])

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Expand:
        return cls(shape=broadcast(node.type(0).shape, node.ints("shape", 1)))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("Expand", *inputs, e.const(i64_vector(d if isinstance(d, int) else 1 for d in self.shape)))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        grown = tuple(int(rng.integers(1, 4)) if d == 1 else d for d in x.shape)
        return cls(shape=(*(int(v) for v in rng.integers(1, 3, int(rng.integers(3)))), *grown)), ()


class Blocks(Op):
    """Base of the exchange of channels for `blocksize` x `blocksize` blocks of pixels.

    The position in the block is the outer part of a channel's number (mode DCR) or its inner part (mode CRD).
    """

    blocksize: int
    mode: str = "DCR"

    def steps(self, n: int, c: int, h: int, w: int) -> tuple[tuple[int, ...], ...]:
        """A shape to split into, a permutation, and the shape to merge into; ShapeError if blocks do not divide."""
        raise NotImplementedError

    def infer(self, x: TensorType) -> TensorType:
        expect(x.rank == 4 and x.is_static, f"needs a static operand of rank 4, got {x}")
        expect(self.blocksize > 0, f"blocksize is {self.blocksize}, it must be positive")
        expect(self.mode in ("DCR", "CRD"), f"mode is {self.mode!r}, it must be DCR or CRD")
        return x.with_shape(self.steps(*x.dims)[2])

    def evaluate(self, x: Array) -> Array:
        split, perm, merged = self.steps(*x.shape)
        return x.reshape(split).transpose(perm).reshape(merged)


@op("depth_to_space", onnx="DepthToSpace")
class DepthToSpace(Blocks):
    """Channels spread over blocks of pixels (mode CRD is pixel shuffle)."""

    def steps(self, n: int, c: int, h: int, w: int) -> tuple[tuple[int, ...], ...]:
        b = self.blocksize
        depth = c // b**2
        expect(c % b**2 == 0, f"{c} channels do not divide into blocks of {b} x {b}")
        merged = (n, depth, h * b, w * b)
        if self.mode == "DCR":
            return (n, b, b, depth, h, w), (0, 3, 4, 1, 5, 2), merged
        return (n, depth, b, b, h, w), (0, 1, 4, 2, 5, 3), merged

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 4 or not x.is_static:
            return None
        sizes = [b for b in (1, 2, 3) if x.dims[1] % (b * b) == 0]
        return cls(blocksize=int(rng.choice(sizes)), mode=str(rng.choice(["DCR", "CRD"]))), ()


@op("space_to_depth", onnx="SpaceToDepth")
class SpaceToDepth(Blocks):
    """Blocks of pixels gathered into channels."""

    def steps(self, n: int, c: int, h: int, w: int) -> tuple[tuple[int, ...], ...]:
        b = self.blocksize
        expect(h % b == 0 and w % b == 0, f"{h} x {w} pixels do not divide into blocks of {b} x {b}")
        perm = (0, 3, 5, 1, 2, 4) if self.mode == "DCR" else (0, 1, 3, 5, 2, 4)
        return (n, c, h // b, b, w // b, b), perm, (n, c * b**2, h // b, w // b)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        if self.mode == "DCR":
            return e.node("SpaceToDepth", *inputs, blocksize=self.blocksize)
        if e.opset >= 28:
            return e.node("SpaceToDepth", *inputs, blocksize=self.blocksize, mode=self.mode)
        x = e.types[0]
        assert x is not None
        split, perm, merged = self.steps(*x.dims)
        parts = e.node("Transpose", *e.node("Reshape", *inputs, e.const(split)), perm=perm)
        return e.node("Reshape", *parts, e.const(merged))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank != 4 or not x.is_static:
            return None
        sizes = [b for b in (1, 2, 3) if x.dims[2] % b == x.dims[3] % b == 0]
        return cls(blocksize=int(rng.choice(sizes)), mode=str(rng.choice(["DCR", "CRD"]))), ()


@op("shape", onnx="Shape")
class ShapeOf(Op):
    """The dimensions of x from axis `start` up to `end` (the rank if it is -1), as int64."""

    start: int = 0
    end: int = -1

    def infer(self, x: TensorType) -> TensorType:
        end = x.rank if self.end < 0 else self.end
        expect(0 <= self.start <= end <= x.rank, f"axes {self.start} to {end} are not within {x}")
        return TensorType(I64, (end - self.start,))

    def evaluate(self, x: Array) -> Array:
        return i64_vector(x.shape[self.start : x.ndim if self.end < 0 else self.end])

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> ShapeOf:
        rank = node.type(0).rank
        start, end, _ = slice(node.attr("start", 0), node.attr("end", None)).indices(rank)
        end = max(start, end)
        return cls(start=start, end=-1 if end == rank else end)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        x = e.types[0]
        assert x is not None
        whole = e.node("Shape", *inputs) if e.opset < 15 or (self.start == 0 and self.end < 0) else None
        if whole is None:
            return e.node("Shape", *inputs, start=self.start, end=None if self.end < 0 else self.end)
        if self.start == 0 and self.end < 0:
            return whole
        kept = range(self.start, x.rank if self.end < 0 else self.end)
        return e.node("Gather", *whole, e.const(i64_vector(kept)), axis=0)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        start = int(rng.integers(x.rank + 1))
        return cls(start=start, end=int(rng.choice([-1, *range(start, x.rank)]))), ()


@op("size", onnx="Size")
class SizeOf(Op):
    """The number of elements of x, an int64 scalar."""

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(I64, ())

    def evaluate(self, x: Array) -> Array:
        return np.array(x.size, np.int64)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return cls(), ()

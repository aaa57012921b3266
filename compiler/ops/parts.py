"""Operations that join tensors or cut them: concatenation, splitting, slicing, padding, tiling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from compiler.errors import OnnxError
from compiler.op import Emitter, OnnxNode, Op, expect, expect_opset, normalize_axis, op
from compiler.ops.elementwise import Sample
from compiler.ops.shape import i64_vector
from compiler.tensor import Array, Dim, DType, TensorType

WHOLE = 2**63 - 1  # end of a slice that takes all of an unbound dimension


def add_dims(*dims: Dim) -> Dim:
    """The sum of dimensions; with unbound ones among them, a name for it."""
    names = [d for d in dims if isinstance(d, str)]
    number = sum(d for d in dims if isinstance(d, int))
    return "+".join(names + ([str(number)] if number else [])) if names else number


def _random_axis(rng: np.random.Generator, x: TensorType) -> int:
    return int(rng.integers(x.rank))


@op("concat", onnx="Concat", since=4)
class Concat(Op):
    """The operands one after another along `axis`."""

    axis: int

    def infer(self, *xs: TensorType) -> TensorType:
        expect(xs, "needs an operand")
        x, axis = xs[0], self.axis
        expect(0 <= axis < x.rank, f"axis {axis} is out of range for rank {x.rank}")
        for y in xs[1:]:
            expect(y.dtype is x.dtype, f"operands differ in element type: {x.dtype} and {y.dtype}")
            same = y.rank == x.rank and y.shape[:axis] == x.shape[:axis] and y.shape[axis + 1 :] == x.shape[axis + 1 :]
            expect(same, f"{x} and {y} differ outside axis {axis}")
        return x.with_shape((*x.shape[:axis], add_dims(*(y.shape[axis] for y in xs)), *x.shape[axis + 1 :]))

    def evaluate(self, *xs: Array) -> Array:
        return np.concatenate(xs, self.axis)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Concat:
        return cls(axis=normalize_axis(node.attr("axis", 1 if node.version < 4 else -1), node.type(0).rank))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0:
            return None
        axis = _random_axis(rng, x)
        others = [
            x.with_shape((*x.shape[:axis], int(rng.integers(4)), *x.shape[axis + 1 :])) for _ in range(rng.integers(3))
        ]
        return cls(axis=axis), tuple(others)


@op("split", onnx="Split", since=2)
class Split(Op):
    """x cut along `axis` into one result per size."""

    axis: int
    sizes: tuple[int, ...]

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        axis = self.axis
        expect(0 <= axis < x.rank, f"axis {axis} is out of range for rank {x.rank}")
        expect(min(self.sizes, default=-1) >= 0, f"sizes {list(self.sizes)} must be given and not negative")
        expect(sum(self.sizes) == x.shape[axis], f"sizes {list(self.sizes)} do not add up to axis {axis} of {x}")
        return tuple(x.with_shape((*x.shape[:axis], n, *x.shape[axis + 1 :])) for n in self.sizes)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        return tuple(np.split(x, np.cumsum(self.sizes[:-1]), self.axis))

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Split:
        x = node.type(0)
        axis = normalize_axis(node.attr("axis", 0), x.rank)
        sizes = node.ints("split", 1, None)
        if sizes is None:
            count = node.attr("num_outputs", node.n_outputs)
            length = x.shape[axis]
            if not isinstance(length, int):
                raise OnnxError(f"the unbound dimension {length!r} cannot be split into {count} parts")
            chunk = -(-length // count)
            sizes = (*(chunk,) * (count - 1), length - chunk * (count - 1))
            if sizes[-1] < 0 or (node.version < 18 and sizes[-1] != chunk):
                raise OnnxError(f"a dimension of {length} does not split into {count} parts")
        return cls(axis=axis, sizes=sizes)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("Split", *inputs, e.const(i64_vector(self.sizes)), outputs=len(self.sizes), axis=self.axis)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0 or not x.is_static:
            return None
        axis = _random_axis(rng, x)
        cuts = sorted(int(v) for v in rng.integers(x.dims[axis] + 1, size=int(rng.integers(3))))
        bounds = [0, *cuts, x.dims[axis]]
        return cls(axis=axis, sizes=tuple(b - a for a, b in pairwise(bounds))), ()


def slice_bounds(length: int, start: int, end: int, step: int) -> tuple[int, int, int]:
    """The one form of a slice that selects the same: 0 <= start, end just past the last element taken (-1 is before
    element 0), step 1 where at most one is taken."""
    taken = range(length)[start:end:step]
    if not taken:
        return 0, 0, 1
    if len(taken) == 1:
        return taken[0], taken[0] + 1, 1
    return taken[0], taken[-1] + (1 if step > 0 else -1), step


@op("slice", onnx="Slice")
class Slice(Op):
    """Elements start, start + step, ... before end, along each axis.

    All axes are listed, and bounds are counted from the front: 0 <= start <= end <= length for a positive step,
    -1 <= end <= start < length for a negative one. An unbound dimension is taken whole (0, WHOLE, 1).
    """

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    steps: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        ranks = (len(self.starts), len(self.ends), len(self.steps))
        expect(ranks == (x.rank,) * 3, f"needs starts, ends and steps for each of {x.rank} axes")
        out: list[Dim] = []
        for i, (d, start, end, step) in enumerate(zip(x.shape, self.starts, self.ends, self.steps, strict=True)):
            if isinstance(d, str):
                expect((start, end, step) == (0, WHOLE, 1), f"the unbound dimension {d!r} can only be taken whole")
                out.append(d)
                continue
            fits = 0 <= start <= end <= d if step > 0 else step < 0 and -1 <= end <= start < d
            expect(fits, f"{start}:{end}:{step} is not within axis {i} of {x}")
            out.append(len(range(start, end, step)))
        return x.with_shape(tuple(out))

    def evaluate(self, x: Array) -> Array:
        bounds = zip(self.starts, self.ends, self.steps, strict=True)
        return x[tuple(slice(start, None if end < 0 else end, step) for start, end, step in bounds)]

    @classmethod
    def of(
        cls, x: TensorType, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int], steps: Sequence[int] = ()
    ) -> Slice:
        """The slice along some axes, with bounds as Python and ONNX take them (negative, or beyond the ends)."""
        bounds = [(0, WHOLE if isinstance(d, str) else d, 1) for d in x.shape]
        for axis, start, end, step in zip(axes, starts, ends, steps or (1,) * len(axes), strict=True):
            d = x.shape[normalize_axis(axis, x.rank)]
            expect(step != 0, "a step is 0")
            if isinstance(d, int):
                bounds[axis] = slice_bounds(d, start, end, step)
            else:
                whole = start == 0 and end >= 2**31 - 1 and step == 1
                expect(whole, f"the unbound dimension {d!r} cannot be sliced {start}:{end}:{step}")
        if not bounds:
            return cls(starts=(), ends=(), steps=())
        first, last, stride = zip(*bounds, strict=True)
        return cls(starts=first, ends=last, steps=stride)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Slice:
        x = node.type(0)
        starts = node.ints("starts", 1)
        axes = node.ints("axes", 3, tuple(range(len(starts))))
        return cls.of(x, axes, starts, node.ints("ends", 2), node.ints("steps", 4, ()))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        x = e.types[0]
        assert x is not None
        bounds = zip(x.shape, self.starts, self.ends, self.steps, strict=True)
        cut = [i for i, (d, *b) in enumerate(bounds) if isinstance(d, int) and b != [0, d, 1]]
        starts, steps = ([v[i] for i in cut] for v in (self.starts, self.steps))
        ends = [self.ends[i] if self.ends[i] >= 0 else -1 - x.dims[i] for i in cut]
        operands = (starts, ends, cut, steps) if any(s != 1 for s in steps) else (starts, ends, cut)
        return e.node("Slice", *inputs, *(e.const(i64_vector(v)) for v in operands))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0:
            return None
        axes = [i for i, d in enumerate(x.shape) if isinstance(d, int) and rng.random() < 0.7]
        starts, ends = ([int(v) for v in rng.integers(-7, 8, len(axes))] for _ in range(2))
        return cls.of(x, axes, starts, ends, [int(v) for v in rng.choice([-2, -1, 1, 1, 2, 3], len(axes))]), ()


@op("pad", onnx="Pad", since=2)
class Pad(Op):
    """x with pads[i] elements put before axis i and pads[rank + i] after it.

    mode      what they hold: "constant" (`value`, or the scalar operand `fill`), "edge" (the outermost element),
              "reflect" (mirrored without repeating it), "wrap" (from the other side)
    """

    pads: tuple[int, ...]
    mode: str = "constant"
    value: float | int | bool | str = 0.0

    def infer(self, x: TensorType, fill: TensorType | None = None) -> TensorType:
        expect(len(self.pads) == 2 * x.rank, f"needs {2 * x.rank} pads, got {len(self.pads)}")
        expect(min(self.pads, default=0) >= 0, f"pads {list(self.pads)} are negative; a slice takes elements away")
        expect(self.mode in ("constant", "edge", "reflect", "wrap"), f"mode {self.mode!r} is not known")
        expect(fill is None or (fill.dtype is x.dtype and fill.size == 1), f"fill is {fill}, not one element like {x}")
        out = []
        for d, before, after in zip(x.shape, self.pads[: x.rank], self.pads[x.rank :], strict=True):
            expect(d != 0 or self.mode == "constant" or before == after == 0, f"{self.mode} needs an element of {x}")
            out.append(add_dims(d, before + after))
        return x.with_shape(tuple(out))

    def evaluate(self, x: Array, fill: Array | None = None) -> Array:
        rank = x.ndim
        widths = list(zip(self.pads[:rank], self.pads[rank:], strict=True))
        if self.mode != "constant":
            return np.pad(x, widths, self.mode)  # type: ignore[call-overload]  # a str, checked by infer
        value = self.value if fill is None else fill.reshape(-1)[0]
        out = np.full([d + a + b for d, (a, b) in zip(x.shape, widths, strict=True)], value, x.dtype)
        out[tuple(slice(a, a + d) for d, (a, _) in zip(x.shape, widths, strict=True))] = x
        return out

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Pad:
        """The operation as it stands in the node: pads may be negative."""
        x = node.type(0)
        given = node.ints("pads", 1)
        axes = [normalize_axis(a, x.rank) for a in node.ints("axes", 3, tuple(range(x.rank)))]
        expect(len(given) == 2 * len(axes), f"needs {2 * len(axes)} pads, got {len(given)}")
        pads = [0] * (2 * x.rank)
        for i, axis in enumerate(axes):
            pads[axis], pads[x.rank + axis] = given[i], given[len(axes) + i]
        value = _python_zero(x.dtype)
        if "value" in node.attributes or node.peek(2) is not None:
            value = type(value)(node.scalar("value", 2))
        return cls(pads=tuple(pads), mode=node.attr("mode", "constant"), value=value)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        if self.mode == "wrap":
            expect_opset(e, 19, "a pad of mode wrap")
        x, *fill = inputs
        if self.mode == "constant" and not fill and self.value != 0:
            fill = [e.const(self.value, e.types[0])]
        return e.node("Pad", x, e.const(i64_vector(self.pads)), *fill, mode=self.mode)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.rank == 0 or x.dtype.kind not in "fiu":
            return None
        mode = str(rng.choice(["constant", "edge", "reflect"]))
        limits = [3 if mode == "constant" else min(3, d) if isinstance(d, int) else 1 for d in x.shape] * 2
        pads = tuple(int(rng.integers(limit)) if limit else 0 for limit in limits)
        value = float(rng.integers(3)) if x.dtype.is_float else int(rng.integers(3))
        return cls(pads=pads, mode=mode, value=value if mode == "constant" else _python_zero(x.dtype)), ()


def _python_zero(dtype: DType) -> float | int | bool | str:
    return 0.0 if dtype.is_float else False if dtype.kind == "b" else "" if dtype.kind == "s" else 0


@op("tile", onnx="Tile", since=6)
class Tile(Op):
    """x repeated `repeats[i]` times along axis i."""

    repeats: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        expect(len(self.repeats) == x.rank, f"needs {x.rank} repeats, got {len(self.repeats)}")
        expect(min(self.repeats, default=0) >= 0, f"repeats {list(self.repeats)} are negative")
        out = [r * d if isinstance(d, int) else _times(r, d) for r, d in zip(self.repeats, x.shape, strict=True)]
        return x.with_shape(tuple(out))

    def evaluate(self, x: Array) -> Array:
        return np.tile(x, self.repeats)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Tile:
        return cls(repeats=node.ints("repeats", 1))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node("Tile", *inputs, e.const(i64_vector(self.repeats)))

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return cls(repeats=tuple(int(v) for v in rng.integers(1, 4, x.rank))), ()


def _times(factor: int, d: str) -> Dim:
    return d if factor == 1 else 0 if factor == 0 else f"{factor}*{d}"

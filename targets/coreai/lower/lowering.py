"""What lowering functions write to: one program, and the variables that hold the values of the graph.

Floats of every width are held in the program's precision, 64-bit integers in 32 bits, everything else as it is: the
arithmetic of narrow integers wraps around by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from compiler.graph import Node, Value
from compiler.tensor import BOOL, I64, U64, Array, DType
from targets.apple.sparse import Saving, Sparse
from targets.apple.weights import annotation_of, transposed
from targets.coreai.compressed import Form, form
from targets.coreai.dtypes import NAMES, TYPES, limits
from targets.coreai.program import Program, Var
from targets.coreai.sparse import expand, left_of, saving

if TYPE_CHECKING:
    from targets.coreai.custom import Carrier

FP16_MAX = 65504.0
SATURATED_SIZE = 1 << 22  # elements; larger constants are weights
HELD = {I64: "int32", U64: "uint32", BOOL: "bool"}
FLOATS = ("fp16", "fp32")
DENSE = Sparse()
Number = bool | int | float


class Lowering:
    """One program being emitted: graph values and the variables that hold them.

    precision  "fp16" or "fp32": the element type of every float tensor inside
    sparse     which weights are stored as a mask and the numbers that are left
    carry      writes layers that have no lowering as kernels of the Metal target; None: there are none
    """

    def __init__(
        self,
        program: Program,
        precision: str,
        sparse: Sparse = DENSE,
        carry: Carrier | None = None,
    ) -> None:
        self.program = program
        self.precision = precision
        self.sparse = sparse
        self.carry = carry
        self.warnings: list[str] = []
        self.savings: list[Saving] = []
        self.shared: dict[tuple[object, ...], Var] = {}  # what lowerings derive from a value for several layers
        self._vars: dict[Value, Var] = {}

    def dtype(self, t: DType) -> str:
        """The element type in which values of one of ours are held."""
        return self.precision if t.is_float else HELD[t] if t in HELD else NAMES[t.name]

    def __contains__(self, v: Value) -> bool:
        return v in self._vars

    def __getitem__(self, v: Value) -> Var:
        found = self._vars.get(v)
        if found is None:
            assert v.data is not None, f"{v!r} is not lowered yet"
            found = self._vars[v] = self._expanded(v) or self.constant(v)
        return found

    def matrix(self, v: Value, swapped: bool) -> Var:
        """A matrix, or its transpose; one in few bits, or with a mask, is transposed before it is stored."""
        if not swapped:
            return self[v]
        key = ("transposed", v)
        if key not in self.shared:
            made = None if v.data is None else self._expanded(v, swapped)
            self.shared[key] = made or self.swapped(self[v])
        return self.shared[key]

    def _expanded(self, v: Value, swapped: bool = False) -> Var | None:
        """A constant in few bits, or with a mask, expanded to the program's precision; None if it is neither."""
        annotation, is_sparse = annotation_of(v.type), self.sparse.takes(v)
        if annotation is None and not is_sparse:
            return None
        dense = self._form(v, swapped)
        left = left_of(dense) if is_sparse else None
        if left is not None and (told := saving(dense, left)).sparse < told.dense:
            self.savings.append(told)
            return expand(self.program, dense, left, self.precision)
        if annotation is None:
            return None
        operands = [self.program.const(a, kind, key=id(a)) for a, kind in dense.operands]
        return self.op(dense.operation, operands, self.precision, dense.operands[0][0].shape)

    def _form(self, v: Value, swapped: bool) -> Form:
        """How a weight is stored without a mask."""
        if annotation_of(v.type) is None:
            assert v.data is not None
            data = np.asarray(v.data.T if swapped else v.data)
            data = self._limited(data, v.name) if self.precision == "fp16" else data
            stored = data.astype(TYPES[self.precision].numpy)
            return Form("const", ((stored, self.precision),))
        data, annotation = transposed(v) if swapped else (np.asarray(v.data), annotation_of(v.type))
        assert annotation is not None
        return form(np.asarray(data, np.float32), annotation, self.precision)

    def operands(self, node: Node) -> list[Var]:
        """Variables of the operands that are present."""
        return [self[v] for v in node.inputs if v is not None]

    def operand(self, node: Node, index: int) -> Var | None:
        """The variable of one operand, None if it is absent."""
        v = node.inputs[index] if index < len(node.inputs) else None
        return None if v is None else self[v]

    def constant(self, v: Value) -> Var:
        """A weight in the element type in which it is held. Finite numbers beyond fp16 become its largest, so that
        masks of -1e9 do not turn into infinities."""
        data, kind = v.data, self.dtype(v.type.dtype)
        assert data is not None
        key = id(data)
        if data.dtype.kind == "V":
            data = data.astype(np.float32 if v.type.dtype.is_float else np.int32)
        if data.dtype.itemsize == 8 and data.dtype.kind in "iu":
            data = np.clip(data, *limits(kind))  # INT64_MAX and its like stand for "to the end"
        elif kind == "fp16" and data.dtype.itemsize > 2 and data.size <= SATURATED_SIZE:
            data = self._limited(data, v.name)
        return self.program.const(data, kind, key=key)

    def _limited(self, data: Array, name: str) -> Array:
        """What fp16 holds of a constant."""
        if not _beyond(data).any():
            return data
        self.warnings.append(f"constant {name!r} holds finite numbers beyond fp16; they became +-{FP16_MAX:.0f}")
        return _within(data)

    def floats(self, data: Array, dtype: str = "") -> Var:
        """A constant of floats that the lowering computed, in the program's precision unless a type is given."""
        kind = dtype or self.precision
        data = np.asarray(data, np.float32)
        return self.program.const((_within(data) if kind == "fp16" else data).astype(TYPES[kind].numpy), kind)

    def ints(self, data: Array | Sequence[int]) -> Var:
        """A constant of int32, as axes and indices are."""
        return self.program.const(np.asarray(data, np.int32), "int32")

    def sizes(self, data: Sequence[int]) -> Var:
        """A constant of uint32, as shapes and strides are."""
        return self.program.const(np.asarray(data, np.uint32), "uint32")

    def size(self, number: int) -> Var:
        """One number of uint32."""
        return self.program.const(np.array(number, np.uint32), "uint32")

    def axis(self, number: int) -> Var:
        """One axis."""
        return self.program.const(np.array(number, np.int32), "int32")

    def flag(self, truth: bool) -> Var:
        """One boolean."""
        return self.program.const(np.array(truth), "bool")

    def number(self, value: Number, dtype: str) -> Var:
        """A single number of an element type; floats are limited to what fp16 holds there."""
        if dtype in FLOATS:
            return self.floats(np.array(value), dtype)
        return self.program.const(np.array(value).astype(TYPES[dtype].numpy), dtype)

    def bind(self, v: Value, var: Var) -> None:
        """Let `var` stand for a graph value."""
        self._vars[v] = var

    def finish(self, node: Node, var: Var) -> None:
        """Let `var`, converted to the type in which it is held, stand for the only result of a layer."""
        self._vars[node.output] = self.cast(var, self.dtype(node.output.type.dtype))

    def op(self, kind: str, operands: Sequence[Var], dtype: str, shape: Sequence[int], attributes: str = "") -> Var:
        """An operation with one result."""
        return self.program.op(kind, operands, [(dtype, shape)], attributes)[0]

    def unary(self, kind: str, x: Var, attributes: str = "") -> Var:
        """An operation on `x` whose result has its type."""
        return self.op(kind, [x], x.dtype, x.shape, attributes)

    def binary(self, kind: str, x: Var | Number, y: Var | Number) -> Var:
        """An operation of two operands that broadcast; a number takes the type of the other."""
        left, right = self._pair(x, y)
        return self._broadcasting(kind, left, right, left.dtype)

    def _pair(self, x: Var | Number, y: Var | Number) -> tuple[Var, Var]:
        dtype = next(v.dtype for v in (x, y) if isinstance(v, Var))
        left, right = (v if isinstance(v, Var) else self.number(v, dtype) for v in (x, y))
        return left, right

    def _broadcasting(self, kind: str, x: Var, y: Var, dtype: str) -> Var:
        if x.shape == y.shape:
            return self.op(kind, [x, y], dtype, x.shape)
        return self.op(f"decomposable.broadcasting_{kind}", [x, y], dtype, np.broadcast_shapes(x.shape, y.shape))

    def test(self, kind: str, x: Var | Number, y: Var | Number) -> Var:
        """A comparison: equal, not_equal, greater, less, greater_equal or less_equal."""
        left, right = self._pair(x, y)
        if kind.startswith("less"):
            return self.test(kind.replace("less", "greater"), right, left)
        if kind != "greater_equal":
            return self._broadcasting(kind, left, right, "bool")
        if left.dtype in FLOATS:
            return self.binary("or", self.test("greater", left, right), self.test("equal", left, right))
        return self.unary("not", self.test("greater", right, left))

    def select(self, condition: Var, a: Var | Number, b: Var | Number) -> Var:
        """`a` where the condition holds, else `b`."""
        left, right = self._pair(a, b)
        shape = np.broadcast_shapes(condition.shape, left.shape, right.shape)
        kind = "where" if condition.shape == left.shape == right.shape else "decomposable.broadcasting_where"
        return self.op(kind, [condition, left, right], left.dtype, shape)

    def cast(self, x: Var, dtype: str) -> Var:
        """`x` as another element type; integers that a narrower one cannot hold are limited to it."""
        if x.dtype == dtype:
            return x
        if x.value is not None and x.handle is None:
            return self.program.const(np.asarray(x.value).astype(TYPES[dtype].numpy), dtype)
        return self.op("cast", [x], dtype, x.shape)

    def reshape(self, x: Var, shape: Sequence[int]) -> Var:
        """`x` under another shape; constants are reshaped now."""
        if tuple(shape) == x.shape:
            return x
        if x.value is not None and x.handle is None:
            key = ("reshaped", id(x.value))
            return self.program.const(np.asarray(x.value).reshape(shape), x.dtype, key=key)
        return self.op("reshape", [x, self.ints(shape)], x.dtype, shape)

    def transpose(self, x: Var, perm: Sequence[int]) -> Var:
        """`x` with permuted axes; a permutation that moves nothing is a reshape."""
        if list(perm) == list(range(len(x.shape))):
            return x
        shape = [x.shape[i] for i in perm]
        moved = [i for i in perm if x.shape[i] != 1]
        if moved == sorted(moved):
            return self.reshape(x, shape)
        if x.value is not None and x.handle is None:
            key = ("transposed", id(x.value), *perm)
            return self.program.const(np.asarray(x.value).transpose(perm), x.dtype, key=key)
        return self.op("transpose", [x, self.sizes(perm)], x.dtype, shape)

    def spread(self, x: Var, shape: Sequence[int]) -> Var:
        """`x` broadcast to a shape."""
        if tuple(shape) == x.shape:
            return x
        return self.op("broadcast_to", [x, self.sizes(shape)], x.dtype, shape)

    def cut(self, x: Var, axis: int, begin: int, end: int, step: int = 1) -> Var:
        """The elements begin, begin + step, ... before end along one axis."""
        begins, ends, steps = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
        begins[axis], ends[axis], steps[axis] = begin, end, step
        return self.slice(x, begins, ends, steps)

    def slice(self, x: Var, begins: Sequence[int], ends: Sequence[int], steps: Sequence[int]) -> Var:
        """The elements begin, begin + step, ... before end along every axis, counted from the front; a descending axis
        ends at -1 if it runs to the front. Constants are cut now.

        Descending axes are cut in ascending order and then reversed: Apple's compiler takes a slice that changes no
        shape for one that changes nothing.
        """
        ranges = [range(b, e, s) for b, e, s in zip(begins, ends, steps, strict=True)]
        if x.value is not None and x.handle is None:
            cut = tuple(slice(r.start, r.stop if r.stop >= 0 else None, r.step) for r in ranges)
            return self.program.const(np.ascontiguousarray(np.asarray(x.value)[cut]), x.dtype)
        flipped = [axis for axis, r in enumerate(ranges) if r.step < 0]
        ranges = [r[::-1] if r.step < 0 else r for r in ranges]
        shape = tuple(map(len, ranges))
        if shape != x.shape:
            parts = [
                self.ints(n) for n in ([r.start for r in ranges], [r[-1] + 1 for r in ranges], [r.step for r in ranges])
            ]
            x = self.op("slice", [x, *parts], x.dtype, shape)
        return self.reverse(x, flipped)

    def reverse(self, x: Var, axes: Sequence[int]) -> Var:
        """`x` in the opposite order along axes."""
        turned = [axis for axis in axes if x.shape[axis] > 1]
        return self.op("reverse", [x, self.ints(turned)], x.dtype, x.shape) if turned else x

    def concat(self, parts: Sequence[Var], axis: int) -> Var:
        """The parts one after another along an axis."""
        if len(parts) == 1:
            return parts[0]
        shape = [sum(v.shape[axis] for v in parts) if i == axis else d for i, d in enumerate(parts[0].shape)]
        return self.op("concat", [self.axis(axis), *parts], parts[0].dtype, shape)

    def take(self, x: Var, indices: Var, axis: int) -> Var:
        """The elements at indices, counted from either end, along one axis: slices of the axis brought to the front."""
        first = [axis, *(i for i in range(len(x.shape)) if i != axis)]
        moved = self.transpose(x, first)
        at = self.reshape(indices, (*indices.shape, 1))
        y = self.op("gather_nd", [moved, at], x.dtype, (*indices.shape, *moved.shape[1:]))
        n = len(indices.shape)
        return self.transpose(y, [*range(n, n + axis), *range(n), *range(n + axis, len(y.shape))])

    def pad(self, x: Var, begins: Sequence[int], ends: Sequence[int], value: Number | Var = 0, mode: str = "") -> Var:
        """`x` with elements before and after each axis, filled with a number or as the mode says."""
        if not any(begins) and not any(ends):
            return x
        shape = [d + b + e for d, b, e in zip(x.shape, begins, ends, strict=True)]
        widths = self.sizes([w for pair in zip(begins, ends, strict=True) for w in pair])
        fill = value if isinstance(value, Var) else self.number(value, x.dtype)
        return self.op(
            "pad", [x, widths, fill], x.dtype, shape, f"padding_mode = #coreai.padding_mode<{mode or 'constant'}>"
        )

    def reduce(self, kind: str, x: Var, axes: Sequence[int]) -> Var:
        """A reduction that keeps its axes as 1."""
        if not axes:
            return x
        shape = [1 if i in axes else d for i, d in enumerate(x.shape)]
        return self.op(kind, [x, self.ints(list(axes))], x.dtype, shape)

    def matmul(self, x: Var, y: Var) -> Var:
        """The product of matrices in the last two axes; the axes before broadcast."""
        shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
        kind = "batch_matmul" if x.shape[:-2] == y.shape[:-2] else "decomposable.broadcasting_batch_matmul"
        return self.op(kind, [x, y], x.dtype, shape)

    def swapped(self, x: Var) -> Var:
        """Matrices transposed."""
        n = len(x.shape)
        return self.transpose(x, [*range(n - 2), n - 1, n - 2])

    def flat(self, x: Var) -> Var:
        """All elements in a row."""
        return self.reshape(x, (prod(x.shape),))


def _beyond(data: Array) -> Array:
    """Which numbers are finite but not in fp16."""
    return np.asarray((np.abs(data) > FP16_MAX) & np.isfinite(data))


def _within(data: Array) -> Array:
    """Finite numbers limited to what fp16 holds."""
    return np.asarray(np.where(_beyond(data), np.copysign(FP16_MAX, data), data))

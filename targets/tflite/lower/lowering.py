"""What lowering functions write to: one model, and the tensors that hold the values of the graph.

A value is held by tensors, one for each physical order of its axes that somebody asked for: axis i of the tensor is
axis order[i] of the value. Floats of every width are held in float32; integers in int32 but for int64 (which uint32
becomes too), narrow ones in range; booleans as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from math import prod
from typing import Any

import numpy as np

from compiler.graph import Node, Value
from compiler.ops.layout import Order, logical, order_of
from compiler.tensor import BOOL, I64, U32, U64, Array, DType
from targets.tflite import opset
from targets.tflite.halves import fits_half
from targets.tflite.lower.axes import merged_axes, merged_permutation, runs_of
from targets.tflite.lower.params import WeightParams, plain
from targets.tflite.model import NUMPY, Model, Options, Tensor

Number = bool | int | float
MOST_AXES = 6  # of reductions and concatenations by the default delegate
HALF_FROM = 1024  # elements from which a kernel is stored in 16 bits; smaller ones save little and cost accuracy


def restricted(order: Order, kept: Sequence[int]) -> Order:
    """The order of the axes `kept`, as they are numbered when the others are gone."""
    return tuple(list(kept).index(a) for a in order if a in kept)


class Lowering:
    """One model being emitted.

    precision  "fp32", or "fp16": weights stored in 16 bits
    """

    def __init__(self, model: Model, precision: str) -> None:
        self.model = model
        self.precision = precision
        self.warnings: list[str] = []
        self.reals: Container[Value] = ()  # values that stay floats, whatever is known of their range
        self._orders: dict[Value, Order] = {}
        self._tensors: dict[tuple[Value, Order], Tensor] = {}
        self._wide: dict[int, Tensor] = {}
        self._shared: dict[tuple[object, ...], Tensor] = {}
        self._narrow: dict[int, Tensor] = {}  # id of a tensor of int64 -> the one of int32 that it was cast from
        self._holds: dict[int, int] = {}  # id of a tensor -> how many values it holds
        self.weights = WeightParams()

    # -- values ----------------------------------------------------------------------------------------------

    def dtype(self, t: DType) -> str:
        """The element type in which values of one of ours are held."""
        if t.is_float:
            return "FLOAT32"
        return "BOOL" if t is BOOL else "INT64" if t in (I64, U32, U64) else "INT32"

    def bind(self, v: Value, tensor: Tensor, order: Order | None = None) -> None:
        """Let `tensor`, whose axes stand in `order`, hold a value; it is copied if it has other parameters."""
        order = logical(v.type.rank) if order is None else order
        shape = [v.type.shape[i] for i in order]
        fits = all(isinstance(d, str) or d == n for d, n in zip(shape, tensor.shape, strict=True))
        assert fits, f"{v!r} held as {tensor} in order {order}"
        if v.type.quant is not None and tensor.constant is None:
            if tensor.quant not in (None, v.type.quant):
                tensor = self.add("QUANTIZE", [tensor], tensor.dtype, tensor.shape)
            tensor.quant = v.type.quant
        self._orders[v] = order
        self._tensors[v, order] = tensor
        tensor.real = v in self.reals
        self._holds[id(tensor)] = self._holds.get(id(tensor), 0) + 1

    def fused(self, node: Node, activation: int) -> bool:
        """Let the layer before apply this one's activation, if it can and nobody else reads its result."""
        x = node.inputs[0]
        assert x is not None
        rounded = x.type.quant not in (None, node.output.type.quant)
        if x.data is not None or x.n_out or sum(x.users.values()) != 1 or rounded:
            return False
        order = self.order(x)
        tensor = self._tensors[x, order]
        if self._holds.get(id(tensor)) != 1 or not self.model.fuse(tensor, activation, self._holds):
            return False
        self.bind(node.output, tensor, order)
        return True

    def order(self, v: Value) -> Order:
        """The order in which a value is held; for a constant, the one that its type asks for."""
        return order_of(v.type) if v.data is not None else self._orders[v]

    def result_order(self, node: Node) -> Order:
        """The order in which the results of a layer that works in any are to lie."""
        return order_of(node.outputs[0].type)

    def get(self, v: Value, order: Order | None = None) -> Tensor:
        """The tensor that holds a value in an order, by default its logical one."""
        order = logical(v.type.rank) if order is None else order
        found = self._tensors.get((v, order))
        if found is None:
            if v.data is not None:
                found = self._constant(v, order)
            else:
                held = self._orders[v]
                found = self.transpose(self._tensors[v, held], [held.index(a) for a in order])
            self._tensors[v, order] = found
        return found

    def aligned(self, v: Value, order: Order) -> Tensor:
        """A value that is broadcast against one of more axes, which stand in `order`; it has ones where it lacks
        them."""
        missing = len(order) - v.type.rank
        if not missing:
            return self.get(v, order)
        own = tuple(a - missing for a in order if a >= missing)
        tensor = self.get(v, own)
        if order == logical(len(order)) or not v.type.rank or v.type.size == 1:
            return tensor
        return self.reshape(tensor, [1 if a < missing else v.type.dims[a - missing] for a in order])

    def operands(self, node: Node) -> list[Tensor]:
        """The operands that are present, in logical order."""
        return [self.get(v) for v in node.inputs if v is not None]

    def operand(self, node: Node, index: int) -> Tensor | None:
        """One operand in logical order, None if it is absent."""
        v = node.inputs[index] if index < len(node.inputs) else None
        return None if v is None else self.get(v)

    def finish(self, node: Node, tensor: Tensor, order: Order | None = None) -> None:
        """Let `tensor` hold the only result of a layer, its integers wrapped to the width of the result."""
        wrapped = self.wrapped(tensor, node.output.type.dtype)
        if node.output.name and wrapped.constant is None:
            wrapped.name = node.output.name
        self.bind(node.output, wrapped, order)

    def wrapped(self, x: Tensor, dtype: DType) -> Tensor:
        """Integers modulo the range of a type that is narrower than the one that holds them."""
        if not dtype.is_integer or (dtype.bits >= 32 and dtype is not U32):
            return x
        span = 1 << dtype.bits
        if dtype.kind == "u":
            return self.binary("FLOOR_MOD", x, self.scalar(span, x.dtype))
        half = self.scalar(span // 2, x.dtype)
        shifted = self.binary("FLOOR_MOD", self.binary("ADD", x, half), self.scalar(span, x.dtype))
        return self.binary("SUB", shifted, half)

    # -- constants -------------------------------------------------------------------------------------------

    def _constant(self, v: Value, order: Order) -> Tensor:
        assert v.data is not None
        if not v.data.size:
            return self.filled(self.scalar(0, self.dtype(v.type.dtype)), [v.type.dims[i] for i in order])
        return self.weight(v.data, self.dtype(v.type.dtype), v.name or "const", order)

    def weight(
        self,
        data: Array,
        dtype: str,
        name: str = "const",
        perm: Order | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Tensor:
        """A constant. Large ones of floats are stored in 16 bits if the precision says so and those hold them."""
        large = dtype == "FLOAT32" and data.ndim > 1 and data.size >= HALF_FROM
        if large and self.precision == "fp16" and fits_half(data):
            stored = self.model.constant(plain(data), name, perm, "FLOAT16", shape)
            found = self._wide.get(id(stored))
            if found is None:
                found = self._wide[id(stored)] = self.add("DEQUANTIZE", [stored], "FLOAT32", stored.shape)
            return found
        held = self.model.constant(plain(data), name, perm, dtype, shape)
        held.quant = held.quant or self.weights.of(data, perm, held.shape)
        return held

    def filled(self, value: Tensor, shape: Sequence[int]) -> Tensor:
        """A tensor of one value, given without axes; the runtime takes no constant without elements."""
        if value.constant is not None and 0 not in shape:
            return self.const(np.full(shape, value.constant.array), value.dtype)
        return self.add("FILL", [self.ints(shape), value], value.dtype, shape)

    def shared(self, key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        """What several operators read, made once."""
        found = self._shared.get(key)
        if found is None:
            found = self._shared[key] = make()
        return found

    def const(self, data: Any, dtype: str) -> Tensor:
        """A constant that the lowering computed."""
        return self.weight(np.ascontiguousarray(data, NUMPY[dtype]).reshape(np.shape(data)), dtype)

    def ints(self, values: Any) -> Tensor:
        """A constant of int32, for axes, shapes and indices."""
        return self.const(np.asarray(values, np.int32), "INT32")

    def scalar(self, value: Number, dtype: str = "FLOAT32") -> Tensor:
        """A constant without axes."""
        return self.const(np.array(value), dtype)

    # -- operators -------------------------------------------------------------------------------------------

    def add(
        self, code: str, inputs: Sequence[Tensor | None], dtype: str, shape: Sequence[int], **options: Any
    ) -> Tensor:
        """An operator with one result."""
        return self.model.add(code, inputs, [(dtype, tuple(shape))], options)[0]

    def unary(self, code: str, x: Tensor, **options: Any) -> Tensor:
        """An operator whose result has the type of its operand."""
        return self.add(code, [x], x.dtype, x.shape, **options)

    def binary(self, code: str, x: Tensor, y: Tensor) -> Tensor:
        """A broadcasting operator; its operands are brought to the ranks that it broadcasts."""
        dtype = "BOOL" if code in opset.COMPARISONS else x.dtype
        return self.broadcasting(code, [x, y], dtype)

    def broadcasting(self, code: str, operands: Sequence[Tensor], dtype: str) -> Tensor:
        """An operator on operands that broadcast together. Above the ranks that it takes, neighbouring axes that
        broadcast alike are merged; what is still too wide is spread first."""
        shape = np.broadcast_shapes(*(t.shape for t in operands))
        limit = opset.BROADCAST_RANK.get(code, opset.BROADCAST_RANK_ELSE)
        alike = all(t.shape == shape for t in operands)
        if alike or (len(shape) <= limit and not (code == "SELECT_V2" and () in [t.shape for t in operands])):
            return self.add(code, operands, dtype, shape)
        groups = merged_axes([t.shape for t in operands], shape)
        if len(groups) > limit:
            spread = [self.spread(t, shape) for t in operands]
            return self.add(code, spread, dtype, shape)
        lead = [(1,) * (len(shape) - len(t.shape)) + t.shape for t in operands]
        merged = [
            self.reshape(t, [prod(wide[a] for a in g) for g in groups]) for t, wide in zip(operands, lead, strict=True)
        ]
        y = self.add(code, merged, dtype, [prod(shape[a] for a in g) for g in groups])
        return self.reshape(y, shape)

    def spread(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """`x` broadcast to a shape."""
        if x.shape == tuple(shape):
            return x
        return self.add("BROADCAST_TO", [x, self.ints(shape)], x.dtype, shape)

    def times(self, x: Tensor, factor: float) -> Tensor:
        """`x` times a number."""
        return x if factor == 1 else self.binary("MUL", x, self.scalar(factor, x.dtype))

    def plus(self, x: Tensor, number: Number) -> Tensor:
        """`x` plus a number."""
        return x if number == 0 else self.binary("ADD", x, self.scalar(number, x.dtype))

    def select(self, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """x where the condition holds, else y."""
        return self.broadcasting("SELECT_V2", [condition, x, y], x.dtype)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """`x` in another element type."""
        if x.dtype == "INT64" and dtype == "INT32":
            x = self._narrow.get(id(x), x)
        if x.dtype == dtype:
            return x
        y = self.add("CAST", [x], dtype, x.shape)
        if x.dtype == "INT32" and dtype == "INT64":
            self._narrow[id(y)] = x
        return y

    def numeric(self, x: Tensor) -> Tensor:
        """`x`, booleans as int32, for operators that move no booleans."""
        return self.cast(x, "INT32") if x.dtype == "BOOL" else x

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """`x` under another shape."""
        shape = tuple(int(d) for d in shape)
        if shape == x.shape:
            return x
        if x.constant is not None:
            return self.model.constant(x.constant.stored().reshape(shape), x.name, None, x.dtype)
        root = self.model.reshaped_from(x)
        root.quant = root.quant or x.quant
        if shape == root.shape:
            return root
        return self.add("RESHAPE", [root, self.ints(shape)], root.dtype, shape, NewShape=shape)

    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        """`x` with axis i coming from perm[i]: nothing or a reshape where no element moves."""
        shape = tuple(x.shape[i] for i in perm)
        moving = [i for i in perm if x.shape[i] != 1]
        if moving == sorted(moving):
            return self.reshape(x, shape)
        if x.constant is not None:
            return self.model.constant(x.constant.stored().transpose(perm), x.name, None, x.dtype)
        groups, order = merged_permutation(x.shape, perm)
        if len(groups) < len(perm) and len(perm) > 4:
            merged = self.reshape(x, groups)
            y = self.add("TRANSPOSE", [merged, self.ints(order)], x.dtype, [groups[i] for i in order])
            return self.reshape(y, shape)
        return self.add("TRANSPOSE", [x, self.ints(perm)], x.dtype, shape)

    def cut(self, x: Tensor, begins: Sequence[int], ends: Sequence[int], steps: Sequence[int] | None = None) -> Tensor:
        """The elements begin, begin + step, ... before end along every axis; an end of -1 with a negative step takes
        all."""
        steps = [1] * len(x.shape) if steps is None else steps
        shape = [len(range(b, e, s)) for b, e, s in zip(begins, ends, steps, strict=True)]
        if tuple(shape) == x.shape and set(steps) <= {1}:
            return x
        mask = sum(1 << i for i, (e, s) in enumerate(zip(ends, steps, strict=True)) if e < 0 and s < 0)
        bounds = [self.ints(begins), self.ints([max(e, 0) for e in ends]), self.ints(steps)]
        options: Options = {"BeginMask": 0, "EndMask": mask, "EllipsisMask": 0, "NewAxisMask": 0, "ShrinkAxisMask": 0}
        return self.add("STRIDED_SLICE", [x, *bounds], x.dtype, shape, **options)

    def part(self, x: Tensor, axis: int, begin: int, end: int, step: int = 1) -> Tensor:
        """Elements along one axis, all of the others."""
        axis %= len(x.shape)
        begins, ends, steps = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
        begins[axis], ends[axis], steps[axis] = begin, end, step
        return self.cut(x, begins, ends, steps)

    def split(self, x: Tensor, sizes: Sequence[int], axis: int) -> tuple[Tensor, ...]:
        """`x` cut into pieces along an axis."""
        if len(sizes) == 1:
            return (x,)
        if x.constant is not None:
            places = np.cumsum(sizes[:-1])
            return tuple(self.const(part, x.dtype) for part in np.split(x.constant.stored(), places, axis))
        if x.dtype == "BOOL":  # which no kernel splits
            return tuple(self.part(x, axis, sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(len(sizes)))
        shapes = [tuple(n if i == axis else d for i, d in enumerate(x.shape)) for n in sizes]
        results = [(x.dtype, shape) for shape in shapes]
        if len(set(sizes)) == 1:
            return self.model.add("SPLIT", [self.ints(axis), x], results, {"NumSplits": len(sizes)})
        return self.model.add("SPLIT_V", [x, self.ints(sizes), self.ints(axis)], results, {"NumSplits": len(sizes)})

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """The parts one after another along an axis."""
        if len(parts) == 1:
            return parts[0]
        axis %= len(parts[0].shape)
        arrays = [t.constant.stored() for t in parts if t.constant is not None]
        if len(arrays) == len(parts):
            return self.const(np.concatenate(arrays, axis), parts[0].dtype)
        first = parts[0].shape
        shape = [sum(t.shape[axis] for t in parts) if i == axis else d for i, d in enumerate(first)]
        if len(first) > MOST_AXES:
            before, after = prod(first[:axis]), prod(first[axis + 1 :])
            blocks = [self.reshape(t, (before, t.shape[axis], after)) for t in parts]
            return self.reshape(self.concat(blocks, 1), shape)
        return self.add("CONCATENATION", parts, parts[0].dtype, shape, Axis=axis)

    def take(self, x: Tensor, indices: Tensor, axis: int) -> Tensor:
        """The elements at indices counted from the front along an axis."""
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return self.add("GATHER", [x, indices], x.dtype, shape, Axis=axis, BatchDims=0)

    def reduce(self, code: str, x: Tensor, axes: Sequence[int], keep: bool = True) -> Tensor:
        """A reduction along physical axes."""
        axes = sorted(a % len(x.shape) for a in axes)
        if not axes:
            return x
        if len(x.shape) > MOST_AXES:
            return self._reduce_runs(code, x, axes, keep)
        kept = [1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes]
        return self.add(code, [x, self.ints(axes)], x.dtype, kept, KeepDims=keep)

    def _reduce_runs(self, code: str, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
        """A reduction of many axes, one run of neighbours after another."""
        shape, y = list(x.shape), x
        for run in runs_of(axes):
            before, after = prod(shape[: run[0]]), prod(shape[run[-1] + 1 :])
            y = self.reshape(y, (before, prod(shape[a] for a in run), after))
            y = self.add(code, [y, self.ints([1])], y.dtype, (before, 1, after), KeepDims=True)
            shape[run[0] : run[-1] + 1] = [1] * len(run)
        return self.reshape(y, [d for i, d in enumerate(shape) if keep or i not in axes])

    def pad(self, x: Tensor, begins: Sequence[int], ends: Sequence[int], value: Tensor | Number = 0) -> Tensor:
        """`x` with elements of one value around it."""
        if not any(begins) and not any(ends):
            return x
        shape = [b + d + e for b, d, e in zip(begins, x.shape, ends, strict=True)]
        widths = self.ints(list(zip(begins, ends, strict=True)))
        fill = value if isinstance(value, Tensor) else self.scalar(value, x.dtype)
        if fill.constant is not None and not fill.constant.array.any():
            return self.add("PAD", [x, widths], x.dtype, shape)
        return self.add("PADV2", [x, widths, fill], x.dtype, shape)

    def matmul(self, x: Tensor, y: Tensor, adjoint: bool = False) -> Tensor:
        """The product of the matrices in the last two axes; `adjoint`: those of y are transposed."""
        columns = y.shape[-2] if adjoint else y.shape[-1]
        shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], columns)
        return self.add("BATCH_MATMUL", [x, y], x.dtype, shape, AdjX=False, AdjY=adjoint)

    def fully_connected(self, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        """x [...,K] times the transpose of w [N,K], plus b [N]."""
        shape = (*x.shape[:-1], w.shape[0])
        return self.add("FULLY_CONNECTED", [x, w, b] if b else [x, w], x.dtype, shape, KeepNumDims=True)

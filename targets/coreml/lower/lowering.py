"""What lowering functions write to: one program, and the MIL variables that hold the values of the graph.

Floats of every width are held in the program's precision, integers in int32 (int8 and uint8 only between a quantize
and a dequantize), booleans as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compiler.graph import Node, Value
from compiler.tensor import BOOL, Array, DType
from targets.apple.sparse import Saving, Sparse
from targets.apple.weights import annotation_of, transposed
from targets.coreml.compressed import Form, form
from targets.coreml.dtypes import TYPES, cast
from targets.coreml.mil import Operand, Program, Var
from targets.coreml.sparse import expand, masked, stored_bytes

FP16_MAX = 65504.0
SATURATED_SIZE = 1 << 22  # elements; larger constants are weights, and reported when they are written
BYTES = ("int8", "uint8")
Number = bool | int | float
Operands = dict[str, Operand | None]
DENSE = Sparse()


class Lowering:
    """One program being emitted: graph values and the MIL variables that hold them.

    precision        "fp16" or "fp32": the element type of every float tensor inside
    ios              the deployment target's iOS version
    fuses_attention  whether attention becomes the one operation that the GPU has kernels for
    sparse           which weights are stored as a mask and the numbers that are left
    """

    def __init__(
        self, program: Program, precision: str, ios: int, fuses_attention: bool = False, sparse: Sparse = DENSE
    ) -> None:
        self.program = program
        self.precision = precision
        self.ios = ios
        self.fuses_attention = fuses_attention
        self.sparse = sparse
        self.warnings: list[str] = []
        self.savings: list[Saving] = []
        self.shared: dict[tuple[object, ...], Var] = {}  # what lowerings derive from a value for several layers
        self._vars: dict[Value, Var] = {}
        self._wide: dict[Value, Var] = {}

    def dtype(self, t: DType) -> str:
        """The MIL element type in which values of one of ours are held."""
        return self.precision if t.is_float else "bool" if t is BOOL else "int32"

    def raw(self, v: Value) -> Var:
        """The variable of a value as it is held, also as int8 or uint8."""
        found = self._vars.get(v)
        if found is None:
            found = self._vars[v] = self.weight(v)
        return found

    def weight(self, v: Value, swapped: bool = False) -> Var:
        """A constant, stored in as few bits as its annotation says, with a mask if it has many zeros and that takes
        fewer bytes; `swapped`: the transpose of a matrix."""
        assert v.data is not None, f"{v!r} is not lowered yet"
        annotation, is_sparse = annotation_of(v.type), self.sparse.takes(v)
        key = ("weight", id(v.data) if annotation is None else v, swapped)
        if key not in self.shared and (annotation is not None or is_sparse):
            dense, shape = self._form(v, swapped)
            chosen = self._smaller(dense) if is_sparse else dense
            if chosen.operation != "const":
                self.shared[key] = expand(self.program, chosen, self.precision, shape, v.name or "const")
        return self.shared.get(key) or self._whole(v, swapped)

    def _whole(self, v: Value, swapped: bool) -> Var:
        """A constant with all of its numbers."""
        name = v.name or "const"
        assert v.data is not None
        if swapped:
            return self.program.const(v.data.T, self.dtype(v.type.dtype), name=name, key=(id(v.data), swapped))
        return self.constant(v.data, name, v.type.dtype)

    def _form(self, v: Value, swapped: bool) -> tuple[Form, tuple[int, ...]]:
        """How a weight is stored without a mask, and its shape."""
        if annotation_of(v.type) is None:
            assert v.data is not None
            data = self._saturated(v.data, v.name) if self.precision == "fp16" else v.data
            stored = cast(data.T if swapped else data, TYPES[self.precision].numpy)[0]
            return Form("const", {"val": (stored, self.precision)}), stored.shape
        data, annotation = transposed(v) if swapped else (np.asarray(v.data), annotation_of(v.type))
        assert annotation is not None
        return form(np.asarray(data, np.float32), annotation, self.precision, self.ios), data.shape

    def _smaller(self, dense: Form) -> Form:
        """The same with a mask, if that takes fewer bytes."""
        sparse = masked(dense, self.ios)
        saving = Saving(stored_bytes(dense), stored_bytes(sparse))
        if saving.sparse >= saving.dense:
            return dense
        self.savings.append(saving)
        return sparse

    def __getitem__(self, v: Value) -> Var:
        var = self.raw(v)
        if var.dtype in BYTES:
            found = self._wide.get(v)
            if found is None:
                found = self._wide[v] = self.cast(var, "int32")
            return found
        return var

    def tensors(self) -> dict[str, Value]:
        """Names of the program's tensors -> the graph values that they hold; final once the program is saved."""
        return {var.name: v for v, var in self._vars.items() if v.data is None}

    def operands(self, node: Node) -> list[Var]:
        """Variables of the operands that are present."""
        return [self[v] for v in node.inputs if v is not None]

    def operand(self, node: Node, index: int) -> Var | None:
        """The variable of one operand, None if it is absent."""
        v = node.inputs[index] if index < len(node.inputs) else None
        return None if v is None else self[v]

    def constant(self, data: Array, name: str, dtype: DType) -> Var:
        """A weight: floats in the program's precision, integers in 32 bits. Finite numbers beyond fp16 become its
        largest, so that masks of -1e9 do not turn into infinities."""
        kind = self.dtype(dtype)
        key = id(data)
        if data.dtype.kind == "V":
            data = data.astype(np.float32 if dtype.is_float else np.int32)
        if kind == "int32":
            data = _clamped(data)
        elif kind == "fp16" and data.dtype.itemsize > 2 and data.size <= SATURATED_SIZE:
            data = self._saturated(data, name)
        return self.program.const(data, kind, name=name, key=key)

    def floats(self, data: Array, name: str = "const", dtype: str = "") -> Var:
        """A constant of floats that the lowering computed, in the program's precision unless a type is given."""
        kind = dtype or self.precision
        if kind == "fp16":
            data = np.where(_beyond(data), np.copysign(FP16_MAX, data), data)
        return self.program.const(np.asarray(data, np.float32, "C"), kind, name=name)

    def ints(self, data: Array, name: str = "indices") -> Var:
        """A constant of int32 that the lowering computed."""
        return self.program.const(np.asarray(data, np.int32, "C"), "int32", name=name)

    def _saturated(self, data: Array, name: str) -> Array:
        if not data.size or max(-data.min(), data.max()) <= FP16_MAX:  # False where there are NaN
            return data
        beyond = _beyond(data)
        if not beyond.any():
            return data
        self.warnings.append(f"constant {name!r} holds finite numbers beyond fp16; they became +-{FP16_MAX:.0f}")
        return np.where(beyond, np.copysign(FP16_MAX, data), data)

    def bind(self, v: Value, var: Var) -> None:
        """Let `var` stand for a graph value. A value of too high a rank is held under any shape of as many elements;
        only operations registered with `any_rank` read it."""
        self._vars[v] = var

    def finish(self, node: Node, var: Var) -> None:
        """Let `var` stand for the only result of a layer, its integers wrapped to the width of the result."""
        self._vars[node.output] = self.wrapped(var, node.output.type.dtype)

    def wrapped(self, x: Var, dtype: DType) -> Var:
        """int32 numbers modulo the range of a narrower integer type."""
        if not dtype.is_integer or dtype.bits >= 32:
            return x
        if dtype.kind == "u":
            return self.like(x, "mod", y=1 << dtype.bits)
        half = 1 << dtype.bits - 1
        return self.like(self.like(self.like(x, "add", y=half), "mod", y=2 * half), "sub", y=half)

    def add(
        self, kind: str, operands: Mapping[str, Operand | None], dtype: str, shape: Sequence[int], name: str = ""
    ) -> Var:
        """An operation with one result that is not a graph value."""
        return self.program.op(kind, operands, [(dtype, tuple(shape))], name or kind)[0]

    def emit(self, node: Node, kind: str, **operands: Operand | None) -> Var:
        """The operation that computes the only result of a layer."""
        v = node.output
        var = self.add(kind, operands, self.dtype(v.type.dtype), v.type.dims, v.name or kind)
        self._vars[v] = var
        return var

    def emit_all(self, node: Node, kind: str, **operands: Operand | None) -> None:
        """The operation that computes all results of a layer."""
        types = [(self.dtype(v.type.dtype), v.type.dims) for v in node.outputs]
        for v, var in zip(
            node.outputs, self.program.op(kind, operands, types, node.outputs[0].name or kind), strict=True
        ):
            self._vars[v] = var

    def like(self, x: Var, kind: str, **operands: Operand | None) -> Var:
        """An operation on `x` whose result has its type."""
        return self.add(kind, {"x": x, **operands}, x.dtype, x.shape)

    def reshape(self, x: Var, shape: Sequence[int]) -> Var:
        """`x` under another shape."""
        if tuple(shape) == x.shape:
            return x
        if not shape:
            return self.add("squeeze", {"x": x, "axes": list(range(len(x.shape)))}, x.dtype, ())
        return self.add("reshape", {"x": x, "shape": list(shape)}, x.dtype, shape)

    def transpose(self, x: Var, perm: Sequence[int]) -> Var:
        """`x` with permuted axes."""
        if list(perm) == list(range(len(x.shape))):
            return x
        return self.add("transpose", {"x": x, "perm": list(perm)}, x.dtype, [x.shape[i] for i in perm])

    def cast(self, x: Var, dtype: str) -> Var:
        """`x` as another MIL element type."""
        return x if x.dtype == dtype else self.add("cast", {"x": x, "dtype": dtype}, dtype, x.shape)

    def binary(self, kind: str, x: Var, y: Operand) -> Var:
        """A broadcasting operation of two operands with a result of x's element type."""
        shape = np.broadcast_shapes(x.shape, y.shape) if isinstance(y, Var) else x.shape
        return self.add(kind, {"x": x, "y": y}, x.dtype, shape)

    def test(self, kind: str, x: Var, y: Operand) -> Var:
        """A comparison."""
        shape = np.broadcast_shapes(x.shape, y.shape) if isinstance(y, Var) else x.shape
        return self.add(kind, {"x": x, "y": y}, "bool", shape)

    def select(self, condition: Var, a: Var | Number, b: Var | Number, dtype: str = "", name: str = "") -> Var:
        """`a` where the condition holds, else `b`; numbers are of type `dtype`. MIL derives the shape of the result
        from `a` and `b` alone, so one of them is spread to the shape that all three broadcast to."""
        kind = dtype or next(v.dtype for v in (a, b) if isinstance(v, Var))
        shape = np.broadcast_shapes(condition.shape, *(v.shape for v in (a, b) if isinstance(v, Var)))
        first, second = (v if isinstance(v, Var) else self.program.const(np.array(v), kind) for v in (a, b))
        if np.broadcast_shapes(first.shape, second.shape) != shape:
            second = self.spread(second, shape)
        return self.add("select", {"cond": condition, "a": first, "b": second}, kind, shape, name or "select")

    def spread(self, x: Var, shape: Sequence[int]) -> Var:
        """`x` broadcast to a shape: constants of one element are filled in, others repeated."""
        if tuple(shape) == x.shape:
            return x
        if isinstance(x.value, np.ndarray) and x.value.size == 1:
            value = self.program.const(x.value.reshape(()), x.dtype)
            return self.add("fill", {"shape": list(shape), "value": value}, x.dtype, shape)
        aligned = self.reshape(x, (*[1] * (len(shape) - len(x.shape)), *x.shape))
        reps = [d // a for d, a in zip(shape, aligned.shape, strict=True)]
        return aligned if set(reps) <= {1} else self.add("tile", {"x": aligned, "reps": reps}, x.dtype, shape)

    def cut(self, x: Var, axis: int, begin: int, end: int, step: int = 1) -> Var:
        """The elements begin, begin + step, ... before end along one axis."""
        begins, ends, steps = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
        begins[axis], ends[axis], steps[axis] = begin, end, step
        return self.slice(x, begins, ends, steps)

    def slice(self, x: Var, begins: Sequence[int], ends: Sequence[int], steps: Sequence[int]) -> Var:
        """The elements begin, begin + step, ... before end along every axis, counted from the front; constants are
        cut now."""
        shape = tuple(len(range(b, e, s)) for b, e, s in zip(begins, ends, steps, strict=True))
        if shape == x.shape:
            return x
        if isinstance(x.value, np.ndarray):
            part = x.value[tuple(slice(b, e, s) for b, e, s in zip(begins, ends, steps, strict=True))]
            return self.program.const(np.ascontiguousarray(part), x.dtype, name=x.name)
        strides = list(steps) if set(steps) != {1} else None
        operands: Operands = {"x": x, "begin": list(begins), "end": list(ends), "stride": strides}
        return self.add("slice_by_index", operands, x.dtype, shape)

    def concat(self, parts: Sequence[Var], axis: int, name: str = "") -> Var:
        """The parts one after another along an axis."""
        if len(parts) == 1:
            return parts[0]
        shape = [sum(v.shape[axis] for v in parts) if i == axis else d for i, d in enumerate(parts[0].shape)]
        return self.add("concat", {"values": parts, "axis": axis}, parts[0].dtype, shape, name)

    def take(self, x: Var, indices: Array, axis: int) -> Var:
        """The elements at constant indices along one axis."""
        source = self.cast(x, "int32") if x.dtype == "bool" else x
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        operands: Operands = {"x": source, "indices": self.ints(indices), "axis": axis}
        return self.cast(self.add("gather", operands, source.dtype, shape), x.dtype)

    def reduce(self, x: Var, kind: str, axes: Sequence[int]) -> Var:
        """A reduction that keeps its axes as 1."""
        shape = [1 if i in axes else d for i, d in enumerate(x.shape)]
        return self.add(kind, {"x": x, "axes": list(axes), "keep_dims": True}, x.dtype, shape)

    def matmul(self, x: Var, y: Var, transpose_y: bool = False, name: str = "", *, transpose_x: bool = False) -> Var:
        """The product of matrices in the last two axes."""
        rows = x.shape[-1] if transpose_x else x.shape[-2]
        columns = y.shape[-2] if transpose_y else y.shape[-1]
        shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), rows, columns)
        operands: Operands = {"x": x, "y": y, "transpose_x": transpose_x, "transpose_y": transpose_y}
        return self.add("matmul", operands, x.dtype, shape, name)


def _beyond(data: Array) -> Array:
    """Which numbers are finite but not in fp16."""
    return np.asarray((np.abs(data) > FP16_MAX) & np.isfinite(data))


def _clamped(data: Array) -> Array:
    """INT64_MAX and its like, which stand for "to the end" and "nothing", become their 32-bit twins."""
    if data.dtype.itemsize < 8 or data.dtype.kind not in "iu" or not data.size:
        return data
    low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    extreme = np.isin(data, (np.iinfo(np.int64).max, np.iinfo(np.int64).min))
    return np.where(extreme, np.clip(data, low, high), data) if extreme.any() else data

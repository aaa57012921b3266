"""The lowering table of Core ML, and what its lowering functions write to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from compiler.graph import Node, Value
from compiler.op import Op
from compiler.target import LoweringTable, Need
from compiler.tensor import BF16, BOOL, F16, F32, F64, I32, I64, Array, DType
from targets.coreml.mil import Operand, Program, Var

FLOATS = (F16, F32, F64, BF16)
INTS = (I32, I64)
FP16_MAX = 65504.0
SATURATED_SIZE = 1 << 22  # elements; larger constants are weights, and reported when they are written
MAX_RANK = 5  # Core ML tensors, source: coremltools 9.0 type checks and "Core ML Tools: ML Programs" (rank 5 limit)


class Lowering:
    """One program being emitted: graph values and the MIL variables that hold them.

    precision  "fp16" or "fp32": the element type of every float tensor inside
    ios        the deployment target's iOS version
    """

    def __init__(self, program: Program, precision: str, ios: int) -> None:
        self.program = program
        self.precision = precision
        self.ios = ios
        self.warnings: list[str] = []
        self._vars: dict[Value, Var] = {}

    def dtype(self, t: DType) -> str:
        """The MIL element type that stands for one of ours: all floats share the precision, other integers widen to
        int32 unless they are the quantized types that MIL keeps apart."""
        if t.is_float:
            return self.precision
        if t is BOOL:
            return "bool"
        return {"i8": "int8", "u8": "uint8"}.get(t.name, "int32") if self.ios >= 17 else "int32"

    def __getitem__(self, v: Value) -> Var:
        found = self._vars.get(v)
        if found is None:
            assert v.data is not None, f"{v!r} is not lowered yet"
            found = self._vars[v] = self.constant(v.data, v.name or "const", v.type.dtype)
        return found

    def tensors(self) -> dict[str, Value]:
        """Names of the program's tensors -> the graph values that they hold; final once the program is saved."""
        return {var.name: v for v, var in self._vars.items() if v.data is None}

    def operands(self, node: Node) -> list[Var]:
        """Variables of the operands that are present."""
        return [self[v] for v in node.inputs if v is not None]

    def constant(self, data: Array, name: str, dtype: DType) -> Var:
        """A weight: floats in the program's precision, 64-bit integers narrowed (EmitError if they do not fit). Finite
        numbers beyond fp16 become its largest, so that masks of -1e9 do not turn into infinities."""
        kind = self.dtype(dtype)
        key = id(data)
        if data.dtype.kind == "V":
            data = data.astype(np.float32)
        if kind == "int32":
            data = _clamped(data)
        elif kind == "fp16" and data.dtype.itemsize > 2 and data.size <= SATURATED_SIZE:
            data = self._saturated(data, name)
        return self.program.const(data, kind, name=name, key=key)

    def _saturated(self, data: Array, name: str) -> Array:
        beyond = (np.abs(data) > FP16_MAX) & np.isfinite(data)
        if not beyond.any():
            return data
        self.warnings.append(f"constant {name!r} holds finite numbers beyond fp16; they became +-{FP16_MAX:.0f}")
        return np.where(beyond, np.copysign(FP16_MAX, data), data)

    def bind(self, v: Value, var: Var) -> None:
        """Let `var` stand for a graph value. A value of too high a rank is held under any shape of as many elements;
        only operations registered with `any_rank` read it."""
        self._vars[v] = var

    def add(
        self, kind: str, operands: dict[str, Operand | None], dtype: str, shape: Sequence[int], name: str = ""
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
        return x if tuple(shape) == x.shape else self.add("reshape", {"x": x, "shape": list(shape)}, x.dtype, shape)

    def transpose(self, x: Var, perm: Sequence[int]) -> Var:
        """`x` with permuted axes."""
        return self.add("transpose", {"x": x, "perm": list(perm)}, x.dtype, [x.shape[i] for i in perm])

    def cast(self, x: Var, dtype: str) -> Var:
        """`x` as another MIL element type."""
        return x if x.dtype == dtype else self.add("cast", {"x": x, "dtype": dtype}, dtype, x.shape)

    def binary(self, kind: str, x: Var, y: Operand) -> Var:
        """A broadcasting operation of two operands with a result of x's element type."""
        shape = np.broadcast_shapes(x.shape, y.shape) if isinstance(y, Var) else x.shape
        return self.add(kind, {"x": x, "y": y}, x.dtype, shape)


def _clamped(data: Array) -> Array:
    """INT64_MAX and its like, which stand for "to the end" and "nothing", become their 32-bit twins."""
    if data.dtype.itemsize < 8 or data.dtype.kind not in "iu" or not data.size:
        return data
    low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    extreme = np.isin(data, (np.iinfo(np.int64).max, np.iinfo(np.int64).min))
    return np.where(extreme, np.clip(data, low, high), data) if extreme.any() else data


TABLE: LoweringTable[Lowering] = LoweringTable()


def _small_rank(node: Node) -> bool:
    return all(v is None or v.type.rank <= MAX_RANK for v in (*node.inputs, *node.outputs))


def _filled(node: Node) -> bool:
    return all(v is None or 0 not in v.type.shape for v in (*node.inputs, *node.outputs))


RANK = Need(text=f"rank of at most {MAX_RANK}", holds=_small_rank, source="coremltools 9.0", confidence="documented")
FILLED = Need(
    text="tensors with at least one element", holds=_filled, source="coremltools 9.0", confidence="documented"
)


def op_need(text: str, holds: Any) -> Need:
    """A condition on a layer's operation alone."""
    return Need(text=text, holds=lambda node: holds(node.op))


def constant_operands(*indices: int) -> Need:
    """These operands, where present, are constants."""

    def holds(node: Node) -> bool:
        given = (node.inputs[i] for i in indices if i < len(node.inputs))
        return all(v is None or v.data is not None for v in given)

    return Need(text=f"constant operands {', '.join(map(str, indices))}", holds=holds)


def operand_types(*allowed: DType, results: bool = True) -> Need:
    """Operands (and results) have one of these element types."""
    names = ", ".join(d.name for d in allowed)

    def holds(node: Node) -> bool:
        values = (*node.inputs, *node.outputs) if results else node.inputs
        return all(v is None or v.type.dtype in allowed for v in values)

    return Need(text=f"element types among {names}", holds=holds)


FLOAT = operand_types(*FLOATS)
NUMBER = operand_types(*FLOATS, *INTS)
ANY_NUMBER = operand_types(*FLOATS, *INTS, BOOL)


F = TypeVar("F", bound=Callable[..., None])


def lowers(*ops: type[Op], needs: Sequence[Need] = (), any_rank: bool = False) -> Callable[[F], F]:
    """Register one lowering for several operations; Core ML's size limit always applies, its rank limit unless the
    lowering brings higher ranks down itself (`any_rank`)."""

    def register(function: F) -> F:
        for op in ops:
            TABLE.lowers(op, *(() if any_rank else (RANK,)), FILLED, *needs)(function)
        return function

    return register

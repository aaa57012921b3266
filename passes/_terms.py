"""Decompositions written as formulas: values with arithmetic, which adds layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compiler import ops
from compiler.graph import Value
from compiler.op import Op
from compiler.tensor import F32, Array, DType, TensorType
from passes._decompose import Layers, Parts


class Term:
    """A value of a decomposition; `x * 0.5 + y` adds layers, and numbers and arrays become constants of x's type."""

    __array_ufunc__ = None  # numpy leaves the arithmetic of array and term to the term

    def __init__(self, add: Layers, value: Value) -> None:
        self.add = add
        self.value = value

    @property
    def type(self) -> TensorType:
        return self.value.type

    @property
    def dtype(self) -> DType:
        return self.value.type.dtype

    @property
    def dims(self) -> tuple[int, ...]:
        return self.value.type.dims

    def via(self, op: Op, *others: Operand | None) -> Term:
        """The only result of a layer that reads this value first."""
        return Term(self.add, self.add(op, self.value, *(None if v is None else self._value(v) for v in others)))

    def const(self, data: Array | float, dtype: DType | None = None) -> Term:
        """A constant, of this value's element type unless another is given."""
        return Term(self.add, self.add.const(data, dtype or self.dtype))

    def _value(self, v: Operand) -> Value:
        return v.value if isinstance(v, Term) else self.const(v).value

    def __add__(self, other: Operand) -> Term:
        return self.via(ops.Add(), other)

    def __sub__(self, other: Operand) -> Term:
        return self.via(ops.Sub(), other)

    def __rsub__(self, other: Array | float) -> Term:
        return self.const(other) - self

    def __mul__(self, other: Operand) -> Term:
        return self.via(ops.Mul(), other)

    def __truediv__(self, other: Operand) -> Term:
        return self.via(ops.Div(), other)

    def equals(self, other: Operand) -> Term:
        return self.via(ops.Equal(), other)

    def above(self, other: Operand) -> Term:
        return self.via(ops.Greater(), other)

    def below(self, other: Operand) -> Term:
        return self.via(ops.Less(), other)

    def choose(self, x: Term, y: Term | float) -> Term:
        """x where this condition holds, else y."""
        return self.via(ops.Where(), x, y if isinstance(y, Term) else x.const(y))

    def floor(self) -> Term:
        return self.via(ops.Floor())

    def round(self) -> Term:
        return self.via(ops.Round())

    def clip(self, low: float, high: float) -> Term:
        return self.via(ops.Clip(low=float(low), high=float(high)))

    def cast(self, to: DType) -> Term:
        return Term(self.add, self.add.cast(self.value, to))

    def widened(self) -> Term:
        """Floats of fewer than 32 bits in 32, as the reference meanings compute."""
        return self.cast(F32) if self.dtype.bits < 32 else self

    def reshape(self, *shape: int) -> Term:
        return Term(self.add, self.add.reshape(self.value, shape))

    def transpose(self, *perm: int) -> Term:
        return Term(self.add, self.add.transpose(self.value, perm))

    def part(self, axis: int, start: int, end: int, step: int = 1) -> Term:
        """The elements start, start + step, ... before end along one axis."""
        return Term(self.add, self.add.cut(self.value, axis, start, end, step))

    def take(self, indices: Term, axis: int = 0) -> Term:
        """The slices at the indices, which count from the front."""
        return self.via(ops.Gather(axis=axis), indices)


Operand = Term | Array | float


def concat(parts: Sequence[Term], axis: int) -> Term:
    """The parts one after another."""
    return parts[0].via(ops.Concat(axis=axis), *parts[1:])


def total(terms: Sequence[Term]) -> Term:
    """Their sum."""
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result


def formula(function: Callable[..., Term | tuple[Term, ...] | None]) -> Callable[..., Parts]:
    """The decomposition that `function(op, *operands)` computes with terms."""

    def decomposition(add: Layers, op: Op, *operands: Value | None) -> Parts:
        result = function(op, *(None if v is None else Term(add, v) for v in operands))
        if isinstance(result, Term):
            return result.value
        return None if result is None else [t.value for t in result]

    return decomposition

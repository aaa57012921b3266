"""What reductions put together, as expressions."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

from codegen.expression import Apply, Expression, Number, Operand
from codegen.neon.reduce import BASE, COUNT, SUM, X
from codegen.scalar import FLOATS
from compiler import ops
from compiler.op import Op
from compiler.tensor import DType
from targets.source.elements import BOOL8, bounds, convert, element_type, number, plain_type, widened


class Reduction(NamedTuple):
    """See the fields of `codegen.neon.reduce.Reduce`; `kind` is the type of what is put together, `out` that of results
    and `base` that of the numbers which the formulas read for each result."""

    combine: str
    start: Expression
    each: Expression
    finish: Expression
    kind: str
    out: str
    base: str | None = None


class _Formula:
    """Writes expressions of one type."""

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        self.kind, self.out = plain_type(dtype), element_type(dtype)
        self.x = widened(Operand(X, self.out))
        self.sum, self.count = Operand(SUM, self.kind), Operand(COUNT, self.kind)

    def __call__(self, function: str, *arguments: Expression) -> Expression:
        return Apply(function, arguments, self.kind)

    def made(
        self, combine: str, start: float, each: Expression | None = None, finish: Expression | None = None
    ) -> Reduction:
        """The reduction."""
        end = convert(finish or self.sum, self.out)
        return Reduction(combine, Number(start, self.kind), each or self.x, end, self.kind, self.out)

    @property
    def square(self) -> Expression:
        """Of an element."""
        return self("mul", self.x, self.x)


def _mean(f: _Formula) -> Reduction:
    if f.kind in FLOATS:
        return f.made("add", 0, finish=f("div", f.sum, f.count))
    f.kind = "double"
    f.sum, f.count = Operand(SUM, f.kind), Operand(COUNT, f.kind)
    return f.made("add", 0, convert(f.x, "double"), f("div", f.sum, f.count))


def extreme(dtype: DType, is_largest: bool) -> Reduction:
    """The largest or smallest element."""
    f = _Formula(dtype)
    if f.kind == BOOL8:
        return f.made("or" if is_largest else "and", 0 if is_largest else 1)
    start = (-inf if is_largest else inf) if dtype.is_float else bounds(dtype)[0 if is_largest else 1]
    return f.made("max" if is_largest else "min", start)


def _l2(f: _Formula) -> Reduction:
    if f.kind in FLOATS:
        return f.made("add", 0, f.square, f("sqrt", f.sum))
    root = convert(Apply("sqrt", (convert(f.sum, "double"),), "double"), f.kind)
    return f.made("add", 0, f.square, root)


MAKERS: dict[type[Op], Callable[[_Formula], Reduction]] = {
    ops.ReduceSum: lambda f: f.made("add", 0),
    ops.ReduceMean: _mean,
    ops.ReduceMax: lambda f: extreme(f.dtype, is_largest=True),
    ops.ReduceMin: lambda f: extreme(f.dtype, is_largest=False),
    ops.ReduceProd: lambda f: f.made("mul", 1),
    ops.ReduceL1: lambda f: f.made("add", 0, f("abs", f.x)),
    ops.ReduceL2: _l2,
    ops.ReduceSumSquare: lambda f: f.made("add", 0, f.square),
    ops.ReduceLogSum: lambda f: f.made("add", 0, finish=f("log", f.sum)),
}


def reduction_of(op: type[Op], dtype: DType) -> Reduction:
    """Of elements of a type."""
    return MAKERS[op](_Formula(dtype))


def finite_largest(dtype: DType) -> Reduction:
    """The largest element in the type that is computed with, or 0 if that is not finite."""
    f = _Formula(dtype)
    is_finite = Apply("less", (f("abs", f.sum), Number(inf, f.kind)), BOOL8)
    made = f.made("max", -inf, finish=f("select", is_finite, f.sum, number(0, f.kind)))
    return made._replace(finish=f("select", is_finite, f.sum, number(0, f.kind)), out=f.kind)


def wide(made: Reduction) -> Reduction:
    """With results in the type that is computed with, not in that of the elements."""
    finish = made.finish
    if made.out != made.kind and isinstance(finish, Apply) and finish.function == "convert":
        finish = finish.arguments[0]
    return made._replace(finish=finish, out=made.kind)


def sum_of_exponentials(dtype: DType) -> Reduction:
    """log(sum(exp(x - base))) + base."""
    f = _Formula(dtype)
    base = Operand(BASE, f.kind)
    finish = f("add", f("log", f.sum), base)
    return f.made("add", 0, f("exp", f("sub", f.x, base)), finish)._replace(base=f.kind)


def logarithm_of_sum(dtype: DType) -> Reduction:
    """log(sum(x))."""
    f = _Formula(dtype)
    return f.made("add", 0, finish=f("log", f.sum))


def variance(dtype: DType, eps: float) -> Reduction:
    """1 / sqrt(mean((x - base)^2) + eps), in the type that is computed with."""
    f = _Formula(dtype)
    centred = f("sub", f.x, Operand(BASE, f.kind))
    made = f.made("add", 0, f("mul", centred, centred))
    return made._replace(finish=_inverse_root(f, eps), out=f.kind, base=f.kind)


def inverse_rms(dtype: DType, eps: float) -> Reduction:
    """1 / sqrt(mean(x^2) + eps), in the type that is computed with."""
    f = _Formula(dtype)
    return f.made("add", 0, f.square)._replace(finish=_inverse_root(f, eps), out=f.kind)


def _inverse_root(f: _Formula, eps: float) -> Expression:
    spread = f("add", f("div", f.sum, f.count), Number(eps, f.kind))
    return f("div", Number(1, f.kind), f("sqrt", spread))


def norm(dtype: DType, p: int) -> Reduction:
    """The p-norm of p 1 or 2, in the type of the elements."""
    f = _Formula(dtype)
    return f.made("add", 0, f("abs", f.x)) if p == 1 else f.made("add", 0, f.square, f("sqrt", f.sum))

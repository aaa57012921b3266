"""How exporters spell small formulas: pattern builders that several passes share.

Each returns a pattern for one real function in the forms that are met in exported graphs, whatever the order of
commutative operands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from compiler.graph import Value
from compiler.op import Op
from compiler.ops.elementwise import Add, Div, Mul, Pow, Reciprocal, Sqrt, Sub
from compiler.ops.shape import Expand, Reshape
from compiler.pattern import Const, Layer, Match, OneOf, Pattern, Wild
from compiler.rewrite import Builder
from compiler.tensor import Array


def is_scalar(v: Value) -> bool:
    """Whether a value has exactly one element, and is real."""
    return v.type.dtype.is_real and v.type.is_static and v.type.size == 1


def scalar() -> Const:
    """A constant of one element."""
    return Const(where=is_scalar)


def number(data: Array) -> float:
    """The one element of an array."""
    return float(data.item())


def near(value: float, target: float, like: Value) -> bool:
    """Whether a number is `target` up to the rounding of the element type of `like`."""
    return abs(value - target) <= abs(target) * (1e-6 if like.type.dtype.bits > 16 else 1e-3)


def times(x: Pattern, factor: float) -> Pattern:
    """x * factor, also written as a division."""
    return OneOf(Layer(Mul, x, Const(equal=factor)), Layer(Div, x, Const(equal=1 / factor)))


def plus(x: Pattern, term: float) -> Pattern:
    """x + term, also written as a subtraction."""
    return OneOf(Layer(Add, x, Const(equal=term)), Layer(Sub, x, Const(equal=-term)))


def square(x: Pattern) -> Pattern:
    """x * x or x ** 2."""
    return OneOf(Layer(Mul, x, x), Layer(Pow, x, Const(equal=2)))


def root(x: Pattern) -> Pattern:
    """The square root of x."""
    return OneOf(Layer(Sqrt, x), Layer(Pow, x, Const(equal=0.5)))


def inverse_root(x: Pattern) -> Pattern:
    """1 / sqrt(x)."""
    r = root(x)
    return OneOf(Layer(Reciprocal, r), Layer(Div, Const(equal=1), r), Layer(Pow, x, Const(equal=-0.5)))


def scaled_product(x: Pattern, y: Pattern, factor: float) -> tuple[Layer, ...]:
    """x * y * factor in every association, as roots of rules."""
    xy = Layer(Mul, x, y)
    return (
        Layer(Mul, times(x, factor), y),
        Layer(Mul, x, times(y, factor)),
        Layer(Mul, xy, Const(equal=factor)),
        Layer(Div, xy, Const(equal=1 / factor)),
    )


def unary(op: Op, x: Wild) -> Callable[[Match, Builder], Value | None]:
    """A replacement by one layer of `op` on what `x` met; not where constants had broadcast it to another shape."""

    def fuse(m: Match, g: Builder) -> Value | None:
        operand = m.value(x)
        return g.add(op, operand) if operand.type == m.root.output.type and operand.type.dtype.is_float else None

    return fuse


def splat(data: Array | None, value: float) -> bool:
    """Whether a constant holds one number everywhere, as far as that is cheap to see."""
    if data is None or not data.size or (data.size > 65536 and any(data.strides)):
        return False
    return bool(np.all((data if any(data.strides) else data.flat[0]) == data.dtype.type(value)))


def along_one_axis(op: Any) -> bool:
    """Whether a reduction is along one axis, which it keeps as 1 (typed Any: whichever class the pattern names)."""
    return op.keepdims and len(op.axes) == 1


def spread(reduction: Layer) -> Pattern:
    """A reduction whose axis is kept, or put back by layers of their own, as JAX has it."""
    reshaped = Layer(Reshape, reduction, shared=True)
    return OneOf(reduction, reshaped, Layer(Expand, reshaped, shared=True), Layer(Expand, reduction, shared=True))


def stands(v: Value, x: Value, axis: int) -> bool:
    """Whether a `spread` reduction of `x` along `axis` holds, at each place, the reduction through that place."""
    kept = (*x.type.shape[:axis], 1, *x.type.shape[axis + 1 :])
    if v.node is not None and isinstance(v.node.op, Expand) and v.type.shape in (kept, x.type.shape):
        v = v.node.inputs[0] or v
    return v.type.shape == kept

"""What activation functions compute, as expressions."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, pi, sqrt
from typing import Any, Protocol

from codegen.expression import Apply, Expression
from codegen.scalar import FLOATS
from compiler import ops
from compiler.op import Op
from targets.source.elements import BOOL8, convert, number


class Layer(Protocol):
    """See `targets.source.expressions.Layer`."""

    op: Any
    x: Any
    ctype: str


class _Of:
    """Writes expressions of one operand in the type of the result."""

    def __init__(self, layer: Layer) -> None:
        self.x: Expression = layer.x[0]
        self.op, self.ctype = layer.op, layer.ctype

    def __call__(self, function: str, *arguments: Expression | float) -> Expression:
        given = tuple(number(a, self.ctype) if isinstance(a, int | float) else a for a in arguments)
        return Apply(function, given, self.ctype)

    def asks(self, question: str, *arguments: Expression | float) -> Expression:
        """A comparison."""
        return self(question, *arguments)._replace(ctype=BOOL8)

    def sigmoid(self, x: Expression) -> Expression:
        """1 / (1 + e^-x), with no power that is too large."""
        small = self("exp_negative", self("neg", self("abs", x)))
        return self("div", self("select", self.asks("greater_or_equal", x, 0), 1, small), self("add", 1, small))


def _relu(f: _Of) -> Expression:
    return f("max", f.x, 0)


def _softplus(f: _Of) -> Expression:
    small = f("exp_negative", f("neg", f("abs", f.x)))
    return f("add", f("max", f.x, 0), f("log1p", small))


def _softsign(f: _Of) -> Expression:
    return f("div", f.x, f("add", 1, f("abs", f.x)))


def _clip(f: _Of) -> Expression:
    low, high = f.op.low, f.op.high
    if f.ctype not in FLOATS:
        bits = int("".join(c for c in f.ctype if c.isdigit()))
        least = 0 if f.ctype.startswith("u") else -(1 << bits - 1)
        most = (1 << bits - (not f.ctype.startswith("u"))) - 1
        low = -inf if low <= least else int(low)
        high = inf if high >= most else int(high)
    made = f("max", f.x, low) if low > -inf else f.x
    return f("min", made, high) if high < inf else made


def _leaky_relu(f: _Of) -> Expression:
    return f("select", f.asks("greater_or_equal", f.x, 0), f.x, f("mul", f.x, f.op.alpha))


def _elu(f: _Of) -> Expression:
    below = f("mul", f.op.alpha, f("expm1_negative", f("min", f.x, 0)))
    return f("select", f.asks("greater_or_equal", f.x, 0), f.x, below)


def _selu(f: _Of) -> Expression:
    below = f("mul", f.op.alpha, f("expm1_negative", f("min", f.x, 0)))
    return f("mul", f.op.gamma, f("select", f.asks("greater", f.x, 0), f.x, below))


def _celu(f: _Of) -> Expression:
    low = f("expm1_negative", f("div", f("min", f.x, 0), f.op.alpha))
    if f.op.alpha < 0:  # then the argument is positive
        low = f("sub", f("exp", f("div", f("min", f.x, 0), f.op.alpha)), 1)
    return f("add", f("max", f.x, 0), f("min", 0, f("mul", f.op.alpha, low)))


def _thresholded(f: _Of) -> Expression:
    return f("select", f.asks("greater", f.x, f.op.alpha), f.x, 0)


def _gate(f: _Of, alpha: float, beta: float) -> Expression:
    return f("min", f("max", f("add", f("mul", f.x, alpha), beta), 0), 1)


def _mish(f: _Of) -> Expression:
    """tanh(log(1 + e^x)) is n / (n + 2) with n = e^x (e^x + 2); for x >= 0 both are divided by e^2x."""
    small = f("exp_negative", f("neg", f("abs", f.x)))
    twice = f("add", small, small)
    square = f("mul", small, small)
    is_positive = f.asks("greater_or_equal", f.x, 0)
    above = f("select", is_positive, f("add", 1, twice), f("add", square, twice))
    rest = f("mul", 2, f("select", is_positive, square, 1))
    return f("mul", f.x, f("div", above, f("add", above, rest)))


def _silu(f: _Of) -> Expression:
    scaled = f.x if f.op.alpha == 1 else f("mul", f.x, f.op.alpha)
    return f("mul", f.x, f.sigmoid(scaled))


def _gelu(f: _Of) -> Expression:
    """The tanh form is x sigmoid(2 u), u the argument of tanh."""
    if f.op.approximate == "tanh":
        cube = f("mul", f("mul", f.x, f.x), f.x)
        u = f("add", f("mul", cube, 0.044715 * sqrt(8 / pi)), f("mul", f.x, sqrt(8 / pi)))
        return f("mul", f.x, f.sigmoid(u))
    phi = f("erf", f("mul", f.x, sqrt(0.5)))
    return f("mul", f("mul", f.x, 0.5), f("add", phi, 1))


def _shrink(f: _Of) -> Expression:
    wide = f if f.ctype in FLOATS else _Of(_Wide(f))
    low, high = (wide("add", wide.x, sign * wide.op.bias) for sign in (1, -1))
    above = wide("select", wide.asks("greater", wide.x, wide.op.lambd), high, 0)
    made = wide("select", wide.asks("less", wide.x, -wide.op.lambd), low, above)
    return convert(made, f.ctype)


class _Wide:
    """A layer of integers whose numbers are not."""

    def __init__(self, f: _Of) -> None:
        self.op, self.x, self.ctype = f.op, [convert(f.x, "double")], "double"


ACTIVATIONS: dict[type[Op], Callable[[Layer], Expression]] = {}


def _register(op: type[Op], made: Callable[[_Of], Expression]) -> None:
    ACTIVATIONS[op] = lambda layer: made(_Of(layer))


for _op, _made in {
    ops.Relu: _relu,
    ops.Sigmoid: lambda f: f.sigmoid(f.x),
    ops.Softplus: _softplus,
    ops.Softsign: _softsign,
    ops.Clip: _clip,
    ops.LeakyRelu: _leaky_relu,
    ops.Elu: _elu,
    ops.Selu: _selu,
    ops.Celu: _celu,
    ops.ThresholdedRelu: _thresholded,
    ops.HardSigmoid: lambda f: _gate(f, f.op.alpha, f.op.beta),
    ops.HardSwish: lambda f: f("mul", f.x, _gate(f, 1 / 6, 0.5)),
    ops.Mish: _mish,
    ops.Silu: _silu,
    ops.Gelu: _gelu,
    ops.Shrink: _shrink,
}.items():
    _register(_op, _made)


def _prelu(layer: Layer) -> Expression:
    x, slope = layer.x
    f = _Of(layer)
    zero = number(0, layer.ctype)
    if layer.ctype.startswith("u"):
        return x
    return f("select", f.asks("greater_or_equal", x, zero), x, f("mul", x, slope))


ACTIVATIONS[ops.PRelu] = _prelu

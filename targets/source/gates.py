"""What the gates of recurrent layers compute, as expressions."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from codegen.expression import Apply, Expression, Number, Operand
from compiler.ops.recurrent import GRU, LSTM, Recurrent
from targets.source.elements import BOOL8

Function = Callable[[Expression, float, float], Expression]  # of x, alpha and beta


def apply(function: str, *arguments: Expression | float) -> Apply:
    """A function of floats and numbers."""
    return Apply(function, tuple(Number(a) if isinstance(a, int | float) else a for a in arguments))


def _at_least(x: Expression, least: float) -> Apply:
    return apply("greater_or_equal", x, least)._replace(ctype=BOOL8)


def _softplus(x: Expression, *_: float) -> Expression:
    return apply("add", apply("max", x, 0.0), apply("log1p", apply("exp_negative", apply("neg", apply("abs", x)))))


def _elu(x: Expression, a: float, _: float) -> Expression:
    below = apply("mul", a, apply("expm1_negative", apply("min", x, 0.0)))
    return apply("select", _at_least(x, 0.0), x, below)


FUNCTIONS: dict[str, Function] = {
    "Sigmoid": lambda x, *_: apply("sigmoid", x),
    "Tanh": lambda x, *_: apply("tanh", x),
    "Relu": lambda x, *_: apply("max", x, 0.0),
    "Softsign": lambda x, *_: apply("div", x, apply("add", 1.0, apply("abs", x))),
    "Softplus": _softplus,
    "Affine": lambda x, a, b: apply("add", apply("mul", x, a), b),
    "LeakyRelu": lambda x, a, _: apply("select", _at_least(x, 0.0), x, apply("mul", x, a)),
    "ThresholdedRelu": lambda x, a, _: apply("select", _at_least(x, a), x, 0.0),
    "ScaledTanh": lambda x, a, b: apply("mul", a, apply("tanh", apply("mul", b, x))),
    "HardSigmoid": lambda x, a, b: apply("min", apply("max", apply("add", apply("mul", x, a), b), 0.0), 1.0),
    "Elu": _elu,
}


class Gates:
    """The functions of one direction of a layer; what they are applied to is clipped, but for the cell of an LSTM."""

    def __init__(self, op: Recurrent, direction: int) -> None:
        count = len(op.default_functions)
        self._op, self._first = op, direction * count

    def __call__(self, i: int, x: Expression) -> Expression:
        """Function i of the direction."""
        op, at = self._op, self._first + i
        alpha, beta = (v[at] if v else 0.0 for v in (op.alpha, op.beta))
        if op.clip < inf and i < 2:
            x = apply("max", apply("min", x, op.clip), -op.clip)
        return FUNCTIONS[op.functions[at]](x, alpha, beta)

    def lstm(self, op: LSTM, has_p: bool) -> tuple[Expression, Expression]:
        """The new cell, and the output that reads it. Operands: i, o, f, g, the cell, peepholes to i, o and f, the new
        cell."""
        i, o, f, g, cell, p_i, p_o, p_f, new = map(Operand, range(9))

        def peeped(gate: Expression, p: Expression, at: Expression) -> Expression:
            return apply("add", gate, apply("mul", p, at)) if has_p else gate

        taken = self(0, peeped(i, p_i, cell))
        kept = apply("sub", 1.0, taken) if op.input_forget else self(0, peeped(f, p_f, cell))
        made = apply("add", apply("mul", kept, cell), apply("mul", taken, self(1, g)))
        return made, apply("mul", self(0, peeped(o, p_o, new)), self(2, new))

    def gru(self, op: GRU) -> tuple[Expression, Expression | None]:
        """The new state, and what of the old one is multiplied with the weights of the candidate if that is not all.
        Operands: z, r, n, the old state, its product with those weights."""
        z, r, n, before, rest = map(Operand, range(5))
        reset = self(0, r)
        candidate = self(1, apply("add", n, apply("mul", reset, rest)) if op.linear_before_reset else n)
        new = apply("add", candidate, apply("mul", self(0, z), apply("sub", before, candidate)))
        return new, None if op.linear_before_reset else apply("mul", reset, before)

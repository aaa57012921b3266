"""One time step of a recurrent layer."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

from compiler import ops
from compiler.graph import Node
from compiler.ops.recurrent import Recurrent
from compiler.tensor import Array
from targets.tflite.lower.lowering import Lowering
from targets.tflite.model import Tensor

Gate = Callable[[Lowering, Tensor, float, float], Tensor]  # of x, alpha and beta


class Step(NamedTuple):
    """What the steps of one direction share: recurrent weights [G*H,H] and biases [G*H] as tensors and as data, and
    the peepholes of an LSTM [3*H]."""

    node: Node
    op: Recurrent
    direction: int
    r: Tensor
    b: Tensor
    r_data: Array
    b_data: Array
    peepholes: Array | None


def _softplus(p: Lowering, x: Tensor, a: float, b: float) -> Tensor:
    tail = p.unary("LOG", p.plus(p.unary("EXP", p.unary("NEG", p.unary("ABS", x))), 1.0))
    return p.binary("ADD", p.unary("RELU", x), tail)


def _elu(p: Lowering, x: Tensor, a: float, b: float) -> Tensor:
    return p.binary("ADD", p.unary("RELU", x), p.times(p.unary("ELU", p.binary("MINIMUM", x, p.scalar(0.0))), a))


GATES: dict[str, Gate] = {
    "Sigmoid": lambda p, x, _a, _b: p.unary("LOGISTIC", x),
    "Tanh": lambda p, x, _a, _b: p.unary("TANH", x),
    "Relu": lambda p, x, _a, _b: p.unary("RELU", x),
    "Softsign": lambda p, x, _a, _b: p.binary("DIV", x, p.plus(p.unary("ABS", x), 1.0)),
    "Softplus": _softplus,
    "Affine": lambda p, x, a, b: p.plus(p.times(x, a), b),
    "LeakyRelu": lambda p, x, a, _b: p.unary("LEAKY_RELU", x, Alpha=a),
    "ThresholdedRelu": lambda p, x, a, _b: p.select(p.binary("GREATER_EQUAL", x, p.scalar(a)), x, p.scalar(0.0)),
    "ScaledTanh": lambda p, x, a, b: p.times(p.unary("TANH", p.times(x, b)), a),
    "HardSigmoid": lambda p, x, a, b: p.unary("RELU_0_TO_1", p.plus(p.times(x, a), b)),
    "Elu": _elu,
}


def _function(p: Lowering, s: Step, i: int, x: Tensor) -> Tensor:
    """The i-th activation of the direction; all but the third clip their operand."""
    op = s.op
    at = s.direction * len(op.default_functions) + i
    if op.clip < inf and i < 2:
        x = p.binary("MINIMUM", p.binary("MAXIMUM", x, p.scalar(-op.clip)), p.scalar(op.clip))
    alpha, beta = (v[at] if v else 0.0 for v in (op.alpha, op.beta))
    return GATES[op.functions[at]](p, x, alpha, beta)


def rnn_step(p: Lowering, s: Step, seen: Tensor, states: list[Tensor]) -> list[Tensor]:
    """H = f(seen + H r + b)."""
    return [_function(p, s, 0, p.binary("ADD", seen, p.fully_connected(states[0], s.r, s.b)))]


def gru_step(p: Lowering, s: Step, seen: Tensor, states: list[Tensor]) -> list[Tensor]:
    """Gates z and r together, then the candidate: H = (1 - z) h + z H."""
    (h,), n = states, states[0].shape[1]
    assert isinstance(s.op, ops.GRU)
    own, candidate = p.split(seen, [2 * n, n], 1)
    if s.op.linear_before_reset:
        gates, rest = p.split(p.fully_connected(h, s.r, s.b), [2 * n, n], 1)
        z, reset = p.split(_function(p, s, 0, p.binary("ADD", own, gates)), [n, n], 1)
        rest = p.binary("MUL", reset, rest)
    else:
        first, second = slice(0, 2 * n), slice(2 * n, 3 * n)
        gates = _recurrence(p, s, h, first)
        z, reset = p.split(_function(p, s, 0, p.binary("ADD", own, gates)), [n, n], 1)
        rest = _recurrence(p, s, p.binary("MUL", reset, h), second)
    new = _function(p, s, 1, p.binary("ADD", candidate, rest))
    return [p.binary("ADD", new, p.binary("MUL", z, p.binary("SUB", h, new)))]


def _recurrence(p: Lowering, s: Step, h: Tensor, rows: slice) -> Tensor:
    """Some rows of the recurrent product."""
    key = (s.node, s.direction, rows.start)
    weight = p.shared((*key, "r"), lambda: p.weight(s.r_data[rows], "FLOAT32", "r"))
    bias = p.shared((*key, "b"), lambda: p.const(s.b_data[rows], "FLOAT32"))
    return p.fully_connected(h, weight, bias)


def lstm_step(p: Lowering, s: Step, seen: Tensor, states: list[Tensor]) -> list[Tensor]:
    """C = f C + i g(c), H = o h(C); gates stand in the order i, o, f, c."""
    (hidden, cell), n = states, states[0].shape[1]
    assert isinstance(s.op, ops.LSTM)
    total = p.binary("ADD", seen, p.fully_connected(hidden, s.r, s.b))
    i, o, f, c = p.split(total, [n] * 4, 1)
    i = _function(p, s, 0, _peeped(p, s, i, cell, 0))
    f = p.binary("SUB", p.scalar(1.0), i) if s.op.input_forget else _function(p, s, 0, _peeped(p, s, f, cell, 2))
    kept, added = p.binary("MUL", f, cell), p.binary("MUL", i, _function(p, s, 1, c))
    cell = p.binary("ADD", kept, added)
    o = _function(p, s, 0, _peeped(p, s, o, cell, 1))
    return [p.binary("MUL", o, _function(p, s, 2, cell)), cell]


def _peeped(p: Lowering, s: Step, gate: Tensor, cell: Tensor, place: int) -> Tensor:
    if s.peepholes is None:
        return gate
    n = cell.shape[1]
    return p.binary("ADD", gate, p.binary("MUL", cell, p.const(s.peepholes[place * n : (place + 1) * n], "FLOAT32")))

"""Recurrent layers, unrolled over the known number of steps: the dialect has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.recurrent import Recurrent
from compiler.target import Need
from compiler.tensor import I32
from targets.coreai.lower.activation import clipped, elu, hard_sigmoid, leaky_relu, softplus, softsign
from targets.coreai.lower.indexing import reversed_sequence
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.movement import divided
from targets.coreai.lower.table import FLOATS, lowers, makes, operand_types
from targets.coreai.program import Var

MAX_STEPS = 512  # of an unrolled layer; more would make a program of tens of thousands of operations


def _given(node: Node, index: int) -> Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _steps(node: Node) -> int:
    steps = node.outputs[0].type.shape[0]
    return steps if isinstance(steps, int) else MAX_STEPS + 1


SHORT = Need(text=f"at most {MAX_STEPS} steps, as it is unrolled", holds=lambda node: _steps(node) <= MAX_STEPS)


class Side:
    """One direction of a layer: its parameters as parts of the layer's operands."""

    def __init__(self, p: Lowering, node: Node, op: Recurrent, d: int) -> None:
        self.p, self.node, self.op, self.d = p, node, op, d
        self.backward = op.direction == "reverse" or d == 1
        self.hidden: int = node.outputs[1].type.dims[2]
        self.lengths = p.operand(node, 4)
        self.gates = op.gates * self.hidden

    def part(self, index: int, begin: int, end: int) -> Var:
        """Rows begin to end of this direction's part of operand `index`; constants are cut now."""
        v = _given(self.node, index)
        assert v is not None
        if v.data is None:
            whole = self.p[v]
            rest = whole.shape[2:]
            rows = self.p.slice(
                whole, [self.d, begin, *[0] * len(rest)], [self.d + 1, end, *rest], [1] * (2 + len(rest))
            )
            return self.p.reshape(rows, (end - begin, *rest))
        data = np.asarray(v.data[self.d, begin:end])
        return self.p.program.const(data, self.p.precision, key=(id(v.data), self.d, begin, end))

    def turned_part(self, index: int, begin: int, end: int) -> Var:
        """The transpose of a part of a weight; that of a constant is made once for all steps."""
        key = ("turned", self.node.outputs[0], index, self.d, begin, end)
        if key not in self.p.shared:
            self.p.shared[key] = self.p.swapped(self.part(index, begin, end))
        return self.p.shared[key]

    def bias(self, begin: int, end: int, of: str = "both") -> Var | None:
        """Biases of the gates in rows begin to end: those of the input, of the state, or their sum."""
        v = _given(self.node, 3)
        if v is None:
            return None
        wide = v.type.dims[1] // 2
        if of != "both":
            offset = wide if of == "state" else 0
            return self.part(3, offset + begin, offset + end)
        if v.data is None:
            return self.p.binary("add", self.part(3, begin, end), self.part(3, wide + begin, wide + end))
        row = np.asarray(v.data[self.d], np.float32)
        return self.p.floats(row[begin:end] + row[wide + begin : wide + end])

    def initial(self, index: int) -> Var:
        """An initial state [B,H]; zeros if it is not given."""
        batch = self.node.outputs[1].type.dims[1]
        if _given(self.node, index) is None:
            return self.p.floats(np.zeros((batch, self.hidden)))
        return self.part(index, 0, batch)

    def turned(self, x: Var) -> Var:
        """The sequence in the order in which it is computed, and back."""
        if not self.backward:
            return x
        if self.lengths is None:
            return self.p.reverse(x, [0])
        return reversed_sequence(self.p, x, self.lengths, 0, 1)

    def gate(self, x: Var, k: int) -> Var:
        """The k-th activation of this direction; the operand is clipped but for that of an LSTM's cell."""
        op, at = self.op, self.d * len(self.op.default_functions) + k
        if op.clip < inf and k < 2:
            x = clipped(self.p, x, -op.clip, op.clip)
        name = op.functions[at]
        if name in PLAIN:
            return PLAIN[name](self.p, x)
        if name in WITH_ALPHA:
            return WITH_ALPHA[name](self.p, x, op.alpha[at])
        return WITH_BETA[name](self.p, x, op.alpha[at], op.beta[at])


def _affine(p: Lowering, x: Var, alpha: float, beta: float) -> Var:
    return p.binary("add", p.binary("mul", x, alpha), beta)


PLAIN: dict[str, Callable[[Lowering, Var], Var]] = {
    "Sigmoid": lambda p, x: p.unary("sigmoid", x),
    "Tanh": lambda p, x: p.unary("tanh", x),
    "Relu": lambda p, x: p.unary("relu", x),
    "Softsign": softsign,
    "Softplus": softplus,
}
WITH_ALPHA: dict[str, Callable[[Lowering, Var, float], Var]] = {
    "LeakyRelu": leaky_relu,
    "ThresholdedRelu": lambda p, x, alpha: p.select(p.test("greater", x, alpha), x, 0.0),
    "Elu": elu,
}
WITH_BETA: dict[str, Callable[[Lowering, Var, float, float], Var]] = {
    "Affine": _affine,
    "ScaledTanh": lambda p, x, alpha, beta: p.binary("mul", p.unary("tanh", p.binary("mul", x, beta)), alpha),
    "HardSigmoid": hard_sigmoid,
}


def linear(p: Lowering, x: Var, turned: Var, bias: Var | None) -> Var:
    """x [M,K] times a weight [K,N], plus bias."""
    y = p.matmul(x, turned)
    return y if bias is None else p.binary("add", y, bias)


class Run(NamedTuple):
    """What one direction gives: the sequence [T,B,H], and the last states [B,H]."""

    y: Var
    states: Sequence[Var]


def _finish(p: Lowering, node: Node, runs: list[Run]) -> None:
    """Stack the directions: sequences [T,B,H] to [T,D,B,H], last states [B,H] to [D,B,H]."""
    steps, batch, hidden = runs[0].y.shape
    p.bind(node.outputs[0], p.concat([p.reshape(run.y, (steps, 1, batch, hidden)) for run in runs], 1))
    for i, v in enumerate(node.outputs[1:]):
        p.bind(v, p.concat([p.reshape(run.states[i], (1, batch, hidden)) for run in runs], 0))


ZERO_STATES = makes(lambda node: 4 * sum(v.type.size for v in node.outputs[1:]))


@lowers(ops.LSTM, ops.GRU, ops.RNN, needs=[operand_types(*FLOATS, I32), SHORT, ZERO_STATES])
def _recurrent(p: Lowering, node: Node, op: Recurrent) -> None:
    step = {"gru": _gru_step, "rnn": _rnn_step, "lstm": _lstm_step}[op.name]
    sides = [Side(p, node, op, d) for d in range(node.outputs[1].type.dims[0])]
    _finish(p, node, [_unrolled(p, side, step) for side in sides])


Step = Callable[[Side, Var, list[Var]], list[Var]]


def _unrolled(p: Lowering, side: Side, step: Step) -> Run:
    """The products with the inputs are one for all steps; each step then adds its state's. A sequence that has ended
    keeps its states and gives 0."""
    given = p.operand(side.node, 0)
    assert given is not None
    x = side.turned(given)
    steps, batch, features = x.shape
    wide = side.gates
    early = side.bias(0, wide, "input" if isinstance(side.op, ops.GRU) else "both")
    rows = p.reshape(x, (steps * batch, features))
    seen = linear(p, rows, side.turned_part(1, 0, wide), early)
    states = [side.initial(5 + i) for i in range(side.op.states)]
    sequence = []
    for t, now in enumerate(divided(p, seen, [batch] * steps, 0)):
        new = step(side, now, states)
        shown = new[0]
        if side.lengths is not None:
            alive = p.test("greater", p.reshape(side.lengths, (batch, 1)), t)
            new = [p.select(alive, n, s) for n, s in zip(new, states, strict=True)]
            shown = p.select(alive, shown, 0.0)
        states = new
        sequence.append(shown)
    y = p.reshape(p.concat(sequence, 0), (steps, batch, side.hidden))
    return Run(side.turned(y), states)


def _gates(p: Lowering, x: Var, count: int) -> list[Var]:
    """`x` [B,G*H] cut into its gates."""
    return divided(p, x, [x.shape[1] // count] * count, 1)


def _rnn_step(side: Side, seen: Var, states: list[Var]) -> list[Var]:
    product = linear(side.p, states[0], side.turned_part(2, 0, side.hidden), None)
    return [side.gate(side.p.binary("add", seen, product), 0)]


def _gru_step(side: Side, seen: Var, states: list[Var]) -> list[Var]:
    """H = (1 - z) h + z H = H + z (h - H)."""
    p, n, h = side.p, side.hidden, states[0]
    early = p.cut(seen, 1, 0, 2 * n)
    both = p.binary("add", early, linear(p, h, side.turned_part(2, 0, 2 * n), side.bias(0, 2 * n, "state")))
    z, reset = (side.gate(v, 0) for v in _gates(p, both, 2))
    weight, bias = side.turned_part(2, 2 * n, 3 * n), side.bias(2 * n, 3 * n, "state")
    if isinstance(side.op, ops.GRU) and side.op.linear_before_reset:
        inner = p.binary("mul", reset, linear(p, h, weight, bias))
    else:
        inner = linear(p, p.binary("mul", reset, h), weight, bias)
    candidate = side.gate(p.binary("add", p.cut(seen, 1, 2 * n, 3 * n), inner), 1)
    return [p.binary("add", candidate, p.binary("mul", z, p.binary("sub", h, candidate)))]


def _lstm_step(side: Side, seen: Var, states: list[Var]) -> list[Var]:
    """C = f C + i c, H = o h(C), with peepholes from the cell to i, o and f."""
    p, n, (hidden, cell) = side.p, side.hidden, states
    total = p.binary("add", seen, linear(p, hidden, side.turned_part(2, 0, 4 * n), None))
    i, o, forget, c = _gates(p, total, 4)
    peeps = _given(side.node, 7) is not None

    def peeped(gate: Var, k: int, at: Var) -> Var:
        return p.binary("add", gate, p.binary("mul", at, side.part(7, k * n, (k + 1) * n))) if peeps else gate

    i = side.gate(peeped(i, 0, cell), 0)
    if isinstance(side.op, ops.LSTM) and side.op.input_forget:
        forget = p.binary("sub", 1.0, i)
    else:
        forget = side.gate(peeped(forget, 2, cell), 0)
    cell = p.binary("add", p.binary("mul", forget, cell), p.binary("mul", i, side.gate(c, 1)))
    return [p.binary("mul", side.gate(peeped(o, 1, cell), 0), side.gate(cell, 2)), cell]

"""Recurrent layers: LSTM as MIL's own layer where it computes the same, else unrolled over the known number of steps.

MIL's `gru` documents two contradicting reset gates and no bias of the hidden state before iOS 18, so it is not used.
Backward directions reverse the sequence before and after, which leaves no doubt about the order of the results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.recurrent import Recurrent
from compiler.target import Need
from compiler.tensor import I32, Array
from targets.coreml.lower.lowering import Lowering, Operands
from targets.coreml.lower.table import FLOATS, lowers, makes, operand_types
from targets.coreml.mil import Var

MAX_STEPS = 512  # of an unrolled layer; more would make a program of tens of thousands of operations
NATIVE = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu"}
SAME = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu", "Softsign": "softsign", "Softplus": "softplus"}
WITH_ALPHA = {"LeakyRelu": "leaky_relu", "ThresholdedRelu": "thresholded_relu", "Elu": "elu"}
WITH_BETA = {"Affine": "linear_activation", "ScaledTanh": "scaled_tanh", "HardSigmoid": "sigmoid_hard"}
WEIGHTS = (1, 2, 3)


def _given(node: Node, index: int) -> Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _native(node: Node) -> bool:
    """Whether MIL's `lstm` computes the layer: constant weights, whole sequences, gates that are its own."""
    op = node.op
    known = all((v := _given(node, i)) is None or v.data is not None for i in (*WEIGHTS, 7))
    plain = isinstance(op, ops.LSTM) and not op.input_forget and op.clip == inf and set(op.functions) <= set(NATIVE)
    return plain and known and _given(node, 4) is None


def _steps(node: Node) -> int:
    steps = node.outputs[0].type.shape[0]
    return steps if isinstance(steps, int) else MAX_STEPS + 1


SHORT = Need(
    text=f"at most {MAX_STEPS} steps where it is unrolled (LSTM with constant weights, without clip, sequence lengths "
    "and coupled gates has a layer of its own)",
    holds=lambda node: _native(node) or _steps(node) <= MAX_STEPS,
)


class Side:
    """One direction of a layer: its parameters as parts of the layer's operands."""

    def __init__(self, p: Lowering, node: Node, op: Recurrent, d: int) -> None:
        self.p, self.node, self.op, self.d = p, node, op, d
        self.backward = op.direction == "reverse" or d == 1
        self.hidden: int = node.outputs[1].type.dims[2]
        self.lengths = p.operand(node, 4)
        self.gates = op.gates * self.hidden

    def part(self, index: int, begin: int, end: int, dtype: str = "") -> Var:
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
        data, kind = v.data[self.d, begin:end], dtype or self.p.precision
        return self.p.program.const(data, kind, name=v.name or "weight", key=(id(v.data), self.d, begin, end))

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
        return self.p.floats(row[begin:end] + row[wide + begin : wide + end], v.name or "bias")

    def initial(self, index: int) -> Var:
        """An initial state [B,H]; zeros if it is not given."""
        batch = self.node.outputs[1].type.dims[1]
        if _given(self.node, index) is None:
            return self.p.floats(np.zeros((batch, self.hidden)), "zero_state")
        return self.part(index, 0, batch)

    def turned(self, x: Var) -> Var:
        """The sequence in the order in which it is computed, and back."""
        if not self.backward:
            return x
        if self.lengths is None:
            return self.p.like(x, "reverse", axes=[0])
        return self.p.like(x, "reverse_sequence", lengths=self.lengths, seq_axis=0, batch_axis=1)

    def gate(self, x: Var, k: int) -> Var:
        """The k-th activation of this direction; the operand is clipped but for that of an LSTM's cell."""
        op, at = self.op, self.d * len(self.op.default_functions) + k
        if op.clip < inf and k < 2:
            x = self.p.like(x, "clip", alpha=-op.clip, beta=op.clip)
        name = op.functions[at]
        if name in SAME:
            return self.p.like(x, SAME[name])
        if name in WITH_ALPHA:
            return self.p.like(x, WITH_ALPHA[name], alpha=op.alpha[at])
        return self.p.like(x, WITH_BETA[name], alpha=op.alpha[at], beta=op.beta[at])


def linear(p: Lowering, x: Var, weight: Var, bias: Var | None) -> Var:
    """x [M,K] times weight [N,K] transposed, plus bias; a layer if both are constants."""
    if weight.value is not None and (bias is None or bias.value is not None):
        operands: Operands = {"x": x, "weight": weight, "bias": bias}
        return p.add("linear", operands, x.dtype, (x.shape[0], weight.shape[0]))
    y = p.matmul(x, weight, transpose_y=True)
    return y if bias is None else p.binary("add", y, bias)


class Run(NamedTuple):
    """What one direction gives: the sequence [T,B,H], and the last states [B,H]."""

    y: Var
    states: Sequence[Var]


def _sides(p: Lowering, node: Node, op: Recurrent) -> list[Side]:
    return [Side(p, node, op, d) for d in range(node.outputs[1].type.dims[0])]


def _finish(p: Lowering, node: Node, runs: list[Run]) -> None:
    """Stack the directions: sequences [T,B,H] to [T,D,B,H], last states [B,H] to [D,B,H]."""
    steps, batch, hidden = runs[0].y.shape
    p.bind(node.outputs[0], p.concat([p.reshape(run.y, (steps, 1, batch, hidden)) for run in runs], 1))
    for i, v in enumerate(node.outputs[1:]):
        p.bind(v, p.concat([p.reshape(run.states[i], (1, batch, hidden)) for run in runs], 0))


ZERO_STATES = makes(lambda node: 4 * sum(v.type.size for v in node.outputs[1:]))


@lowers(ops.LSTM, ops.GRU, ops.RNN, needs=[operand_types(*FLOATS, I32), SHORT, ZERO_STATES])
def _recurrent(p: Lowering, node: Node, op: Recurrent) -> None:
    if _native(node):
        _finish(p, node, [_lstm(p, node, side) for side in _sides(p, node, op)])
        return
    step = {"gru": _gru_step, "rnn": _rnn_step, "lstm": _lstm_step}[op.name]
    _finish(p, node, [_unrolled(p, node, side, step) for side in _sides(p, node, op)])


def _reordered(gates: Array, order: tuple[int, ...]) -> Array:
    """Rows of [G*H, ...] with the gates in another order."""
    n = len(gates) // len(order)
    return np.concatenate([gates[k * n : (k + 1) * n] for k in order])


def _lstm(p: Lowering, node: Node, side: Side) -> Run:
    """ONNX orders the gates i, o, f, c; MIL i, f, o, c, and the peepholes alike. Before iOS 17 it takes fp32 only."""
    order, kind = (0, 2, 1, 3), p.precision if p.ios >= 17 else "fp32"
    given = p.operand(node, 0)
    assert given is not None
    x = p.cast(side.turned(given), kind)
    steps, batch, _ = x.shape

    def weight(index: int, name: str) -> Var | None:
        v = _given(node, index)
        if v is None:
            return None
        data = np.asarray(v.data)[side.d]
        if index == 3:
            data = np.sum(np.split(data.astype(np.float32), 2), 0)
        return p.program.const(_reordered(data, (0, 2, 1) if index == 7 else order), kind, name=name)

    functions = [NATIVE[f] for f in side.op.functions[3 * side.d : 3 * side.d + 3]]
    operands: Operands = {
        "x": x,
        "initial_h": p.cast(side.initial(5), kind),
        "initial_c": p.cast(side.initial(6), kind),
        "weight_ih": weight(1, "weight_ih"),
        "weight_hh": weight(2, "weight_hh"),
        "bias": weight(3, "bias"),
        "peephole": weight(7, "peephole"),
        "direction": "forward",
        "output_sequence": True,
        **dict(zip(("recurrent_activation", "cell_activation", "activation"), functions, strict=True)),
    }
    types = [(kind, (steps, batch, side.hidden)), *[(kind, (batch, side.hidden))] * 2]
    y, h, c = (p.cast(v, p.precision) for v in p.program.op("lstm", operands, types, node.outputs[0].name or "lstm"))
    return Run(side.turned(y), [h, c])


Step = Callable[[Side, Var, list[Var]], list[Var]]


def _unrolled(p: Lowering, node: Node, side: Side, step: Step) -> Run:
    """The products with the inputs are one for all steps; each step then adds its state's. A sequence that has ended
    keeps its states and gives 0."""
    given = p.operand(node, 0)
    assert given is not None
    x = side.turned(given)
    steps, batch, features = x.shape
    wide = side.gates
    early = side.bias(0, wide, "input" if isinstance(side.op, ops.GRU) else "both")
    rows = p.reshape(x, (steps * batch, features))
    seen = p.reshape(linear(p, rows, side.part(1, 0, wide), early), (steps, batch, wide))
    types = [(p.precision, (1, batch, wide))] * steps
    each = p.program.op("split", {"x": seen, "num_splits": steps, "axis": 0}, types) if steps > 1 else [seen]
    states = [side.initial(5 + i) for i in range(side.op.states)]
    sequence = []
    for t, now in enumerate(each):
        new = step(side, p.reshape(now, (batch, wide)), states)
        shown = new[0]
        if side.lengths is not None:
            alive = p.test("greater", p.reshape(side.lengths, (batch, 1)), t)
            new = [p.select(alive, n, s) for n, s in zip(new, states, strict=True)]
            shown = p.select(alive, shown, 0.0)
        states = new
        sequence.append(p.reshape(shown, (1, *shown.shape)))
    return Run(side.turned(p.concat(sequence, 0)), states)


def _gates(p: Lowering, x: Var, count: int) -> list[Var]:
    """`x` [B,G*H] cut into its gates."""
    batch, wide = x.shape
    types = [(x.dtype, (batch, wide // count))] * count
    return p.program.op("split", {"x": x, "num_splits": count, "axis": 1}, types)


def _rnn_step(side: Side, seen: Var, states: list[Var]) -> list[Var]:
    p = side.p
    product = linear(p, states[0], side.part(2, 0, side.hidden), None)
    return [side.gate(p.like(seen, "add", y=product), 0)]


def _gru_step(side: Side, seen: Var, states: list[Var]) -> list[Var]:
    """H = (1 - z) h + z H = h + z (H - h)."""
    p, n, h = side.p, side.hidden, states[0]
    early = p.cut(seen, 1, 0, 2 * n)
    both = p.like(early, "add", y=linear(p, h, side.part(2, 0, 2 * n), side.bias(0, 2 * n, "state")))
    z, reset = (side.gate(v, 0) for v in _gates(p, both, 2))
    weight, bias = side.part(2, 2 * n, 3 * n), side.bias(2 * n, 3 * n, "state")
    if isinstance(side.op, ops.GRU) and side.op.linear_before_reset:
        inner = p.like(reset, "mul", y=linear(p, h, weight, bias))
    else:
        inner = linear(p, p.like(reset, "mul", y=h), weight, bias)
    candidate = side.gate(p.like(p.cut(seen, 1, 2 * n, 3 * n), "add", y=inner), 1)
    return [p.like(candidate, "add", y=p.like(z, "mul", y=p.like(h, "sub", y=candidate)))]


def _lstm_step(side: Side, seen: Var, states: list[Var]) -> list[Var]:
    """C = f C + i c, H = o h(C), with peepholes from the cell to i, o and f."""
    p, n, (hidden, cell) = side.p, side.hidden, states
    total = p.like(seen, "add", y=linear(p, hidden, side.part(2, 0, 4 * n), None))
    i, o, forget, c = _gates(p, total, 4)
    peeps = _given(side.node, 7) is not None

    def peeped(gate: Var, k: int, at: Var) -> Var:
        return p.like(gate, "add", y=p.like(at, "mul", y=side.part(7, k * n, (k + 1) * n))) if peeps else gate

    i = side.gate(peeped(i, 0, cell), 0)
    if isinstance(side.op, ops.LSTM) and side.op.input_forget:
        forget = p.like(p.like(i, "mul", y=-1.0), "add", y=1.0)
    else:
        forget = side.gate(peeped(forget, 2, cell), 0)
    cell = p.like(p.like(forget, "mul", y=cell), "add", y=p.like(i, "mul", y=side.gate(c, 1)))
    return [p.like(side.gate(peeped(o, 1, cell), 0), "mul", y=side.gate(cell, 2)), cell]

"""Recurrent layers: LSTM as MIL's own layer, GRU and RNN unrolled over the known number of steps.

MIL's `gru` documents two contradicting reset gates and no bias of the hidden state before iOS 18, so it is not used.
Backward directions reverse the sequence before and after, which leaves no doubt about the order of the results.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.recurrent import Recurrent
from compiler.target import Need
from compiler.tensor import Array
from targets.coreml.lower.table import FLOAT, Lowering, constant_operands, lowers, op_need
from targets.coreml.mil import Operand, Var

MAX_STEPS = 512  # of an unrolled layer; more would make a program of tens of thousands of operations
SHORT = Need(text=f"at most {MAX_STEPS} steps", holds=lambda node: node.input_types[0].shape[0] <= MAX_STEPS)  # type: ignore[union-attr,operator]  # x is given and static
GATE_KINDS = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu", "Softsign": "softsign", "Softplus": "softplus"}
LSTM_KINDS = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu"}


class Side(NamedTuple):
    """One direction: the sequence in the order it is computed [T,B,I], weights and biases, initial states [B,H]."""

    x: Var
    w: Array
    r: Array
    wb: Array
    rb: Array
    states: list[Var]
    functions: tuple[str, ...]
    backward: bool


def _known(allowed: dict[str, str]) -> Need:
    return op_need(f"activations among {', '.join(allowed)}", lambda op: set(op.functions) <= set(allowed))


UNCLIPPED = op_need("no clip", lambda op: op.clip == inf)
WEIGHTS = constant_operands(1, 2, 3, 4)


def _sides(p: Lowering, node: Node, op: Recurrent) -> list[Side]:
    x = p[_given(node, 0)]
    w, r = (np.asarray(_given(node, i).data) for i in (1, 2))
    directions, wide, hidden = w.shape[0], w.shape[1], r.shape[2]
    b = node.inputs[3] if len(node.inputs) > 3 else None
    bias = np.zeros((directions, 2 * wide), w.dtype) if b is None else np.asarray(b.data)
    batch = x.shape[1]
    per = len(op.functions) // directions
    sides = []
    for d in range(directions):
        backward = op.direction == "reverse" or d == 1
        states = [_initial(p, node, 5 + i, d, batch, hidden) for i in range(op.states)]
        seen = p.like(x, "reverse", axes=[0]) if backward else x
        functions = op.functions[d * per : (d + 1) * per]
        sides.append(Side(seen, w[d], r[d], bias[d, :wide], bias[d, wide:], states, functions, backward))
    return sides


def _given(node: Node, index: int) -> Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _initial(p: Lowering, node: Node, index: int, direction: int, batch: int, hidden: int) -> Var:
    given = node.inputs[index] if index < len(node.inputs) else None
    if given is None:
        return p.program.const(np.zeros((batch, hidden), np.float32), p.precision, name="zero_state")
    v = p[given]
    if v.shape[0] > 1:
        ends = [direction + 1, batch, hidden]
        v = p.add("slice_by_index", {"x": v, "begin": [direction, 0, 0], "end": ends}, v.dtype, (1, batch, hidden))
    return p.reshape(v, (batch, hidden))


def _finish(p: Lowering, node: Node, sequences: list[Var], states: list[list[Var]]) -> None:
    """Stack the directions: sequences [T,B,H] to [T,D,B,H], last states [B,H] to [D,B,H]."""
    steps, batch, hidden = sequences[0].shape
    parts = [p.reshape(s, (steps, 1, batch, hidden)) for s in sequences]
    p.bind(node.outputs[0], _joined(p, parts, 1))
    for v, of_directions in zip(node.outputs[1:], zip(*states, strict=True), strict=True):
        p.bind(v, _joined(p, [p.reshape(s, (1, batch, hidden)) for s in of_directions], 0))


def _joined(p: Lowering, parts: list[Var], axis: int) -> Var:
    if len(parts) == 1:
        return parts[0]
    shape = tuple(sum(v.shape[axis] for v in parts) if i == axis else d for i, d in enumerate(parts[0].shape))
    return p.add("concat", {"values": parts, "axis": axis}, parts[0].dtype, shape)


def _reordered(gates: Array, order: tuple[int, ...]) -> Array:
    """Rows of [G*H, ...] with the gates in another order."""
    n = len(gates) // len(order)
    return np.concatenate([gates[k * n : (k + 1) * n] for k in order])


ALL_STEPS = op_need("no input-forget coupling", lambda op: not op.input_forget)


@lowers(ops.LSTM, needs=[FLOAT, WEIGHTS, UNCLIPPED, ALL_STEPS, _known(LSTM_KINDS)])
def _lstm(p: Lowering, node: Node, op: ops.LSTM) -> None:
    """ONNX orders the gates i, o, f, c; MIL i, f, o, c, and the peepholes alike."""
    order = (0, 2, 1, 3)
    peepholes = node.inputs[7] if len(node.inputs) > 7 else None
    sequences, states = [], []
    for d, side in enumerate(_sides(p, node, op)):
        steps, batch, _ = side.x.shape
        hidden = side.r.shape[1]
        operands: dict[str, Operand | None] = {
            "x": side.x,
            "initial_h": side.states[0],
            "initial_c": side.states[1],
            "weight_ih": p.program.const(_reordered(side.w, order), p.precision, name="weight_ih"),
            "weight_hh": p.program.const(_reordered(side.r, order), p.precision, name="weight_hh"),
            "bias": p.program.const(_reordered(side.wb + side.rb, order), p.precision, name="bias"),
            "direction": "forward",
            "output_sequence": True,
            "recurrent_activation": LSTM_KINDS[side.functions[0]],
            "cell_activation": LSTM_KINDS[side.functions[1]],
            "activation": LSTM_KINDS[side.functions[2]],
        }
        if peepholes is not None:
            held = np.asarray(peepholes.data)[d]
            operands["peephole"] = p.program.const(_reordered(held, (0, 2, 1)), p.precision, name="peephole")
        types = [(p.precision, (steps, batch, hidden)), *[(p.precision, (batch, hidden))] * 2]
        y, h, c = p.program.op("lstm", operands, types, node.outputs[0].name or "lstm")
        sequences.append(p.like(y, "reverse", axes=[0]) if side.backward else y)
        states.append([h, c])
    _finish(p, node, sequences, states)


@lowers(ops.GRU, ops.RNN, needs=[FLOAT, WEIGHTS, UNCLIPPED, SHORT, _known(GATE_KINDS)])
def _unrolled(p: Lowering, node: Node, op: ops.GRU) -> None:
    """The products with the inputs are one matmul for all steps; each step then adds its state's."""
    step = _gru_step if isinstance(op, ops.GRU) else _rnn_step
    sequences, states = [], []
    for side in _sides(p, node, op):
        steps, batch, features = side.x.shape
        wide = side.w.shape[0]
        early = side.wb + _early_bias(side, op)
        rows = p.reshape(side.x, (steps * batch, features))
        seen = p.add(
            "linear",
            {"x": rows, "weight": _const(p, side.w), "bias": _const(p, early)},
            p.precision,
            (steps * batch, wide),
        )
        seen = p.reshape(seen, (steps, batch, wide))
        h, collected = side.states[0], []
        types = [(p.precision, (1, batch, wide))] * steps
        each = p.program.op("split", {"x": seen, "num_splits": steps, "axis": 0}, types) if steps > 1 else [seen]
        for now in each:
            h = step(p, side, p.reshape(now, (batch, wide)), h, op)
            collected.append(p.reshape(h, (1, *h.shape)))
        y = _joined(p, collected, 0)
        sequences.append(p.like(y, "reverse", axes=[0]) if side.backward else y)
        states.append([h])
    _finish(p, node, sequences, states)


def _const(p: Lowering, data: Array) -> Var:
    return p.program.const(data, p.precision, name="weight", key=(data.shape, data.tobytes()))


def _early_bias(side: Side, op: Recurrent) -> Array:
    """The part of the state's bias that can be added before the loop: all of it, unless a gate multiplies it."""
    if isinstance(op, ops.GRU) and op.linear_before_reset:
        n = len(side.rb) // 3
        return np.concatenate([side.rb[: 2 * n], np.zeros(n, side.rb.dtype)])
    return side.rb


def _gate(p: Lowering, x: Var, function: str) -> Var:
    return p.like(x, GATE_KINDS[function])


def _rnn_step(p: Lowering, side: Side, seen: Var, h: Var, op: Recurrent) -> Var:
    product = p.add(
        "linear", {"x": h, "weight": _const(p, side.r), "bias": _const(p, np.zeros_like(side.rb))}, h.dtype, h.shape
    )
    return _gate(p, p.like(seen, "add", y=product), side.functions[0])


def _gru_step(p: Lowering, side: Side, seen: Var, h: Var, op: ops.GRU) -> Var:
    """H = (1 - z) h + z H = h + z (H - h)."""
    batch, n = h.shape
    f, g = side.functions
    zr_seen, c_seen = p.program.op(
        "split", {"x": seen, "split_sizes": [2 * n, n], "axis": 1}, [(h.dtype, (batch, 2 * n)), (h.dtype, (batch, n))]
    )

    def product(rows: Array, bias: Array, x: Var) -> Var:
        return p.add(
            "linear", {"x": x, "weight": _const(p, rows), "bias": _const(p, bias)}, h.dtype, (batch, len(rows))
        )

    zeros = np.zeros_like(side.rb)
    zr = _gate(p, p.like(zr_seen, "add", y=product(side.r[: 2 * n], zeros[: 2 * n], h)), f)
    z, reset = p.program.op("split", {"x": zr, "num_splits": 2, "axis": 1}, [(h.dtype, (batch, n))] * 2)
    if op.linear_before_reset:
        inner = p.like(reset, "mul", y=product(side.r[2 * n :], side.rb[2 * n :], h))
    else:
        inner = product(side.r[2 * n :], zeros[2 * n :], p.like(reset, "mul", y=h))
    candidate = _gate(p, p.like(c_seen, "add", y=inner), g)
    return p.like(candidate, "add", y=p.like(z, "mul", y=p.like(h, "sub", y=candidate)))

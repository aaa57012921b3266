"""Recurrent layers: the fused operators where they compute the same, else step by step.

The fused operators keep their states from one invocation to the next. Here every invocation begins with the model's
own initial states: an SVDF with a memory of one step overwrites its state with a product of its input, and shares that
state with the recurrent operator behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.recurrent import Recurrent
from compiler.target import Need
from compiler.tensor import Array
from targets.tflite.lower.gates import Step, gru_step, lstm_step, rnn_step
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import SOURCE, constant_operands, lowers
from targets.tflite.model import Tensor

MAX_STEPS = 128  # of a layer that is unrolled
TANH = 4  # ActivationFunctionType
RELU = 1
STATES = {"h": 5, "c": 6}
FUSED_RNN = {"Tanh": TANH, "Relu": RELU}


def _operand(node: Node, index: int) -> Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _whole(node: Node) -> bool:
    """Whether all sequences have the full length."""
    lens, x = _operand(node, 4), node.inputs[0]
    assert x is not None
    return lens is None or (lens.data is not None and bool((lens.data == x.type.dims[0]).all()))


def _is_fused(node: Node) -> bool:
    """Whether a fused operator computes exactly this layer."""
    op = node.op
    assert isinstance(op, Recurrent)
    if op.clip < inf or op.alpha or op.beta or isinstance(op, ops.GRU):
        return False
    if isinstance(op, ops.LSTM):
        default = op.functions == op.default_functions * (2 if op.direction == "bidirectional" else 1)
        return default and not op.input_forget and _operand(node, 7) is None
    return all(f in FUSED_RNN for f in op.functions)


def _short(node: Node) -> bool:
    x = node.inputs[0]
    assert x is not None
    return _is_fused(node) or x.type.dims[0] <= MAX_STEPS


class Run(NamedTuple):
    """One direction: y [T,B,H] in the order of x, and functions that give the last states [B,H]."""

    y: Tensor
    states: list[Callable[[], Tensor]]


NEEDS = [
    Need(text="constant weights and biases", holds=constant_operands(1, 2, 3, 7).holds, source=SOURCE),
    Need(text="sequences of one length, which is the whole (sequence_lens constant or absent)", holds=_whole),
    Need(
        text=f"at most {MAX_STEPS} steps unless it is an LSTM or a simple RNN with the usual activations", holds=_short
    ),
]


@lowers(ops.LSTM, ops.GRU, ops.RNN, needs=NEEDS)
def _recurrent(p: Lowering, node: Node, op: Recurrent) -> None:
    (first, *_) = node.inputs
    assert first is not None
    x = p.get(first)
    directions = node.outputs[1].type.dims[0]
    runs = [_run(p, node, op, x, d) for d in range(directions)]
    y = p.concat([p.reshape(r.y, (r.y.shape[0], 1, *r.y.shape[1:])) for r in runs], 1)
    p.bind(node.outputs[0], y)
    for i, v in enumerate(node.outputs[1:], 1):
        if v.is_read:
            p.bind(v, p.concat([p.reshape(r.states[i - 1](), (1, *v.type.dims[1:])) for r in runs], 0))


def _run(p: Lowering, node: Node, op: Recurrent, x: Tensor, d: int) -> Run:
    """One direction; a backward one reads and gives time in reverse."""
    backwards = op.direction == "reverse" or d == 1
    if backwards and x.shape[0] > 1:
        x = p.add("REVERSE_V2", [x, p.ints([0])], x.dtype, x.shape)
    w, r = (np.asarray(v.data)[d] for v in node.inputs[1:3] if v is not None)
    b = _operand(node, 3)
    biases: Array = np.zeros(2 * len(w)) if b is None or b.data is None else np.asarray(b.data, np.float64)[d]
    steps = x.shape[0]
    reads_cell = len(node.outputs) > 2 and node.outputs[2].is_read
    started = any(_operand(node, i) is not None for i in STATES.values())
    if _is_fused(node) and not (steps <= 2 and (reads_cell or started)):
        run = _fused(p, node, op, x, (w, r, biases), d)
    else:
        run = _unrolled(p, node, op, x, (w, r, biases), d)
    if backwards and steps > 1:
        return run._replace(y=p.add("REVERSE_V2", [run.y, p.ints([0])], run.y.dtype, run.y.shape))
    return run


def _initial(p: Lowering, node: Node, name: str, d: int) -> Tensor | None:
    """An initial state [B,H] of one direction, None if it is zero."""
    v = _operand(node, STATES[name])
    if v is None or (v.data is not None and not v.data.any()):
        return None
    return p.reshape(p.part(p.get(v), 0, d, d + 1), v.type.dims[1:])


def _state(p: Lowering, initial: Tensor | None, batch: int, hidden: int) -> Tensor:
    """A state tensor, set by every invocation."""
    state = Tensor("state", "FLOAT32", (batch, hidden))
    state.variable = True
    if initial is None:
        source, weight = p.const(np.zeros((batch, 1)), "FLOAT32"), p.const(np.zeros((hidden, 1)), "FLOAT32")
    else:
        source, weight = initial, p.const(np.eye(hidden), "FLOAT32")
    time = p.const(np.ones((hidden, 1)), "FLOAT32")
    p.add("SVDF", [source, weight, time, None, state], "FLOAT32", (batch, hidden), Rank=1)
    return state


def _fused(p: Lowering, node: Node, op: Recurrent, x: Tensor, weights: tuple[Array, Array, Array], d: int) -> Run:
    w, r, biases = weights
    steps, batch = x.shape[:2]
    n = r.shape[1]
    hidden = _state(p, _initial(p, node, "h", d), batch, n)
    bias = biases[: len(w)] + biases[len(w) :]
    if isinstance(op, ops.LSTM):
        cell = _state(p, _initial(p, node, "c", d), batch, n)
        gates = [slice(k * n, (k + 1) * n) for k in (0, 2, 3, 1)]  # input, forget, cell, output
        parts = [p.weight(np.ascontiguousarray(m[g]), "FLOAT32", "gate") for m in (w, r) for g in gates]
        shifts = [p.const(bias[g], "FLOAT32") for g in gates]
        inputs = [x, *parts, None, None, None, *shifts, None, None, hidden, cell, None, None, None, None]
        options = {"FusedActivationFunction": TANH, "CellClip": 0.0, "ProjClip": 0.0, "TimeMajor": True}
        y = p.add("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, "FLOAT32", (steps, batch, n), **options)
    else:
        operands = [x, *(p.weight(m, "FLOAT32", "gate") for m in (w, r)), p.const(bias, "FLOAT32"), hidden]
        options = {"FusedActivationFunction": FUSED_RNN[op.functions[d]], "TimeMajor": True}
        y = p.add("UNIDIRECTIONAL_SEQUENCE_RNN", operands, "FLOAT32", (steps, batch, n), **options)

    def last_hidden() -> Tensor:
        return p.reshape(p.part(y, 0, steps - 1, steps), (batch, n))

    def last_cell() -> Tensor:
        after = p.unary("ZEROS_LIKE", last_hidden())
        return p.add("ADD_N", [cell, after], "FLOAT32", (batch, n))

    return Run(y, [last_hidden, last_cell])


def _given(state: Tensor) -> Tensor:
    return state


def _unrolled(p: Lowering, node: Node, op: Recurrent, x: Tensor, weights: tuple[Array, Array, Array], d: int) -> Run:
    w, r, biases = weights
    steps, batch, features = x.shape
    n = r.shape[1]
    flat = p.reshape(x, (steps * batch, features))
    seen = p.fully_connected(flat, p.weight(w, "FLOAT32", "w"), p.const(biases[: len(w)], "FLOAT32"))
    peepholes = _operand(node, 7)
    step = Step(
        node, op, d, p.weight(r, "FLOAT32", "r"), p.const(biases[len(w) :], "FLOAT32"), r, biases[len(w) :],
        None if peepholes is None else np.asarray(peepholes.data)[d],
    )  # fmt: skip
    names = ("h", "c") if isinstance(op, ops.LSTM) else ("h",)
    zero = p.const(np.zeros((batch, n)), "FLOAT32")
    states = [_initial(p, node, name, d) or zero for name in names]
    advance = lstm_step if isinstance(op, ops.LSTM) else gru_step if isinstance(op, ops.GRU) else rnn_step
    rows = p.split(seen, [batch] * steps, 0)
    hidden = []
    for row in rows:
        states = advance(p, step, row, states)
        hidden.append(p.reshape(states[0], (1, batch, n)))
    return Run(p.concat(hidden, 0), [partial(_given, s) for s in states])

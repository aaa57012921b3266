"""Recurrent layers that a fused operator computes; the others take their steps one by one (passes/decompose).

The fused operators keep their states from one invocation to the next. Here every invocation begins with the model's
own initial states: an SVDF with a memory of one step overwrites its state with a product of its input, and shares that
state with the recurrent operator behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.ops.recurrent import Recurrent
from compiler.target import Need
from compiler.tensor import Array
from passes._decompose_recurrent import MAX_STEPS, whole_lengths
from passes._gates import operand
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import lowers
from targets.tflite.model import Tensor

SHORT = 2  # steps of a layer that takes fewer operators one by one, if states are given or read
TANH = 4  # ActivationFunctionType
RELU = 1
STATES = {"h": 5, "c": 6}
FUSED_RNN = {"Tanh": TANH, "Relu": RELU}


def _is_fused(node: Node) -> bool:
    """Whether a fused operator computes exactly this layer."""
    op = node.op
    assert isinstance(op, Recurrent)
    given = [operand(node, i) for i in (1, 2, 3)]
    if any(v is not None and v.data is None for v in given) or not whole_lengths(node):
        return False
    if op.clip < inf or op.alpha or op.beta or isinstance(op, ops.GRU):
        return False
    if isinstance(op, ops.LSTM):
        default = op.functions == op.default_functions * (2 if op.direction == "bidirectional" else 1)
        return default and not op.input_forget and operand(node, 7) is None
    return all(f in FUSED_RNN for f in op.functions)


def _saves(node: Node) -> bool:
    """Whether it takes fewer operators than the steps: a state that is set or read has operators of its own."""
    x = node.inputs[0]
    assert x is not None
    reads_cell = len(node.outputs) > 2 and node.outputs[2].is_read
    return x.type.dims[0] > SHORT or not (reads_cell or any(operand(node, i) is not None for i in STATES.values()))


class Run(NamedTuple):
    """One direction: y [T,B,H] in the order of x, and functions that give the last states [B,H]."""

    y: Tensor
    states: list[Callable[[], Tensor]]


NEEDS = [
    Need(
        text=f"an LSTM or a simple RNN with constant weights, sequences of one length and the usual activations; others"
        f" of at most {MAX_STEPS} steps are decomposed (cut the sequence, and carry the state from one part to the"
        " next)",
        holds=_is_fused,
    ),
    Need(text=f"more than {SHORT} steps, or no state that is given or read", holds=_saves),
]


@lowers(ops.LSTM, ops.RNN, needs=NEEDS)
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
    if op.direction != "reverse" and d == 0:
        return _fused(p, node, op, x, d)
    run = _fused(p, node, op, _reversed(p, x), d)
    return run._replace(y=_reversed(p, run.y))


def _reversed(p: Lowering, x: Tensor) -> Tensor:
    """`x` [T,B,*] with the time in reverse."""
    return p.add("REVERSE_V2", [x, p.ints([0])], x.dtype, x.shape) if x.shape[0] > 1 else x


def _initial(p: Lowering, node: Node, name: str, d: int) -> Tensor | None:
    """An initial state [B,H] of one direction, None if it is zero."""
    v = operand(node, STATES[name])
    if v is None or (v.data is not None and not v.data.any()):
        return None
    if v.data is not None:
        return p.const(v.data[d], "FLOAT32")
    return p.reshape(p.part(p.get(v), 0, d, d + 1), v.type.dims[1:])


class State(NamedTuple):
    """A state tensor, and what tells that it is set if that has to wait for something: a tensor computed with it."""

    tensor: Tensor
    is_set: Tensor | None


def _state(p: Lowering, initial: Tensor | None, batch: int, hidden: int) -> State:
    """A state tensor, set by every invocation."""
    state = Tensor("state", "FLOAT32", (batch, hidden))
    state.variable = True
    if initial is None:
        source, weight = p.const(np.zeros((batch, 1)), "FLOAT32"), p.const(np.zeros((hidden, 1)), "FLOAT32")
    else:
        source, weight = initial, p.const(np.eye(hidden), "FLOAT32")
    time = p.const(np.ones((hidden, 1)), "FLOAT32")
    done = p.add("SVDF", [source, weight, time, None, state], "FLOAT32", (batch, hidden), Rank=1)
    return State(state, done if source.constant is None else None)


def _after(p: Lowering, x: Tensor, states: list[State]) -> Tensor:
    """`x` [T,B,I], computed from the computed states as well: where a delegate takes a part of the model, the runtime
    keeps to the order of what is read, which leaves out state tensors."""
    for state in states:
        if state.is_set is not None:
            nothing = p.reduce("SUM", p.unary("ZEROS_LIKE", state.is_set), [1])
            x = p.binary("ADD", x, nothing)
    return x


def _fused(p: Lowering, node: Node, op: Recurrent, x: Tensor, d: int) -> Run:
    w, r = (np.asarray(v.data)[d] for v in node.inputs[1:3] if v is not None)
    b = operand(node, 3)
    biases: Array = np.zeros(2 * len(w)) if b is None or b.data is None else np.asarray(b.data, np.float64)[d]
    steps, batch = x.shape[:2]
    n = r.shape[1]
    names = STATES if isinstance(op, ops.LSTM) else ("h",)
    states = [_state(p, _initial(p, node, name, d), batch, n) for name in names]
    x = _after(p, x, states)
    bias = biases[: len(w)] + biases[len(w) :]
    if isinstance(op, ops.LSTM):
        gates = [slice(k * n, (k + 1) * n) for k in (0, 2, 3, 1)]  # input, forget, cell, output
        parts = [p.weight(np.ascontiguousarray(m[g]), "FLOAT32", "gate") for m in (w, r) for g in gates]
        shifts = [p.const(bias[g], "FLOAT32") for g in gates]
        inputs = [x, *parts, None, None, None, *shifts, None, None, *(s.tensor for s in states), None, None, None, None]
        options = {"FusedActivationFunction": TANH, "CellClip": 0.0, "ProjClip": 0.0, "TimeMajor": True}
        y = p.add("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, "FLOAT32", (steps, batch, n), **options)
    else:
        operands = [x, *(p.weight(m, "FLOAT32", "gate") for m in (w, r)), p.const(bias, "FLOAT32"), states[0].tensor]
        options = {"FusedActivationFunction": FUSED_RNN[op.functions[d]], "TimeMajor": True}
        y = p.add("UNIDIRECTIONAL_SEQUENCE_RNN", operands, "FLOAT32", (steps, batch, n), **options)

    def last_hidden() -> Tensor:
        return p.reshape(p.part(y, 0, steps - 1, steps), (batch, n))

    def last_cell() -> Tensor:
        after = p.unary("ZEROS_LIKE", last_hidden())
        return p.add("ADD_N", [states[1].tensor, after], "FLOAT32", (batch, n))

    return Run(y, [last_hidden, last_cell])

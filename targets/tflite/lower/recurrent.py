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
from targets.tflite.lower.gates import make_step
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import lowers
from targets.tflite.model import Tensor

MAX_STEPS = 1024  # of a layer that is unrolled
PAIRED = 64  # hidden numbers up to which two directions take their steps together
TANH = 4  # ActivationFunctionType
RELU = 1
STATES = {"h": 5, "c": 6}
FUSED_RNN = {"Tanh": TANH, "Relu": RELU}


def _operand(node: Node, index: int) -> Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _lengths(node: Node) -> Value | None:
    """The lengths of the sequences, None where each is whole."""
    lens, x = _operand(node, 4), node.inputs[0]
    assert x is not None
    return None if lens is None or (lens.data is not None and bool((lens.data >= x.type.dims[0]).all())) else lens


def _is_fused(node: Node) -> bool:
    """Whether a fused operator computes exactly this layer."""
    op = node.op
    assert isinstance(op, Recurrent)
    given = [_operand(node, i) for i in (1, 2, 3)]
    if any(v is not None and v.data is None for v in given) or _lengths(node) is not None:
        return False
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
    Need(
        text=f"at most {MAX_STEPS} steps unless it is an LSTM or a simple RNN with constant weights, sequences of one"
        " length and the usual activations (cut the sequence, and carry the state from one part to the next)",
        holds=_short,
    ),
]


@lowers(ops.LSTM, ops.GRU, ops.RNN, needs=NEEDS)
def _recurrent(p: Lowering, node: Node, op: Recurrent) -> None:
    (first, *_) = node.inputs
    assert first is not None
    x = p.get(first)
    directions = node.outputs[1].type.dims[0]
    runs = _pair(p, node, x) if _is_pair(node) else [_run(p, node, op, x, d) for d in range(directions)]
    y = p.concat([p.reshape(r.y, (r.y.shape[0], 1, *r.y.shape[1:])) for r in runs], 1)
    p.bind(node.outputs[0], y)
    for i, v in enumerate(node.outputs[1:], 1):
        if v.is_read:
            p.bind(v, p.concat([p.reshape(r.states[i - 1](), (1, *v.type.dims[1:])) for r in runs], 0))


def _run(p: Lowering, node: Node, op: Recurrent, x: Tensor, d: int) -> Run:
    """One direction; a backward one reads and gives time in reverse."""
    backwards = op.direction == "reverse" or d == 1
    x = _reversed(p, node, x) if backwards else x
    steps = x.shape[0]
    reads_cell = len(node.outputs) > 2 and node.outputs[2].is_read
    started = any(_operand(node, i) is not None for i in STATES.values())
    if _is_fused(node) and not (steps <= 2 and (reads_cell or started)):
        run = _fused(p, node, op, x, d)
    else:
        run = _unrolled(p, node, [x], (d,))
    return run._replace(y=_reversed(p, node, run.y)) if backwards else run


def _reversed(p: Lowering, node: Node, x: Tensor) -> Tensor:
    """`x` [T,B,*] with the time of each sequence in reverse."""
    lens = _lengths(node)
    if lens is not None:
        return p.add("REVERSE_SEQUENCE", [x, p.get(lens)], x.dtype, x.shape, SeqDim=0, BatchDim=1)
    return p.add("REVERSE_V2", [x, p.ints([0])], x.dtype, x.shape) if x.shape[0] > 1 else x


def _initial(p: Lowering, node: Node, name: str, d: int) -> Tensor | None:
    """An initial state [B,H] of one direction, None if it is zero."""
    v = _operand(node, STATES[name])
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
    b = _operand(node, 3)
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


def _given(state: Tensor) -> Tensor:
    return state


def _is_pair(node: Node) -> bool:
    """Whether both directions take their steps together: fewer operators, at the price of products with zeros."""
    op, given = node.op, [_operand(node, i) for i in (1, 2, 3, 7)]
    assert isinstance(op, Recurrent)
    settings = (op.functions, op.alpha, op.beta)
    alike = all(v[: len(v) // 2] == v[len(v) // 2 :] for v in settings)
    constant = all(v is None or v.data is not None for v in given) and _lengths(node) is None
    small = node.outputs[1].type.dims[2] <= PAIRED
    return op.direction == "bidirectional" and alike and constant and small and not _is_fused(node)


def _pair(p: Lowering, node: Node, x: Tensor) -> list[Run]:
    both = _unrolled(p, node, [x, _reversed(p, node, x)], (0, 1))
    half = [both.y.shape[2] // 2] * 2
    first, second = p.split(both.y, half, 2)
    states = [p.split(state(), half, 1) for state in both.states]
    sides = [[partial(_given, parts[d]) for parts in states] for d in range(2)]
    return [Run(first, [*sides[0]]), Run(_reversed(p, node, second), [*sides[1]])]


def _unrolled(p: Lowering, node: Node, xs: list[Tensor], directions: tuple[int, ...]) -> Run:
    """Step by step: one direction, or both with their inputs in the order of their time."""
    steps, batch, features = xs[0].shape
    step = make_step(p, node, directions)
    flat = [p.reshape(x, (steps * batch, features)) for x in xs]
    seen = [p.split(part, [batch] * steps, 0) for part in step.seen(flat)]
    states = _first_states(p, node, step.hidden // len(directions), directions)
    lens = _lengths(node)
    alive = None if lens is None else _alive(p, p.get(lens), steps)
    rows = None if alive is None else p.split(alive, [batch] * steps, 0)
    hidden = []
    for t, parts in enumerate(zip(*seen, strict=True)):
        new = step.advance(p, parts, states)
        states = new if rows is None else [p.select(rows[t], a, b) for a, b in zip(new, states, strict=True)]
        hidden.append(states[0])
    y = p.concat(hidden, 0)
    y = y if alive is None else p.select(alive, y, p.scalar(0.0))
    return Run(p.reshape(y, (steps, batch, step.hidden)), [partial(_given, s) for s in states])


def _first_states(p: Lowering, node: Node, size: int, directions: tuple[int, ...]) -> list[Tensor]:
    """The states [B,D*H] before the first step."""
    x = node.inputs[0]
    assert x is not None
    zero = p.const(np.zeros((x.type.dims[1], size)), "FLOAT32")
    names = STATES if isinstance(node.op, ops.LSTM) else ("h",)
    return [p.concat([_initial(p, node, name, d) or zero for d in directions], 1) for name in names]


def _alive(p: Lowering, lens: Tensor, steps: int) -> Tensor:
    """Whether sequence b has not ended at time t [T*B,1]."""
    time = p.ints(np.arange(steps)[:, None])
    shape = (steps * lens.shape[0], 1)
    return p.reshape(p.binary("LESS", time, p.reshape(lens, (1, lens.shape[0]))), shape)

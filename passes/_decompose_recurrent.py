"""Recurrent layers step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.recurrent import Recurrent
from compiler.tensor import I32
from passes._decompose import Layers, decomposes
from passes._gates import make_step, operand, pieces

MAX_STEPS = 1024
PAIRED = 64  # hidden numbers up to which two directions take their steps together
STATES = {"h": 5, "c": 6}


class Run(NamedTuple):
    """One direction: y [T,B,H] in the order of x, and the last states [B,H]."""

    y: Value
    states: Sequence[Value]


@decomposes(ops.LSTM, ops.GRU, ops.RNN)
def unrolled(add: Layers, op: Recurrent, x: Value, *_: Value | None) -> tuple[Value, ...] | None:
    """A product of all inputs, and the layers of each step; None if there are too many. The constants of a gate are
    shared by all steps."""
    node = add.node
    steps, batch, _features = x.type.dims
    if steps > MAX_STEPS:
        return None
    directions, _batch, size = node.outputs[1].type.dims
    runs = _pair(add, node, x) if _is_pair(node) else [_run(add, node, op, x, d) for d in range(directions)]
    y = _joined(add, [add.reshape(run.y, (steps, 1, batch, size)) for run in runs], 1)
    lasts = zip(*(run.states for run in runs), strict=True)
    return (y, *(_joined(add, [add.reshape(s, (1, batch, size)) for s in last], 0) for last in lasts))


def whole_lengths(node: Node) -> bool:
    """Whether no sequence ends early."""
    lens, x = operand(node, 4), node.inputs[0]
    assert x is not None
    return lens is None or (lens.data is not None and bool((lens.data >= x.type.dims[0]).all()))


def _joined(add: Layers, parts: Sequence[Value], axis: int) -> Value:
    return parts[0] if len(parts) == 1 else add(ops.Concat(axis=axis), *parts)


def _run(add: Layers, node: Node, op: Recurrent, x: Value, d: int) -> Run:
    """One direction; a backward one takes the steps in reverse."""
    backwards = op.direction == "reverse" or d == 1
    lens = None if whole_lengths(node) else operand(node, 4)
    if lens is None or not backwards:
        return _steps(add, node, [x], (d,), backwards, lens)
    turn = ops.ReverseSequence(time_axis=0, batch_axis=1)
    run = _steps(add, node, [add(turn, x, lens)], (d,), False, lens)
    return run._replace(y=add(turn, run.y, lens))


def _is_pair(node: Node) -> bool:
    """Whether both directions take their steps together: fewer layers, at the price of products with zeros."""
    op, given = node.op, [operand(node, i) for i in (1, 2, 3, 7)]
    assert isinstance(op, Recurrent)
    settings = (op.functions, op.alpha, op.beta)
    alike = all(v[: len(v) // 2] == v[len(v) // 2 :] for v in settings)
    constant = all(v is None or v.data is not None for v in given) and whole_lengths(node)
    return op.direction == "bidirectional" and alike and constant and node.outputs[1].type.dims[2] <= PAIRED


def _pair(add: Layers, node: Node, x: Value) -> list[Run]:
    """Both directions: their states stand side by side."""
    last = x.type.dims[0] - 1
    both = _steps(add, node, [x, add.cut(x, 0, last, -1, -1)], (0, 1), False, None)
    half = [both.y.type.dims[2] // 2] * 2
    first, second = pieces(add, both.y, half, 2)
    states = [pieces(add, state, half, 1) for state in both.states]
    return [Run(first, [s[0] for s in states]), Run(add.cut(second, 0, last, -1, -1), [s[1] for s in states])]


def _steps(
    add: Layers, node: Node, xs: list[Value], directions: tuple[int, ...], backwards: bool, lens: Value | None
) -> Run:
    """One direction, or both with their inputs in the order of their time; `backwards`: from the last step on."""
    count, batch, features = xs[0].type.dims
    step = make_step(add, node, directions)
    flat = [add.reshape(x, (count * batch, features)) for x in xs]
    seen = [pieces(add, v, [batch] * count, 0) for v in step.seen(flat)]
    states = _first_states(add, node, step.hidden // len(directions), directions)
    alive = None if lens is None else _alive(add, lens, count)
    rows = None if alive is None else pieces(add, alive, [batch] * count, 0)
    hidden: list[Value] = []
    for t in reversed(range(count)) if backwards else range(count):
        new = step.advance([part[t] for part in seen], states)
        if rows is not None:
            new = [add(ops.Where(), rows[t], a, b) for a, b in zip(new, states, strict=True)]
        states = new
        hidden.append(states[0])
    y = _joined(add, hidden[::-1] if backwards else hidden, 0)
    y = y if alive is None else add(ops.Where(), alive, y, 0.0)
    return Run(add.reshape(y, (count, batch, step.hidden)), states)


def _first_states(add: Layers, node: Node, size: int, directions: tuple[int, ...]) -> list[Value]:
    """The states [B,D*H] before the first step."""
    x = node.inputs[0]
    assert x is not None
    batch, found = x.type.dims[1], []
    for name in STATES if isinstance(node.op, ops.LSTM) else ("h",):
        v = operand(node, STATES[name]) or add.const(np.zeros((max(directions) + 1, batch, size)), x.type.dtype)
        found.append(_joined(add, [add.reshape(add.cut(v, 0, d, d + 1), (batch, size)) for d in directions], 1))
    return found


def _alive(add: Layers, lens: Value, count: int) -> Value:
    """Whether sequence b has not ended at time t [T*B,1]."""
    (batch,) = lens.type.dims
    running = add(ops.Less(), add.const(np.arange(count)[:, None], I32), add.reshape(lens, (1, batch)))
    return add.reshape(running, (count * batch, 1))

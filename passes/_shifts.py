"""Constants that all numbers of a channel have in common, moved from the bias of one layer into those of the next."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.tensor import Array
from passes._bias import add_to_bias
from passes._fitted import data_of
from passes._linear import response
from passes._repair import Channels
from passes._scales import End, Factors

MOVES = (ops.ConvertLayout, ops.Identity, ops.Transpose, ops.Reshape, ops.Split, ops.Slice, ops.Concat)
MEANS = (ops.GlobalAveragePool, ops.GlobalMaxPool, ops.ReduceMean, ops.ReduceMax, ops.ReduceMin)  # f(x - c) = f(x) - c
MARGIN = 0.1  # of the range of a channel, below what was seen of it, where numbers may yet come
GIVING = (ops.Conv, ops.ConvTranspose, ops.Dense)


def shifts(graph: Graph, factors: Factors, channels: Mapping[Value, Channels]) -> Array:
    """What each channel can be lowered by, 0 if nothing, by the index of its factor."""
    made = np.zeros(factors.count)
    clips = _clips(graph, {e.node for e in factors.takes if _is_simple(e)})
    for end in factors.gives:
        y = end.node.outputs[0]
        if isinstance(end.node.op, GIVING) and len(end.node.inputs) > 2 and end.node.inputs[2] and y in channels:
            clipped = clips[y]
            if clipped is not None:
                low, high = channels[y].low, channels[y].high
                least = np.maximum(low - MARGIN * (high - low), 0)
                made[end.ids.reshape(-1)] = least if clipped else (low + high) / 2
    return made


def shift(graph: Graph, by: Array) -> int:
    """Lower the channels of a graph, of which `by` are the shifts; returns how many layers absorb them."""
    factors = Factors(graph)
    count = 0
    for end in factors.gives:
        if isinstance(end.node.op, GIVING) and by[end.ids].any():
            add_to_bias(graph, end.node, -by[end.ids.reshape(-1)])
    for end in factors.takes:
        if _is_simple(end) and by[end.ids].any():
            w = data_of(end.node.inputs[1])
            add_to_bias(graph, end.node, response(end.node.op, w, by[end.ids.reshape(-1)]))
            count += 1
    return count


def _is_simple(end: End) -> bool:
    """Whether a layer adds a bias, and answers a constant with one."""
    op, axis = end.node.op, 1 if isinstance(end.node.op, ops.Conv) else end.ids.ndim - 1
    along = end.ids.shape[axis] == end.ids.size
    return along and (type(op) is ops.Dense or (type(op) is ops.Conv and not any(op.pads)))


def _clips(graph: Graph, simple: set[Node]) -> dict[Value, bool | None]:
    """For each value whether a ReLU lies between it and the layers that absorb its constants; None if others read
    it."""
    known: dict[Value, bool | None] = {}
    for node in reversed(list(graph.nodes)):
        known.update({v: _is_clipped(v, simple, known) for v in node.outputs})
    return known


def _is_clipped(v: Value, simple: set[Node], known: Mapping[Value, bool | None]) -> bool | None:
    if v.n_out or not v.users:
        return None
    clipped = False
    for user in v.users:
        if user in simple and user.inputs[0] is v and user.inputs.count(v) == 1:
            continue
        if not isinstance(user.op, (ops.Relu, *MOVES, *MEANS)):
            return None
        found = [known[y] for y in user.outputs]
        if None in found:
            return None
        clipped = clipped or isinstance(user.op, ops.Relu) or any(found)
    return clipped

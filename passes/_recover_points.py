"""What the layers of a compressed graph should give: values of the original that are known by the same names.

A layer with weights is to give what the layer of its name gave. If a sum reads it whose other operand is computed
before, it is to give what the original's sum was, less that operand, so that it makes good the errors that come
along the other way (multi-branch enhancement of Y. He et al., Channel Pruning for Accelerating Very Deep Neural
Networks, 2017). The first part of a split is to give what lets the part behind, if it is pointwise, do the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.tensor import Array
from passes._compression import Rows, layer_names
from passes._gram import is_matrix

GATES: tuple[type[Op], ...] = (
    ops.Relu,
    ops.Clip,
    ops.LeakyRelu,
    ops.Gelu,
    ops.Silu,
    ops.HardSwish,
    ops.Sigmoid,
    ops.Tanh,
)


class Aim(NamedTuple):
    """What one layer is fitted to.

    node    the layer, in the compressed graph
    beside  what is added to its result, or to that of `behind`, computed before it
    point   the value that should agree, in the compressed graph
    wanted  the value with which, in the original
    behind  the pointwise layer between the result and `point`
    gate    the one activation that reads `point`
    """

    node: Node
    beside: Value | None
    point: Value
    wanted: Value
    behind: Node | None
    gate: Op | None

    @property
    def read(self) -> Value:
        """What the layer multiplies its weights with."""
        return _given(self.node.inputs[0])

    @property
    def last(self) -> Node:
        """The layer whose result, with what is added to it, is `point`."""
        return self.behind or self.node


def aims_of(before: Graph, after: Graph) -> list[Aim]:
    """Of all layers with weights of their own for which something is known, in the order of the graph."""
    known = {name: node.outputs[0] for name, node in layer_names(before).items()}
    names = {node.outputs[0]: name for name, node in layer_names(after).items()}
    places = {node: i for i, node in enumerate(after.nodes)}
    readers = Counter(id(v.data) for n in after.nodes for v in n.inputs if v is not None and v.data is not None)
    found = []
    for node in after.nodes:
        if not is_matrix(node) or not _first(_given(node.inputs[0])):
            continue
        if any(v is not None and readers[id(v.data)] > 1 for v in node.inputs[1:]):
            continue
        direct = _aim(node, node, known, names, places)
        behind = None if direct else _pointwise_behind(node)
        aim = direct or (behind and _aim(node, behind, known, names, places))
        if aim:
            found.append(aim)
    return found


def _aim(
    node: Node, last: Node, known: Mapping[str, Value], names: Mapping[Value, str], places: Mapping[Node, int]
) -> Aim | None:
    y = last.output
    total, beside = _sum_of(y, places[node], places)
    for point, other in ((total, beside), (y, None)):
        wanted = None if point is None else known.get(names[point])
        if point is not None and wanted is not None and _alike(point, wanted, axis_of(last)):
            gate = next(iter(point.users)).op if len(point.users) == 1 and not point.n_out else None
            behind = last if last is not node else None
            return Aim(node, other, point, wanted, behind, gate if isinstance(gate, GATES) else None)
    return None


def _sum_of(y: Value, place: int, places: Mapping[Node, int]) -> tuple[Value | None, Value | None]:
    """The sum that alone reads a value, if its other operand, which is returned too, is computed before."""
    user = next(iter(y.users), None)
    if user is None or y.n_out or len(y.users) > 1 or not isinstance(user.op, ops.Add):
        return None, None
    other = next((v for v in user.inputs if v is not None and v is not y), None)
    if other is None or other.data is not None or other.type != y.type or not _first(other):
        return None, None
    return (user.output, other) if other.node is None or places[other.node] < place else (None, None)


def _first(v: Value) -> bool:
    """Whether it is the one result of its layer that the stages of rows can tell."""
    return v.node is None or len(v.node.outputs) == 1


def _alike(point: Value, wanted: Value, axis: int) -> bool:
    a, b = point.type, wanted.type
    if a.dtype != b.dtype or a.rank != b.rank or not (a.is_static and b.is_static):
        return False
    return all(p == q for i, (p, q) in enumerate(zip(a.dims, b.dims, strict=True)) if i != axis % a.rank) and (
        a.dims[axis] <= b.dims[axis]
    )


def axis_of(node: Node) -> int:
    """Of the channels that a layer with weights computes."""
    return 1 if isinstance(node.op, ops.Conv) else -1


def _pointwise_behind(node: Node) -> Node | None:
    """The layer with weights that alone reads what a layer computes, place by place."""
    y = node.output
    user = next(iter(y.users), None)
    if user is None or len(y.users) > 1 or y.n_out or not is_matrix(user) or user.inputs[0] is not y:
        return None
    if isinstance(node.op, ops.Conv) != isinstance(user.op, ops.Conv) or getattr(node.op, "groups", 1) > 1:
        return None
    if not isinstance(user.op, ops.Conv):
        return user
    flat = {*_given(user.inputs[1]).type.dims[2:], *user.op.strides} == {1} and not any(user.op.pads)
    return user if flat and user.op.groups == 1 else None


def channels_kept(aims: Sequence[Aim], before: Graph, after: Graph, rows: Rows) -> dict[Value, Array]:
    """Which channels of the original each point has left, by the point. Channels stay in order, and each is one of
    those that it is nearest to: the sum of squared distances, relative to both squares, is least."""
    points = {a.point: (a.wanted, axis_of(a.last)) for a in aims}
    kept = {p: np.arange(p.type.dims[axis]) for p, (_, axis) in points.items()}
    unknown = [p for p, (wanted, axis) in points.items() if p.type.dims[axis] != wanted.type.dims[axis]]
    moments: dict[Value, list[Array]] = {}
    given = zip(
        rows.each(before, [points[p][0] for p in unknown]) if unknown else (),
        rows.each(after, unknown) if unknown else (),
        strict=True,
    )
    for old, new in given:
        for p, a, b in zip(unknown, old, new, strict=True):
            axis = points[p][1]
            x, y = (_by_channel(v, axis) for v in (b, a))
            parts = [np.square(x).sum(1), np.square(y).sum(1), x @ y.T]
            moments[p] = [m + n for m, n in zip(moments.get(p, [np.zeros(1)] * 3), parts, strict=True)]
    for p, (mine, whole, cross) in moments.items():
        total = np.maximum(mine[:, None] + whole, 1e-30)
        kept[p] = in_order((total - 2 * cross) / total)
    return kept


def _by_channel(x: Array, axis: int) -> Array:
    """[channels, places]."""
    return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1).astype(np.float64)


def in_order(costs: Array) -> Array:
    """An increasing choice of a column for each row [rows, columns] with the least sum."""
    rows, columns = costs.shape
    totals = np.zeros(columns + 1)  # of the rows so far, by how many columns are used up
    chosen: list[Array] = []
    for row in costs:
        sums = np.concatenate([[np.inf], totals[:-1] + row])
        best = np.minimum.accumulate(sums)
        chosen.append(_argmins(sums, best))
        totals = best
    found, at = np.zeros(rows, np.int64), columns
    for i in reversed(range(rows)):
        at = int(chosen[i][at]) - 1
        found[i] = at
    return found


def _argmins(sums: Array, best: Array) -> Array:
    """Where each running minimum was first reached."""
    falls = np.concatenate([[True], best[1:] < best[:-1]]) & (sums == best)
    return np.maximum.accumulate(np.where(falls, np.arange(len(sums)), 0))


def _given(v: Value | None) -> Value:
    assert v is not None
    return v

"""Groups of values whose channels can be padded together, whether that pays, and the padding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.ops.activation import Activation
from compiler.ops.conv import Conv
from compiler.tensor import Array as Data
from passes._roofline import Machine, is_depthwise

CHANNELS, RANK = 1, 4
ALONE = (Activation, ops.MaxPool, ops.AveragePool, ops.GlobalAveragePool, ops.GlobalMaxPool)
PAIRS = (ops.Add, ops.Sub, ops.Mul, ops.Max, ops.Min)
SWEEPS = 3  # in which groups are looked at again, with what was decided of their neighbours


class Group:
    """Values of one number of channels that are computed from one another, and the layers that compute them."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.nodes: dict[Node, int] = {}  # with their places in the graph
        self.convs: list[Node] = []  # that compute or read a member
        self.joined: Group | None = None

    def root(self) -> Group:
        """The group that this one has become part of."""
        group = self
        while group.joined is not None:
            group = group.joined
        return group


Groups = Mapping[Value, Group]


def find(graph: Graph) -> tuple[list[Group], dict[Value, Group]]:
    """The groups of a graph, and the group of each value that is in one."""
    of: dict[Value, Group] = {}
    for place, node in enumerate(graph.nodes):
        if _computes(node):
            group = of[node.output] = Group(node.output.type.dims[CHANNELS])
            group.nodes[node] = place
        elif _passes_on(node, of):
            _join(node, place, of)
    groups = list(dict.fromkeys(g.root() for g in of.values()))
    for node in graph.nodes:
        if isinstance(node.op, Conv):
            touched = [of[v].root() for v in (node.inputs[0], *node.outputs) if v in of and v is not None]
            for group in dict.fromkeys(touched):
                group.convs.append(node)
    return groups, {v: g.root() for v, g in of.items()}


def _is_image(v: Value | None) -> bool:
    return (
        v is not None and v.type.rank == RANK and v.type.is_static and v.type.dtype.is_float and v.type.layout is None
    )


def _is_conv(node: Node) -> bool:
    """With constant parameters."""
    given = all(v is None or v.data is not None for v in node.inputs[1:])
    return isinstance(node.op, Conv) and _is_image(node.inputs[0]) and given


def _computes(node: Node) -> bool:
    """Whether the channels of a layer's result are rows of its kernel."""
    return _is_conv(node) and isinstance(node.op, Conv) and node.op.groups == 1


def _passes_on(node: Node, of: Groups) -> bool:
    """Whether a layer computes each channel from the same one of its operands, all of them in groups."""
    if not _is_image(node.outputs[0]) or node.inputs[0] not in of:
        return False
    if isinstance(node.op, ALONE):
        return len(node.outputs) == 1
    if isinstance(node.op, PAIRS):
        return all(v in of and v.type.shape == node.output.type.shape for v in node.inputs if v is not None)
    return _is_conv(node) and is_depthwise(node)


def _join(node: Node, place: int, of: dict[Value, Group]) -> None:
    first, *others = dict.fromkeys(of[v].root() for v in node.inputs if v is not None and v in of)
    for other in others:
        first.nodes |= other.nodes
        other.joined = first
    first.nodes[node] = place
    of[node.output] = first


def gain(group: Group, padded: Iterable[Group], of: Groups, machine: Machine) -> float:
    """The seconds that padding a group saves, where these others are padded."""
    others = set(padded) - {group}
    return sum(_seconds(n, others, of, machine) - _seconds(n, {*others, group}, of, machine) for n in group.convs)


def total(group: Group, of: Groups, machine: Machine) -> float:
    """The seconds of the convolutions around a group as they are."""
    return sum(_seconds(n, set(), of, machine) for n in group.convs)


def _seconds(node: Node, padded: set[Group], of: Groups, machine: Machine) -> float:
    x, y = node.inputs[0], node.output
    assert x is not None
    counts = []
    for v in (x, y):
        channels = v.type.dims[CHANNELS]
        counts.append(machine.array.filled(channels) if v in of and of[v] in padded else channels)
    return machine.seconds(node, *counts)


def choose(groups: Sequence[Group], of: Groups, machine: Machine) -> list[Group]:
    """The groups whose padding saves time, each given that the others chosen are padded."""
    chosen = {g for g in groups if g.channels % machine.array.width}
    for _ in range(SWEEPS):
        left = {g for g in chosen if gain(g, chosen, of, machine) > 0}
        if left == chosen:
            break
        chosen = left
    return [g for g in groups if g in chosen and gain(g, chosen, of, machine) > 0]


def pad(graph: Graph, group: Group, width: int, live: dict[Node, Node]) -> list[Node]:
    """Pad the channels of a group with zeros to a number; readers that are no convolutions get them as they were.
    `live` holds what took the place of layers. Returns the new layers."""
    new: dict[Value, Value] = {}
    made: list[Node] = []
    nodes = [live.get(n, n) for n in sorted(group.nodes, key=group.nodes.__getitem__)]
    for node in nodes:
        y = new[node.output] = _rebuilt(graph, node, new, width)
        made.append(_layer(y))
    live.update(zip(group.nodes, [_layer(new[live.get(n, n).output]) for n in group.nodes], strict=True))
    for old, wide in new.items():
        for reader in [r for r in old.users if r not in nodes and _computes(r)]:
            y = _rebuilt(graph, reader, {old: wide}, width, filters=False)
            graph.replace(reader.output, y)
            live[reader] = _layer(y)
            made.append(live[reader])
            graph.erase(reader)
        made.append(_cut(graph, old, wide))
    graph.erase_unread([*nodes, *made])
    return [n for n in made if n.graph is not None]


def _rebuilt(graph: Graph, node: Node, new: Mapping[Value, Value], width: int, filters: bool = True) -> Value:
    """A layer that reads the padded operands; `filters`: and gives a padded result."""
    op, inputs = node.op, [None if v is None else new.get(v, v) for v in node.inputs]
    if isinstance(op, Conv):
        for i, v in enumerate(node.inputs[1:], start=1):
            if v is not None and v.data is not None:
                data = np.asarray(v.data)
                if i == 1 and op.groups == 1 and node.inputs[0] in new:
                    data = _padded(data, CHANNELS, width)
                inputs[i] = graph.const(_padded(data, 0, width) if filters else data, v.name, v.origin)
        op = op if op.groups == 1 else op.with_(groups=width)
    (y,) = graph.add(op, *inputs, before=node, origin=node.origin)
    return y


def _cut(graph: Graph, old: Value, wide: Value) -> Node:
    """The channels that there were, for all readers that are left."""
    dims, ends = wide.type.dims, list(wide.type.dims)
    ends[CHANNELS] = old.type.dims[CHANNELS]
    whole = ops.Slice(starts=(0,) * len(dims), ends=tuple(ends), steps=(1,) * len(dims))
    source = _layer(old)
    (y,) = graph.add(whole, wide, before=source, origin=source.origin)
    graph.replace(old, y)
    return _layer(y)


def _padded(data: Data, axis: int, width: int) -> Data:
    return np.pad(data, [(0, width - d if i == axis else 0) for i, d in enumerate(data.shape)])


def _layer(v: Value) -> Node:
    assert v.node is not None
    return v.node

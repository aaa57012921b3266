"""Run convolutions, or dense layers, that read one input with alike windows as one with all their channels.

conv(x, w1), conv(x, w2) = split(conv(x, concat(w1, w2))) along the channels, likewise for biases (zeros where there are
none) and dense layers (horizontal fusion, arXiv:1802.04799). Weights are copied, so no default pipeline does this.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from compiler.graph import NOWHERE, Graph, Node
from compiler.ops.conv import Conv
from compiler.ops.matmul import Dense
from compiler.ops.parts import Split
from compiler.pass_base import Pass
from compiler.rewrite import Firing, Observer
from passes._linear import channel_axis, joined_weights, weight_kind


class MergeSiblings(Pass):
    """Conv without groups, and Dense, on one input, to one layer and a Split: at least `min_siblings`, of those that
    `takes`."""

    min_siblings: int = 2
    takes: Callable[[Node], bool] | None = None

    def run(self, graph: Graph, observer: Observer) -> int:
        groups: dict[Hashable, list[Node]] = {}
        for node in graph.nodes:
            is_alike = type(node.op) is Dense or (type(node.op) is Conv and node.op.groups == 1)
            if is_alike and (self.takes is None or self.takes(node)):
                groups.setdefault(weight_kind(node), []).append(node)
        fired = 0
        for kind, group in groups.items():
            if kind is not None and len(group) >= self.min_siblings and observer.allow():
                observer.fired(_merge(graph, group))
                fired += 1
        return fired

    def __str__(self) -> str:
        return str(self.with_(takes=None)) if self.takes else super().__str__()


def _merge(graph: Graph, group: list[Node]) -> Firing:
    """Put one layer where the first of them is, and let its parts take the place of their results."""
    first = group[0]
    axis = channel_axis(first.op, first.output.type)
    sizes = tuple(int(node.output.type.shape[axis]) for node in group)
    origin = NOWHERE.union(*(node.origin for node in group))
    constants = [graph.const(a) for a in joined_weights(group) if a is not None]
    (y,) = graph.add(first.op, first.inputs[0], *constants, before=first, origin=origin)
    parts = graph.add(Split(axis=axis, sizes=sizes), y, before=first, origin=origin)
    old = tuple(node.output for node in group)
    readers = tuple(user for v in old for user in v.users)
    for node, part in zip(group, parts, strict=True):
        graph.replace(node.output, part)
    erased = tuple(graph.erase_unread(group))
    return Firing("siblings", erased, tuple(v.node for v in (y, parts[0]) if v.node), old, parts, readers)

"""Orders of channels that depend on each other, and the bytes that move before and after they are chosen anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import prod

from compiler.graph import Graph, Node, Value
from compiler.ops.shape import Reshape
from passes._channel_places import Places, Run
from passes._channels import Base, Channels

LEAST = 64  # bytes of a pixel whose copying takes as long as that of fewer


class Regions:
    """Finds which regions would move fewer bytes in new orders.

    most      operands that a concat may have
    before    bytes that move as it is, for each region
    """

    def __init__(self, graph: Graph, channels: Channels, most: int) -> None:
        self.channels = channels
        self.most = most
        self.before: dict[int, int] = defaultdict(int)
        self._parent = list(range(len(channels.fixed)))
        idle = self._idle(graph)
        for b in channels.joined:
            for source in channels.sources(b.parts):
                if not channels.fixed[source.order]:
                    self._join(b.order, source.order)
        for node, order in idle.items():
            if not isinstance(node.op, Reshape):
                self.before[self._find(order)] += sum(2 * v.type.nbytes for v in node.outputs)

    def refuse(self, places: Places) -> None:
        """Fix the orders of the regions that would not move fewer bytes."""
        after: dict[int, int] = defaultdict(int)
        cut: dict[int, set[Run]] = defaultdict(set)
        for b in self.channels.joined:
            region = self._find(b.order)
            after[region] += self._bytes(b, places.runs(b), cut[region])
        for order in range(len(self._parent)):
            region = self._find(order)
            if after[region] >= self.before[region]:
                self.channels.fixed[order] = True

    def _bytes(self, base: Base, runs: list[Run], cut: set[Run]) -> int:
        t = self.channels.type(base)
        pixels, element = prod((t.dims[0], *t.dims[2:])), t.dtype.bits // 8
        sliced = {r for r in runs if not r.is_whole} - cut
        cut |= sliced
        widths = [r.width for r in runs]
        copies = [r.width for r in sliced] + (widths if len(runs) > 1 else [])
        copies += [sum(widths[i : i + n]) for i, n in joins(widths, self.most)[:-1]]
        return 2 * pixels * sum(max(width * element, LEAST) for width in copies)

    def _find(self, order: int) -> int:
        """The region of an order, by one of its orders."""
        while self._parent[order] != order:
            self._parent[order] = self._parent[self._parent[order]]
            order = self._parent[order]
        return order

    def _join(self, a: int, b: int) -> None:
        self._parent[self._find(a)] = self._find(b)

    def _idle(self, graph: Graph) -> dict[Node, int]:
        """Layers that nobody needs whose operand can be put together instead, with an order that is read there."""
        idle: dict[Node, int] = {}
        for node in reversed(list(graph.nodes)):
            if node in self.channels.movers:
                found = [idle.get(user, self._order(user, v)) for v in node.outputs for user in v.users]
                orders = [o for o in found if o is not None]
                if orders and len(orders) == len(found) and not any(v.n_out for v in node.outputs):
                    idle[node] = orders[0]
                    for o in orders:
                        self._join(o, orders[0])
        return idle

    def _order(self, user: Node, v: Value) -> int | None:
        """The order in which a layer reads an image, if that is free."""
        reading = self.channels.readings.get(user)
        if reading is None or user.inputs[reading.operand] is not v or self.channels.fixed[reading.base.order]:
            return None
        return reading.base.order


def joins(widths: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Which pieces side by side become one, step by step, as (first, count), until one is left: at most `most` at a
    time, the smallest first."""
    left, steps = list(widths), []
    while len(left) > 1:
        n = min(most, max(2, len(left) - most + 1)) if len(left) > most else len(left)
        _, i = min((sum(left[i : i + n]), i) for i in range(len(left) - n + 1))
        left[i : i + n] = [sum(left[i : i + n])]
        steps.append((i, n))
    return steps

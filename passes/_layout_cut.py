"""A labelling of variables by 0 and 1 of least cost, where a cost falls due if the members of a net differ.

A net costs its weight once, however many of its members differ from the others (E. L. Lawler, Cutsets and partitions
of hypergraphs, 1973); the least sum is a minimum cut, found by blocking flows (E. A. Dinic, 1970). Members that are
fixed part the variables into regions that are cut one by one. A region of more than `limit` variables is cut in
windows of consecutive ones, each with the labels before it fixed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

FIXED = (-1, -2)  # members of a net that have label 0 and label 1


class Net(NamedTuple):
    """Members (variables from 0 on, or FIXED labels) that cost `weight` if they do not all have one label."""

    weight: int
    members: tuple[int, ...]


class Cut(NamedTuple):
    """The labels, their cost, and a cost that no labels go below; equal unless a region was cut in windows."""

    labels: list[int]
    cost: int
    bound: int


def minimum_cut(count: int, nets: Sequence[Net], limit: int = 20_000) -> Cut:
    """The labels of `count` variables; those that no net ties to a fixed label get 0."""
    labels = [0] * count
    bound = sum(net.weight for net in nets if FIXED[0] in net.members and FIXED[1] in net.members)
    for variables, inside in _regions(count, nets):
        ends = {v for net in inside for v in net.members if v < 0}
        if len(ends) < 2:
            for v in variables if FIXED[1] in ends else ():
                labels[v] = 1
        elif len(variables) <= limit:
            bound += _cut(variables, inside, labels)
        else:
            bound += _windows(variables, inside, labels, limit)
    return Cut(labels, sum(net.weight for net in nets if _differ(net, labels)), bound)


def _differ(net: Net, labels: Sequence[int]) -> bool:
    first = net.members[0]
    one = labels[first] if first >= 0 else -1 - first
    return any((labels[v] if v >= 0 else -1 - v) != one for v in net.members)


def _regions(count: int, nets: Sequence[Net]) -> list[tuple[list[int], list[Net]]]:
    """Variables that nets connect, with the nets that cost something only for some of their labels."""
    parent = list(range(count))

    def root(v: int) -> int:
        while parent[v] != v:
            parent[v] = v = parent[parent[v]]
        return v

    open_nets = []
    for net in nets:
        members = tuple(dict.fromkeys(net.members))
        free = [v for v in members if v >= 0]
        if not free or len(members) < 2 or len(members) - len(free) == 2:
            continue
        open_nets.append((root(free[0]), Net(net.weight, members)))
        for v in free:
            parent[root(v)] = root(free[0])
    regions: dict[int, tuple[list[int], list[Net]]] = {}
    for v in range(count):
        regions.setdefault(root(v), ([], []))[0].append(v)
    for v, net in open_nets:
        regions[root(v)][1].append(net)
    return list(regions.values())


def _windows(variables: Sequence[int], nets: Sequence[Net], labels: list[int], limit: int) -> int:
    """Labels of a large region, window by window; returns the sum of what each must cost on its own."""
    place = {v: i // limit for i, v in enumerate(variables)}
    by_window: dict[int, list[Net]] = {}
    for net in nets:
        for w in {place[v] for v in net.members if v >= 0}:
            by_window.setdefault(w, []).append(net)
    bound = 0
    for w, touching in sorted(by_window.items()):
        own = list(variables[w * limit : (w + 1) * limit])
        whole = [net for net in touching if all(v < 0 or place[v] == w for v in net.members)]
        bound += minimum_cut(len(own), _renumbered(whole, own), limit).bound
        seen = [Net(net.weight, tuple(_known(net, w, place, labels))) for net in touching]
        for v, label in zip(own, minimum_cut(len(own), _renumbered(seen, own), limit).labels, strict=True):
            labels[v] = label
    return bound


def _known(net: Net, window: int, place: dict[int, int], labels: Sequence[int]) -> Iterator[int]:
    """The members of a net up to a window, those before it fixed."""
    for v in net.members:
        if v < 0 or place[v] == window:
            yield v
        elif place[v] < window:
            yield FIXED[labels[v]]


def _renumbered(nets: Sequence[Net], variables: Sequence[int]) -> list[Net]:
    number = {v: i for i, v in enumerate(variables)}
    return [Net(net.weight, tuple(number.get(v, v) for v in net.members)) for net in nets]


def _cut(variables: Sequence[int], nets: Sequence[Net], labels: list[int]) -> int:
    """Set the labels of one region; returns their cost."""
    flow = _Flow(len(variables))
    infinite = 1 + sum(net.weight for net in nets)
    number = {v: i for i, v in enumerate(variables, 2)}
    number.update({FIXED[0]: 0, FIXED[1]: 1})
    for net in nets:
        members = [number[v] for v in net.members]
        if len(members) == 2:
            flow.connect(members[0], members[1], net.weight, net.weight)
            continue
        first = 0 if 0 in members else flow.node()
        last = 1 if 1 in members else flow.node()
        flow.connect(first, last, net.weight, 0)
        for v in members:
            if v > 1 and first:
                flow.connect(v, first, infinite, 0)
            if v > 1 and last != 1:
                flow.connect(last, v, infinite, 0)
    total = flow.maximum()
    for v in variables:
        labels[v] = 0 if flow.level[number[v]] >= 0 else 1
    return total


class _Flow:
    """A network whose node 0 is the source (label 0) and whose node 1 is the sink (label 1)."""

    def __init__(self, variables: int) -> None:
        self.edges: list[list[int]] = [[] for _ in range(variables + 2)]  # of each node
        self.head: list[int] = []  # of each edge; edge e and its reverse e ^ 1 stand together
        self.left: list[int] = []  # capacity not used so far
        self.level: list[int] = []

    def node(self) -> int:
        """One more node."""
        self.edges.append([])
        return len(self.edges) - 1

    def connect(self, a: int, b: int, forth: int, back: int) -> None:
        """An edge from a to b, and the capacity of its reverse."""
        self.edges[a].append(len(self.head))
        self.edges[b].append(len(self.head) + 1)
        self.head += (b, a)
        self.left += (forth, back)

    def maximum(self) -> int:
        """The value of the maximum flow; `level` is then -1 where the source does not reach."""
        total = 0
        while self._reach():
            total += self._block()
        return total

    def _reach(self) -> bool:
        """Distances from the source over edges with capacity left; whether the sink is reached."""
        head, left = self.head, self.left
        level = self.level = [-1] * len(self.edges)
        level[0] = 0
        queue = deque((0,))
        while queue:
            a = queue.popleft()
            for e in self.edges[a]:
                b = head[e]
                if level[b] < 0 and left[e]:
                    level[b] = level[a] + 1
                    queue.append(b)
        return level[1] >= 0

    def _block(self) -> int:
        """Fill shortest paths until each has an edge without capacity left."""
        head, left, level = self.head, self.left, self.level
        ahead = [len(e) for e in self.edges]  # edges of each node that are still to be tried
        path: list[int] = []
        total = a = 0
        while True:
            if a == 1:
                least = min(left[e] for e in path)
                total += least
                for e in path:
                    left[e] -= least
                    left[e ^ 1] += least
                cut = next(i for i, e in enumerate(path) if not left[e])
                a = head[path[cut] ^ 1]
                del path[cut:]
            edges = self.edges[a]
            i = ahead[a] - 1
            while i >= 0 and not (left[edges[i]] and level[head[edges[i]]] == level[a] + 1):
                i -= 1
            ahead[a] = i + 1
            if i >= 0:
                path.append(edges[i])
                a = head[edges[i]]
            elif path:
                a = head[path.pop() ^ 1]
                ahead[a] -= 1
            else:
                return total

"""Rewrites: a pattern, a function that builds its replacement, and the driver that applies them.

The driver visits only layers that a rule's root can match, and again only what a firing touched, so its cost is
linear in the size of the graph. It unites provenance, checks types, and refuses a firing that adds work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from compiler.errors import GraphError, PassError
from compiler.graph import Graph, Node, Origin, Value
from compiler.op import Op
from compiler.pattern import Layer, Match, match
from compiler.tensor import Array, TensorType


class Skip(NamedTuple):
    """A rule's answer when it recognises its pattern but must not fire; the reason goes to the ledger."""

    reason: str


class Builder:
    """Adds the layers of a replacement just before the root of the match."""

    __slots__ = ("added", "before", "graph", "origin")

    def __init__(self, graph: Graph, before: Node, origin: Origin) -> None:
        self.graph = graph
        self.before = before
        self.origin = origin
        self.added: list[Node] = []

    def add(self, op: Op, *inputs: Value | None) -> Value:
        """A new layer with one result."""
        (value,) = self.add_many(op, *inputs)
        return value

    def add_many(self, op: Op, *inputs: Value | None) -> tuple[Value, ...]:
        """A new layer and its results."""
        values = self.graph.add(op, *inputs, before=self.before, origin=self.origin)
        assert values[0].node is not None
        self.added.append(values[0].node)
        return values

    def const(self, data: Any, like: Value | TensorType | None = None) -> Value:
        """A constant; `like` gives its element type and, if it is a value, its name and provenance."""
        kind = like.type if isinstance(like, Value) else like
        array: Array = np.asarray(data) if kind is None else np.asarray(data).astype(kind.dtype.numpy, copy=False)
        if isinstance(like, Value):
            return self.graph.const(array, like.name, like.origin)
        return self.graph.const(array)

    def undo(self) -> None:
        """Take back every layer that was added."""
        self.graph.erase_unread(reversed(self.added))


Result = Value | Sequence[Value] | Skip | None
Replace = Callable[[Match, Builder], Result]


class Rule(NamedTuple):
    """Where `find` matches, `replace` builds what takes the place of the root's results.

    `replace(match, builder)` returns a value (or one per result of the root layer), `Skip(reason)`, or None for
    "not here" without a line in the ledger.
    """

    find: Layer
    replace: Replace
    name: str = ""

    @property
    def label(self) -> str:
        """The name in the ledger."""
        return self.name or getattr(self.replace, "__name__", "rule").strip("_")


class Firing(NamedTuple):
    """One application of a rule: what it consumed and what it made (in the graph, unless read by nobody)."""

    rule: str
    erased: tuple[Node, ...]
    added: tuple[Node, ...]
    old: tuple[Value, ...]
    new: tuple[Value, ...]
    readers: tuple[Node, ...]


class Observer(Protocol):
    """Told of every firing and skip; may stop the driver by returning False from `allow`."""

    def allow(self) -> bool:
        """Whether one more firing may happen."""

    def fired(self, firing: Firing) -> None:
        """A rule was applied."""

    def skipped(self, rule: str, node: Node, reason: str) -> None:
        """A rule recognised a layer and declined."""


@runtime_checkable
class Meter(Protocol):
    """An observer that also wants to know what passes measure."""

    def measured(self, what: str, numbers: Mapping[str, int]) -> None:
        """A pass counted something in the graph that it leaves, whether it changed it or not."""


class Unobserved:
    """An observer that looks away."""

    def allow(self) -> bool:
        return True

    def fired(self, firing: Firing) -> None:
        pass

    def skipped(self, rule: str, node: Node, reason: str) -> None:
        pass


VISITS_PER_NODE = 50  # a rule set that visits more than this per layer does not terminate


def apply_rules(graph: Graph, rules: Iterable[Rule], observer: Observer, adds_work: bool = False) -> int:
    """Apply rules until none fires; returns the number of firings.

    Raises PassError if a rule adds multiply-accumulates without permission, gives a value of another type, or
    if the rules never come to rest.
    """
    by_root: dict[type[Op], list[Rule]] = {}
    for rule in rules:
        for op in rule.find.ops:
            by_root.setdefault(op, []).append(rule)
    queue = deque(graph.of(*by_root))
    queued = set(queue)
    budget = VISITS_PER_NODE * (len(queue) + 100)
    firings = 0
    while queue:
        node = queue.popleft()
        queued.discard(node)
        if node.is_erased:
            continue
        budget -= 1
        if budget < 0:
            raise PassError("the rewrites do not come to rest", where=node.describe())
        for rule in by_root[type(node.op)]:
            if not observer.allow():
                return firings
            firing = _try(graph, rule, node, observer, adds_work)
            if firing is None:
                continue
            firings += 1
            for touched in _touched(firing):
                if type(touched.op) in by_root and touched not in queued and not touched.is_erased:
                    queued.add(touched)
                    queue.append(touched)
            break
    return firings


def _try(graph: Graph, rule: Rule, node: Node, observer: Observer, adds_work: bool) -> Firing | None:
    m = match(rule.find, node)
    if m is None:
        return None
    layers = list(m.layers())
    origin: Origin = layers[0].origin if len(layers) == 1 else frozenset().union(*(n.origin for n in layers))
    builder = Builder(graph, node, origin)
    result = rule.replace(m, builder)
    if result is None or isinstance(result, Skip):
        builder.undo()
        if result is not None:
            observer.skipped(rule.label, node, result.reason)
        return None
    new = (result,) if isinstance(result, Value) else tuple(result)
    if len(new) != len(node.outputs):
        raise PassError(f"{rule.label} gives {len(new)} values for {len(node.outputs)}", where=node.describe())
    old = node.outputs
    readers = tuple(user for v in old for user in v.users)
    for a, b in zip(old, new, strict=True):
        try:
            graph.replace(a, b)
        except GraphError as e:
            raise PassError(f"{rule.label}: {e.message}", where=node.describe()) from e
    made = set(builder.added)
    erased = tuple(n for n in graph.erase_unread([node, *builder.added]) if n not in made)
    added = tuple(n for n in builder.added if not n.is_erased)
    if not adds_work:
        before, after = sum(n.macs for n in erased), sum(n.macs for n in added)
        if after > before:
            raise PassError(f"{rule.label} raises the work from {before} to {after} MACs", where=node.describe())
    firing = Firing(rule.label, erased, added, old, new, readers)
    observer.fired(firing)
    return firing


def _touched(firing: Firing) -> list[Node]:
    """Layers that may match now: new ones, those whose operands changed, and the last reader of what lost one."""
    touched = [*firing.added, *firing.readers]
    touched.extend(v.node for v in firing.new if v.node is not None)
    for node in firing.erased:
        for operand in node.inputs:
            if operand is not None and operand.node is not None and not operand.node.is_erased:
                touched.append(operand.node)
                if len(operand.users) == 1:
                    touched.extend(operand.users)
    return touched

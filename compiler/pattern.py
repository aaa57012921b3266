"""Patterns: plain data that say which layers a rewrite is about, and the matcher that finds them.

    X, W, B = Wild(), Const(), Maybe(Const())
    CONV = Layer(Conv, X, W, B)
    NORM = Layer(BatchNorm, CONV, Const(), Const(), Const(), Const())

The same pattern object used twice must meet the same value. A `Layer` below the root must be read by this match
alone (the graph's outputs count as readers) unless it says `shared=True`. The search is complete: if any choice of
alternatives and operand orders fits, it is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from compiler.graph import Node, Value
from compiler.op import Op
from compiler.tensor import Array

Test = Callable[[Value], bool]


class Pattern:
    """Base of all patterns; compared and hashed by identity, so a pattern object names its capture."""

    __slots__ = ()


class Wild(Pattern):
    """Any value; `where` may test it."""

    __slots__ = ("where",)

    def __init__(self, where: Test | None = None) -> None:
        self.where = where


class Const(Pattern):
    """A constant; with `equal`, one whose every element is that number, as exact as its element type can hold it
    and exporters write it (1e-6 of it, 1e-3 in 16 bits)."""

    __slots__ = ("equal", "where")

    def __init__(self, equal: float | None = None, where: Test | None = None) -> None:
        self.equal = equal
        self.where = where


class Maybe(Pattern):
    """An operand that may be absent; a present one must match the inner pattern."""

    __slots__ = ("inner",)

    def __init__(self, inner: Pattern) -> None:
        self.inner = inner


class OneOf(Pattern):
    """The first alternative with which the whole pattern matches; the capture is the value."""

    __slots__ = ("choices",)

    def __init__(self, *choices: Pattern) -> None:
        self.choices = choices


class Layer(Pattern):
    """The result `output` of a layer of one of the given operations, whose operands match.

    where      test on the operation's attributes
    any_order  also try the first two operands swapped (automatic for commutative operations with two operands)
    shared     the layer may have other readers; it then stays in the graph
    rest       further operands are allowed beyond those listed (variadic operations)
    """

    __slots__ = ("any_order", "heads", "operands", "ops", "output", "rest", "shared", "where", "whole")

    def __init__(
        self,
        op: type[Op] | tuple[type[Op], ...],
        *operands: Pattern,
        where: Callable[[Any], bool] | None = None,
        any_order: bool | None = None,
        shared: bool = False,
        rest: bool = False,
        output: int = 0,
    ) -> None:
        self.ops = op if isinstance(op, tuple) else (op,)
        self.operands = operands
        self.where = where
        commutative = len(operands) == 2 and all(o.commutative for o in self.ops)
        self.any_order = commutative if any_order is None else any_order
        self.shared = shared
        self.rest = rest
        self.output = output
        self.whole = self
        self.heads = tuple(_head(p) for p in operands)

    def out(self, index: int) -> Layer:
        """The same layer seen from another of its results; all views of it must be met on one layer."""
        whole = self.whole
        view = Layer(whole.ops, *whole.operands, where=whole.where, any_order=whole.any_order, rest=whole.rest)
        view.shared, view.output, view.whole = whole.shared, index, whole
        return view


Head = tuple[type[Op], ...] | None


def _head(p: Pattern) -> Head:
    """The operations that may compute a value that matches: none for a constant; None if it may be any value."""
    if isinstance(p, Layer):
        return p.ops
    if isinstance(p, Const):
        return ()
    heads = [_head(c) for c in p.choices] if isinstance(p, OneOf) else [None]
    return None if None in heads or () in heads else tuple(op for head in heads if head for op in head)


def _heads_fit(p: Layer, inputs: tuple[Value | None, ...]) -> bool:
    """Whether each operand, in this order, is computed by an operation that its pattern names, or is constant."""
    for head, v in zip(p.heads, inputs, strict=False):
        if head is None:
            continue
        if v is None:
            return False
        if head:
            if v.node is None or type(v.node.op) not in head:
                return False
        elif v.data is None:
            return False
    return True


class Match:
    """What a pattern met: `m[P]` is the array of a constant (or None for an absent operand), `m.value(P)` the
    value, `m.op(P)` the operation of a layer, `m.node(P)` the layer."""

    __slots__ = ("bound", "nodes", "root")

    def __init__(self, root: Node) -> None:
        self.root = root
        self.bound: dict[Pattern, Value | None] = {}
        self.nodes: dict[Layer, Node] = {}

    def __getitem__(self, pattern: Pattern) -> Array:
        value = self.bound.get(pattern)
        return None if value is None else value.data  # type: ignore[return-value]  # None only under Maybe

    def __contains__(self, pattern: Pattern) -> bool:
        return self.bound.get(pattern) is not None

    def value(self, pattern: Pattern) -> Value:
        """The value bound to a pattern that is not an absent `Maybe`."""
        value = self.bound[pattern]
        assert value is not None
        return value

    def maybe(self, pattern: Pattern) -> Value | None:
        """The value bound to a pattern, or None."""
        return self.bound.get(pattern)

    def node(self, pattern: Layer) -> Node:
        """The layer that a Layer pattern met."""
        return self.nodes[pattern.whole]

    def op(self, pattern: Layer) -> Any:
        """The operation of the layer that a Layer pattern met (typed Any: the pattern knows which class)."""
        return self.nodes[pattern.whole].op

    def layers(self) -> Iterator[Node]:
        """The layers of the match, each once, the root first."""
        return iter(dict.fromkeys(self.nodes.values()))


Goals = tuple[Pattern, Value | None, Any] | None  # what must still match: a linked list, shared between choices


def match(pattern: Layer, node: Node) -> Match | None:
    """Match a root pattern against a layer."""
    if type(node.op) not in pattern.ops or pattern.output >= len(node.outputs):
        return None
    inputs = node.inputs
    swapped = pattern.any_order and len(inputs) > 1
    if not _heads_fit(pattern, inputs) and not (swapped and _heads_fit(pattern, (inputs[1], inputs[0], *inputs[2:]))):
        return None
    found = Match(node)
    choices = _unfold(pattern, node, found, None)
    if not choices:
        return None
    found.bound[pattern] = node.outputs[pattern.output]
    found.nodes[pattern.whole] = node
    return found if _any(choices, found) else None


def _any(choices: tuple[Goals, ...], m: Match) -> bool:
    """Solve one of several lists of goals; what a failed one bound is taken back before the next is tried."""
    bound, nodes = len(m.bound), len(m.nodes)
    for goals in choices:
        if _solve(goals, m):
            return True
        while len(m.bound) > bound:
            m.bound.popitem()
        while len(m.nodes) > nodes:
            m.nodes.popitem()
    return False


def _solve(goals: Goals, m: Match) -> bool:
    """Depth-first search with the bindings as its trail; on failure the caller takes them back."""
    bound = m.bound
    while goals is not None:
        p, v, goals = goals
        if p in bound:
            if bound[p] is not v:
                return False
            continue
        choices = _enter(p, v, m, goals) if isinstance(p, Layer) else _inside(p, v, m, goals)
        if not choices:
            return False
        bound[p] = v
        if len(choices) > 1:
            return _any(choices, m)
        goals = choices[0]
    return _alone(m)


def _inside(p: Pattern, v: Value | None, m: Match, goals: Goals) -> tuple[Goals, ...]:
    """The choices of goals after meeting anything but a layer; none if the value does not fit."""
    if isinstance(p, OneOf):
        return tuple((c, v, goals) for c in p.choices if _may(c, v, m))
    if isinstance(p, Maybe):
        return (goals,) if v is None else ((p.inner, v, goals),)
    if v is None:
        return ()
    if isinstance(p, Const):
        return (goals,) if v.data is not None and _constant(p, v) else ()
    assert isinstance(p, Wild)
    return (goals,) if p.where is None or p.where(v) else ()


def _may(p: Pattern, v: Value | None, m: Match) -> bool:
    """Whether a value could match at first sight; cheap, and never False for one that matches."""
    if p in m.bound:
        return m.bound[p] is v
    if isinstance(p, Layer):
        return v is not None and v.node is not None and type(v.node.op) in p.ops
    if isinstance(p, Const):
        return v is not None and v.data is not None
    if isinstance(p, Maybe):
        return v is None or _may(p.inner, v, m)
    if isinstance(p, OneOf):
        return any(_may(c, v, m) for c in p.choices)
    return v is not None


def _constant(p: Const, v: Value) -> bool:
    if p.equal is not None:
        data, dtype = v.data, v.type.dtype
        assert data is not None
        if not dtype.is_real or not 0 < data.size <= 4096:
            return False
        near = abs(p.equal) * (1e-6 if dtype.bits > 16 else 1e-3)
        if data.size == 1:
            if not abs(float(data.item()) - p.equal) <= near:
                return False
        elif not bool(np.all(np.abs(data.astype(np.float64) - p.equal) <= near)):
            return False
    return p.where is None or p.where(v)


def _enter(p: Layer, v: Value | None, m: Match, goals: Goals) -> tuple[Goals, ...]:
    """The choices of goals after meeting a layer below the root; none if it does not fit."""
    if v is None or v.node is None or type(v.node.op) not in p.ops or v.index != p.output:
        return ()
    if v.n_out and not p.shared:
        return ()
    node, known = v.node, m.nodes.get(p.whole)
    if known is not None:
        return (goals,) if known is node else ()
    choices = _unfold(p, node, m, goals)
    if choices:
        m.nodes[p.whole] = node
    return choices


def _unfold(p: Layer, node: Node, m: Match, goals: Goals) -> tuple[Goals, ...]:
    """The goals for the operands of a layer, put before `goals`, in each order that may fit."""
    inputs, operands = node.inputs, p.operands
    if (len(inputs) > len(operands) and not p.rest) or (p.where is not None and not p.where(node.op)):
        return ()
    if len(inputs) < len(operands):
        inputs = inputs + (None,) * (len(operands) - len(inputs))
    orders: tuple[tuple[Value | None, ...], ...] = (inputs,)
    if p.any_order and inputs[0] is not inputs[1]:
        orders = (inputs, (inputs[1], inputs[0], *inputs[2:]))
    choices = []
    for order in orders:
        for operand, value in zip(operands, order, strict=False):
            if not _may(operand, value, m):
                break
        else:
            following = goals
            for i in range(len(operands) - 1, -1, -1):
                following = (operands[i], order[i], following)
            choices.append(following)
    return tuple(choices)


def _alone(m: Match) -> bool:
    """Whether nobody outside the match reads the layers that it would remove."""
    root, inside = m.root, m.nodes.values()
    for p, node in m.nodes.items():
        if p.shared or node is root:
            continue
        outputs = node.outputs
        if len(outputs) == 1 and len(outputs[0].users) == 1:
            continue  # its one reader is how it was met
        for v in outputs:
            if v.n_out or any(user not in inside for user in v.users):
                return False
    return True

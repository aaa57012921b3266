"""Rewrites with deliberate faults, by which checks are shown to catch what they are for."""

from __future__ import annotations

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.ops import Add, Cast, Clip, Identity, IsNaN, MatMul, Mul, Neg, Relu, Sub, Tanh, Where
from compiler.pass_base import ErrorClass, Pass, RewritePass
from compiler.pattern import Const, Layer, Match, Wild
from compiler.rewrite import Builder, Firing, Observer, Replace, Rule, apply_rules

X, Y, C = Wild(), Wild(), Const()
IDENTITY, RELU, TANH = Layer(Identity, X), Layer(Relu, X), Layer(Tanh, X)
SUM, BIASED = Layer(Add, X, Y, any_order=False), Layer(Add, X, C)


class GivenPass(RewritePass):
    """One rule, right but for rounding. Names that end in Pass are not registered for pipelines."""

    find: Layer
    replace: Replace

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(self.find, self.replace, "given"),)


class GivenExactPass(GivenPass):
    """One rule that claims to keep every bit."""

    error_class = ErrorClass.EXACT


class GivenLossyPass(GivenPass):
    """One rule that claims nothing about the numbers."""

    error_class = ErrorClass.LOSSY


class SilentPass(Pass):
    """Takes identities away without telling anybody."""

    def run(self, graph: Graph, observer: Observer) -> int:
        for node in graph.of(Identity):
            assert node.inputs[0] is not None
            graph.replace(node.output, node.inputs[0])
            graph.erase_unread([node])
        return 0


class Once(Observer):
    """Lets one rewrite happen, and passes word of it on."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.done = False

    def allow(self) -> bool:
        return not self.done and self.observer.allow()

    def fired(self, firing: Firing) -> None:
        self.done = True
        self.observer.fired(firing)

    def skipped(self, rule: str, node: Node, reason: str) -> None:
        self.observer.skipped(rule, node, reason)


class HastyPass(GivenPass):
    """Stops after one rewrite, so that a second run finds more to do."""

    def run(self, graph: Graph, observer: Observer) -> int:
        return apply_rules(graph, self.rules(), Once(observer))


def removed(m: Match, g: Builder) -> Value:
    """x: this is right for an identity."""
    return m.value(X)


def clipped(m: Match, g: Builder) -> Value:
    """max(x, 0): this is right for a relu."""
    return g.add(Clip(low=0.0), m.value(X))


def negated(m: Match, g: Builder) -> Value:
    """-x."""
    return g.add(Neg(), m.value(X))


def stretched(m: Match, g: Builder) -> Value:
    """x and a thousandth of it."""
    return g.add(Mul(), m.value(X), g.const(1.001, like=m.value(X).type))


def thirds(m: Match, g: Builder) -> Value:
    """(3 x) / 3: x but for rounding."""
    like = m.value(X).type
    return g.add(Mul(), g.add(Mul(), m.value(X), g.const(3, like=like)), g.const(1 / 3, like=like))


def cancelled(m: Match, g: Builder) -> Value:
    """(x + x) - x: x, but for infinities."""
    x = m.value(X)
    return g.add(Sub(), g.add(Add(), x, x), x)


def overflowing(m: Match, g: Builder) -> Value:
    """x times and over a power of two, which f32 cannot hold on the way."""
    like = m.value(X).type
    big, small = g.const(2.0**126, like=like), g.const(2.0**-126, like=like)
    return g.add(Mul(), g.add(Mul(), g.add(Mul(), g.add(Mul(), m.value(X), big), big), small), small)


def cleaned(m: Match, g: Builder) -> Value:
    """x with 0 where it is no number."""
    x = m.value(X)
    return g.add(Where(), g.add(IsNaN(), x), g.const(0, like=x.type), x)


def turned(m: Match, g: Builder) -> Value:
    """x + y as y + x, for ever."""
    return g.add(Add(), m.value(Y), m.value(X))


def multiplied(m: Match, g: Builder) -> Value:
    """x as x times the unit matrix."""
    return g.add(MatMul(), m.value(X), g.const(np.eye(m.value(X).type.dims[-1]), like=m.value(X).type))


def halved(m: Match, g: Builder) -> Value:
    """x in half the precision."""
    return g.add(Cast(to="f16"), m.value(X))


def anonymous(m: Match, g: Builder) -> Value:
    """relu(x), without a word of where it came from."""
    g.origin = frozenset()
    return g.add(Clip(low=0.0), m.value(X))


def scribbled(m: Match, g: Builder) -> Value:
    """x + c with the data of c changed in place."""
    data: object = m[C]
    while isinstance(data, np.ndarray) and not data.flags.owndata:
        data = data.base
    assert isinstance(data, np.ndarray)
    data.flags.writeable = True
    data += 1
    data.flags.writeable = False
    return g.add(Sub(), m.value(X), g.const(-m[C]))

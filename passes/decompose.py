"""Compute an operation by simpler ones where the target has no lowering for it, until none is left to decompose."""

from __future__ import annotations

from collections.abc import Callable

from compiler.graph import Node
from compiler.op import Op
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match
from compiler.rewrite import Builder, Result, Rule
from passes._decompose import is_plain
from passes._decompositions import DECOMPOSITIONS, Layers

DECOMPOSED: tuple[type[Op], ...] = tuple(DECOMPOSITIONS)


class Decompose(RewritePass):
    """Layers that `keeps` does not hold for become layers of simpler operations; by default, all that can. The parts
    may take more multiply-accumulates than the whole is said to."""

    adds_work = True
    keeps: Callable[[Node], bool] | None = None

    def rules(self) -> tuple[Rule, ...]:
        return tuple(Rule(Layer(op, rest=True), self._parts, op.name) for op in DECOMPOSED)

    def _parts(self, m: Match, b: Builder) -> Result:
        node = m.root
        if (self.keeps is not None and self.keeps(node)) or not is_plain(node):
            return None
        add = Layers(b, node)
        found = (decomposition(add, node.op, *node.inputs) for decomposition in DECOMPOSITIONS[type(node.op)])
        return next((parts for parts in found if parts is not None), None)

    def __str__(self) -> str:
        return self.pass_name()

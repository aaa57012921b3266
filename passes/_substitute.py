"""What the passes have in common that put other layers in the place of one that an accelerator does not run."""

from __future__ import annotations

from collections.abc import Callable

from compiler.op import Op
from compiler.pattern import Layer, Match
from compiler.rewrite import Builder, Result, Rule
from passes._decompose import Layers, is_plain

Substitution = Callable[..., Result]  # (add, op, *operands)


def instead_of(op: type[Op], build: Substitution, *, floats: bool = True) -> Rule:
    """The rule for layers of an operation, of floats unless that does not matter, of known sizes: what `build` returns
    takes their place."""

    def substitute(m: Match, b: Builder) -> Result:
        node = m.root
        if (floats and not node.outputs[0].type.dtype.is_float) or not is_plain(node):
            return None
        return build(Layers(b, node), node.op, *node.inputs)

    return Rule(Layer(op, rest=True), substitute, op.name)

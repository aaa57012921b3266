"""Compute a softmax of two numbers by logistic functions of their difference, where only single rows are taken."""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.activation import Sigmoid
from compiler.ops.elementwise import Sub
from compiler.ops.parts import Concat
from compiler.ops.softmax import Softmax
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: Softmax, x: Value) -> Value | None:
    """e^a / (e^a + e^b) = 1 / (1 + e^(b - a)). One row stays."""
    axis, dims = op.axis, x.type.dims
    if dims[axis] != 2 or x.type.size == 2:
        return None
    a, b = (add.cut(x, axis, i, i + 1) for i in range(2))
    return add(Concat(axis=axis), add(Sigmoid(), add(Sub(), a, b)), add(Sigmoid(), add(Sub(), b, a)))


class SubstituteSoftmax(RewritePass):
    """A softmax of pairs becomes two logistic functions."""

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Softmax, parts),)

"""Merge constants that are added, or multiplied, one after the other.

(x + a) + b = x + (a + b) and (x * a) * b = x * (a * b); x - a is x + (-a), and x / a is x * (1 / a).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from compiler.graph import Value
from compiler.op import Op
from compiler.ops.elementwise import Add, Div, Mul, Sub
from compiler.pass_base import RewritePass
from compiler.pattern import Const, Layer, Match, OneOf, Wild
from compiler.rewrite import Builder, Rule, Skip
from compiler.tensor import Array

X, A, B = Wild(), Const(), Const()
SUM = OneOf(Layer(Add, X, A), Layer(Sub, X, A))
PRODUCT = OneOf(Layer(Mul, X, A), Layer(Div, X, A))
CHAINS = tuple((inner, Layer(op, inner, B)) for inner, ops in ((SUM, (Add, Sub)), (PRODUCT, (Mul, Div))) for op in ops)


def constant(op: Op, c: Array) -> Array:
    """What a layer adds, or multiplies with, in f64."""
    wide = c.astype(np.float64)
    with np.errstate(divide="ignore"):
        return -wide if isinstance(op, Sub) else 1 / wide if isinstance(op, Div) else wide


def chain(inner: OneOf, m: Match, g: Builder) -> Value | Skip | None:
    """Two layers with constants as one."""
    first, x, result = m.value(inner).node, m.value(X), m.root.output.type
    if first is None or not result.dtype.is_float or first.output.type != result:
        return None
    a, b = constant(first.op, m[A]), constant(m.root.op, m[B])
    if np.broadcast(a, b).size > max(a.size, b.size):
        return Skip("the constants spread over different axes")
    sums = isinstance(m.root.op, Add | Sub)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        c = (a + b if sums else a * b).astype(result.dtype.numpy)
    if not np.isfinite(c).all() or not (sums or np.all((c != 0) | (a * b == 0))):
        return Skip(f"the merged constant is out of the range of {result.dtype}")
    return g.add(Add() if sums else Mul(), x, g.const(c, like=m.value(A)))


class MergeScales(RewritePass):
    """Add or Sub after Add or Sub, Mul or Div after Mul or Div, all with float constants."""

    def rules(self) -> tuple[Rule, ...]:
        return tuple(Rule(root, partial(chain, inner), "chain") for inner, root in CHAINS)

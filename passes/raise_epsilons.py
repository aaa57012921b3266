"""Round the epsilon of a normalisation to the smallest number that the element type has, instead of to 0.

An epsilon of 1e-12 keeps a row of equal numbers from being divided by 0. Halves go down to 2^-24 = 6e-8: written as
one, it is 0, and such a row becomes NaN.
"""

from __future__ import annotations

from typing import Any

from compiler import ops
from compiler.graph import Value
from compiler.pass_base import RewritePass
from compiler.pattern import Const, Layer, Match, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import number, scalar

X, EPS = Wild(), scalar()
SUM = Layer(ops.Add, X, EPS, shared=True)
NORMS = (ops.LayerNorm, ops.RmsNorm, ops.InstanceNorm, ops.GroupNorm, ops.BatchNorm)


class RaiseEpsilons(RewritePass):
    """Of layers, and in sums below a root. An epsilon of 0 is left."""

    smallest: float = 2.0**-24

    def rules(self) -> tuple[Rule, ...]:
        def layer(m: Match, g: Builder) -> Value | None:
            op: Any = m.root.op  # one of NORMS
            return g.add(op.with_(eps=self.smallest), *m.root.inputs) if 0 < op.eps < self.smallest else None

        def formula(m: Match, g: Builder) -> Value | None:
            if not 0 < number(m[EPS]) < self.smallest:
                return None
            raised = g.add(ops.Add(), m.value(X), g.const(self.smallest, m.value(X).type))
            return g.add(m.root.op, raised, *m.root.inputs[1:])

        roots = (Layer(ops.Sqrt, SUM), *(Layer(ops.Pow, SUM, Const(equal=power)) for power in (0.5, -0.5)))
        normal = Layer(NORMS, Wild(), rest=True)
        return Rule(normal, layer, "layer"), *(Rule(find, formula, "root") for find in roots)

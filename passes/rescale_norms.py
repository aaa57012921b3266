"""Make the operand of a normalisation small before it is squared.

norm(x, eps) = norm(2^-k x, 4^-k eps): with the size of x known, from what is proved or from data, a power of two does
it exactly. Where nothing is known, a root mean square or Euclidean norm is taken of x / max|x|, as coremltools does for
16-bit floats (its rms_norm), with the epsilon divided by max|x|^2.
"""

from __future__ import annotations

from typing import Any

from compiler import ops
from compiler.graph import Value
from compiler.ops.reduce import ReduceMean
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, Maybe, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import square
from passes._normalize import eps_of, over_deviation
from passes._prescale import Sizes, by_largest, divided_by_rms, halved
from passes._rescale import NORMS, Peaks

CENTRED = (ops.LayerNorm, ops.InstanceNorm, ops.GroupNorm)  # layers of the target's own
X, SCALE, BIAS = Wild(lambda v: v.type.dtype.is_float), Wild(), Wild()
MEAN_SQUARE = Layer(ReduceMean, square(X), where=lambda op: op.keepdims)
LENGTH = Layer(ops.LpNormalize, X, where=lambda op: op.p == 2 and op.eps <= 1e-6)


class RescaleNorms(RewritePass):
    """Normalisations of what may reach `square`, whose square is the largest number that the element type holds;
    those of centred numbers only where data shows that it does.
    `adds_work`: a product, or the search for the largest element. margin, peaks: as of rescale-values.
    """

    adds_work = True
    square: float = 256.0
    margin: float = 4.0
    peaks: Peaks | None = None

    def rules(self) -> tuple[Rule, ...]:
        sizes = Sizes(self.square, self.margin, self.peaks)

        def layer(m: Match, g: Builder) -> Value | None:
            k = sizes.exponent(g.graph, m.value(X))
            if self.peaks is None and isinstance(m.root.op, CENTRED):
                return None
            if k:
                op: Any = m.root.op  # one with an epsilon
                power = 2.0 if isinstance(op, ops.LpNormalize) else 4.0
                return g.add(op.with_(eps=op.eps * power**-k), halved(g, m.value(X), k), *m.root.inputs[1:])
            return by_largest(g, m.value(X), m.root) if k is None else None

        def formula(m: Match, g: Builder) -> Value | None:
            x, eps, k = m.value(X), eps_of(m), sizes.exponent(g.graph, m.value(X))
            return None if eps is None or k == 0 else divided_by_rms(g, x, m.op(MEAN_SQUARE).axes, eps, k)

        layers = (Layer(NORMS, X, SCALE, Maybe(BIAS)), LENGTH)
        formulas = over_deviation(X, MEAN_SQUARE)
        return *(Rule(find, layer) for find in layers), *(Rule(find, formula) for find in formulas)

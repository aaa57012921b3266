"""Make scores small before the product instead of after it: (q k) c = (c q) k for |c| < 1.

Scores of attention grow with the length of the vectors, and q k is 1 / c times what is used of it (A. Vaswani et al.,
arXiv:1706.03762); in 16 bits it is the first number to become infinite. The smaller operand takes the factor.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.elementwise import Div, Mul
from compiler.ops.matmul import MatMul
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import number, scalar

Q, K, FACTOR = Wild(), Wild(), scalar()
PRODUCT = Layer(MatMul, Q, K, any_order=False)


class ScaleScores(RewritePass):
    """Products of computed matrices of floats, multiplied by a number below 1 or divided by one above it."""

    def rules(self) -> tuple[Rule, ...]:
        return Rule(Layer(Mul, PRODUCT, FACTOR), _scaled, "multiplied"), Rule(
            Layer(Div, PRODUCT, FACTOR, any_order=False), _scaled, "divided"
        )


def _scaled(m: Match, g: Builder) -> Value | None:
    q, k, op, factor = m.value(Q), m.value(K), m.root.op, abs(number(m[FACTOR]))
    shrinks = factor < 1 if isinstance(op, Mul) else factor > 1
    plain = m.root.output.type == m.value(PRODUCT).type and q.type.dtype.is_float
    if not plain or not shrinks or not factor or q.data is not None or k.data is not None:
        return None
    if k.type.size < q.type.size:
        return g.add(MatMul(), q, g.add(op, k, m.value(FACTOR)))
    return g.add(MatMul(), g.add(op, q, m.value(FACTOR)), k)

"""Fuse scaled dot-product attention into one layer.

attention(q, k, v) = softmax(q k^T * scale + mask) v (Vaswani et al., arXiv:1706.03762). The scale may stand at the
product or at its operands; masks are terms or choices, and constant ones that hide the future become `causal`. The
transpose of k, and heads of k and v that are repeated for queries that share them (Ainslie et al., arXiv:2305.13245),
are absorbed. A query that sees no key gives 0 where the separate layers give NaN, unless they too turn it into 0.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.attention import Attention
from compiler.ops.elementwise import Cast, Div, IsNaN, Mul, Where
from compiler.ops.matmul import MatMul
from compiler.ops.shape import Reshape
from compiler.ops.softmax import Softmax
from compiler.pass_base import RewritePass
from compiler.pattern import Const, Layer, Match, OneOf, Wild
from compiler.rewrite import Builder, Rule
from passes._attention import Masking, joined_mask, operands
from passes._idioms import is_scalar, number, scalar

Q, KT, V, FACTOR = Wild(), Wild(), Wild(), scalar()
DIVISOR = Const(where=lambda v: is_scalar(v) and v.data is not None and number(v.data) != 0)
SCORES = Layer(MatMul, Q, KT)
FIRST = Masking(OneOf(Layer(Mul, SCORES, FACTOR), Layer(Div, SCORES, DIVISOR), SCORES))
SECOND = Masking(FIRST.pattern)
SOFTMAX = Layer(Softmax, SECOND.pattern)
WIDE = Layer(Softmax, Layer(Cast, SECOND.pattern))
GUARDED = Layer(Where, Layer(IsNaN, SOFTMAX), Const(equal=0), SOFTMAX)
ATTENTION = Layer(MatMul, OneOf(GUARDED, SOFTMAX, Layer(Cast, WIDE)), V)


def attention(m: Match, g: Builder) -> Value | None:
    """The layer, on operands of rank 4: those of rank 3 are one batch of many heads."""
    scores, result = m.node(SCORES).output, m.root.output.type
    softmax, rank = m.node(SOFTMAX if SOFTMAX in m else WIDE), scores.type.rank
    narrowed = softmax.output.type.dtype.bits < scores.type.dtype.bits
    if rank not in (3, 4) or softmax.op != Softmax(axis=rank - 1) or narrowed or not scores.type.dtype.is_float:
        return None
    found, mask = operands(g, m.value(Q), m.value(KT), m.value(V)), joined_mask(m, g, scores, FIRST, SECOND)
    if found is None or mask is None or not mask.broadcasts(scores):
        return None
    after = number(m[FACTOR]) if FACTOR in m else 1 / number(m[DIVISOR]) if DIVISOR in m else 1.0
    y = g.add(Attention(scale=found.factor * after, causal=mask.causal), *found.values(g), *mask.operand)
    return y if rank == 4 else g.add(Reshape(shape=result.shape), y)


class FuseAttention(RewritePass):
    """Two products, a softmax and all that is between them become one `attention`."""

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(ATTENTION, attention),)

"""Turn matrix products with a constant matrix into dense layers, and let them absorb the matrix's transposition.

x [..., K] @ w [K, N] = dense(x, w); a weight [1, ..., 1, K, N] is that matrix, and transpose(w) is `transposed`. A bias
that follows is merged by fuse-scale.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.matmul import Dense, MatMul
from compiler.ops.shape import Transpose
from compiler.pass_base import RewritePass
from compiler.pattern import Const, Layer, Match, Maybe, Wild
from compiler.rewrite import Builder, Rule

X, B = Wild(where=lambda v: not v.is_const), Maybe(Wild())
MATRIX = Const(where=lambda v: v.type.rank >= 2 and all(d == 1 for d in v.type.shape[:-2]))
W = Const(where=lambda v: v.type.rank == 2)
FLIPPED = Layer(Transpose, W, shared=True, where=lambda op: op.perm == (1, 0))
PRODUCT = Layer(MatMul, X, MATRIX, any_order=False)
FLIPPED_PRODUCT = Layer(MatMul, X, FLIPPED)
FLIPPED_DENSE = Layer(Dense, X, FLIPPED, B)


def matmul(m: Match, g: Builder) -> Value | None:
    """A product with a matrix from the right."""
    x, w = m.value(X), m.value(MATRIX)
    if w.type.rank > max(x.type.rank, 2):
        return None
    if w.type.rank > 2:
        w = g.const(m[MATRIX].reshape(w.type.dims[-2:]), like=w)
    return g.add(Dense(), x, w)


def flipped_matmul(m: Match, g: Builder) -> Value:
    """A product with a transposed matrix that was not worth transposing."""
    return g.add(Dense(transposed=True), m.value(X), m.value(W))


def flipped_dense(m: Match, g: Builder) -> Value:
    """A dense layer with such a weight."""
    op = m.op(FLIPPED_DENSE)
    return g.add(op.with_(transposed=not op.transposed), m.value(X), m.value(W), m.maybe(B))


class FuseDense(RewritePass):
    """MatMul with a constant matrix as Dense."""

    def rules(self) -> tuple[Rule, ...]:
        return Rule(PRODUCT, matmul), Rule(FLIPPED_PRODUCT, flipped_matmul), Rule(FLIPPED_DENSE, flipped_dense)

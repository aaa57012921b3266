"""Blocks of transformers for the tests of the passes that rewrite them."""

from __future__ import annotations

import numpy as np

from compiler.ops.activation import Gelu
from compiler.ops.attention import Attention
from compiler.ops.index import Gather
from compiler.ops.norm import LayerNorm, RmsNorm
from compiler.ops.parts import Slice, Split
from compiler.ops.shape import Reshape, Transpose
from tests.passes.composed import Term
from tests.passes.weighted import dense

RNG = np.random.default_rng(11)
HEADS_FIRST = Transpose(perm=(0, 2, 1, 3))


def layer_norm(x: Term, *, bias: bool = True, rms: bool = False) -> Term:
    """A normalisation over the last axis with random parameters."""
    axis, width = x.value.type.rank - 1, x.value.type.dims[-1]
    op = RmsNorm(axis=axis, eps=1e-3) if rms else LayerNorm(axis=axis, eps=1e-3)
    return x.net(op, x, RNG.uniform(0.5, 2, width), *([RNG.normal(size=width)] if bias and not rms else []))


def heads(x: Term, count: int, width: int, *, bias: bool = True) -> Term:
    """Heads [B,H,S,D] projected from x [B,S,K] by a dense layer."""
    batch, length = x.value.type.dims[:2]
    rows = dense(x, count * width, bias=bias)
    return x.net(HEADS_FIRST, x.net(Reshape(shape=(batch, length, count, width)), rows))


def thirds(x: Term, count: int, width: int, kind: str = "split") -> tuple[Term, ...]:
    """Queries, keys and values [B,H,S,D] of one dense layer, taken by a "split", by "slice"s or by "gather"s."""
    batch, length = x.value.type.dims[:2]
    shape = (batch, count, length, width)
    shaped = x.net(Reshape(shape=(batch, length, 3, count, width)), dense(x, 3 * count * width))
    stacked = x.net(Transpose(perm=(2, 0, 3, 1, 4)), shaped)
    if kind == "gather":
        return tuple(x.net(Gather(axis=0), stacked, np.array(i)) for i in range(3))
    if kind == "slice":
        cuts = [Slice(starts=(i, 0, 0, 0, 0), ends=(i + 1, *shape), steps=(1,) * 5) for i in range(3)]
        return tuple(x.net(Reshape(shape=shape), x.net(cut, stacked)) for cut in cuts)
    return tuple(x.net(Reshape(shape=shape), part) for part in x.net.many(Split(axis=0, sizes=(1, 1, 1)), stacked))


def merged(y: Term) -> Term:
    """Heads [B,H,S,D] side by side, [B,S,H*D]."""
    batch, count, length, width = y.value.type.dims
    return y.net(Reshape(shape=(batch, length, count * width)), y.net(HEADS_FIRST, y))


def attention(x: Term, count: int = 2, width: int = 3, *, scale: float = 0.5, bias: bool = True) -> Term:
    """Self-attention of x [B,S,K] with its output projection."""
    q, k, v = (heads(x, count, width, bias=bias) for _ in range(3))
    return dense(merged(x.net(Attention(scale=scale), q, k, v)), x.value.type.dims[-1], bias=bias)


def block(x: Term) -> Term:
    """A block with its normalisations in front."""
    x = x + attention(layer_norm(x))
    return x + dense(x.net(Gelu(), dense(layer_norm(x), 10)), x.value.type.dims[-1])

"""The rotary embedding of positions by products and sums."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Value
from passes._decompose import Layers, decomposes


@decomposes(ops.RotaryEmbedding)
def _rotary_embedding(
    add: Layers, op: ops.RotaryEmbedding, x: Value, cos: Value, sin: Value, positions: Value | None = None
) -> Value:
    """Each pair (a, b) of features becomes (c a - s b, s a + c b); features that are not turned follow."""
    (batch, heads, length, width), half = x.type.dims, cos.type.dims[-1]
    tables = [cos, sin] if positions is None else [add(ops.Gather(), t, positions) for t in (cos, sin)]
    c, s = (add.reshape(t, (t.type.dims[0], 1, *t.type.dims[1:])) for t in tables)
    starts, step = ((0, 1), 2) if op.interleaved else ((0, half), 1)
    a, b = (add.cut(x, 3, i, i + step * (half - 1) + 1, step) for i in starts)
    real = add(ops.Sub(), add(ops.Mul(), a, c), add(ops.Mul(), b, s))
    imaginary = add(ops.Add(), add(ops.Mul(), a, s), add(ops.Mul(), b, c))
    if op.interleaved:
        column = (batch, heads, length, half, 1)
        both = add(ops.Concat(axis=4), add.reshape(real, column), add.reshape(imaginary, column))
        parts = [add.reshape(both, (batch, heads, length, 2 * half))]
    else:
        parts = [real, imaginary]
    rest = [add.cut(x, 3, 2 * half, width)] if 2 * half < width else []
    turned = [*parts, *rest]
    return turned[0] if len(turned) == 1 else add(ops.Concat(axis=3), *turned)

"""Fuse reshape, transpose and reshape into the move of channels to pixels, or of pixels to channels, that they are.

depth_to_space spreads C b b channels over blocks of b x b pixels (pixel shuffle; Shi et al., arXiv:1609.05158):
[N,C,b,b,H,W] -> [N,C,H,b,W,b] in mode CRD, [N,b,b,C,H,W] -> [N,C,H,b,W,b] in mode DCR. space_to_depth is the inverse
of DCR; the inverse of CRD (torch's pixel_unshuffle) is the same thing for one channel only, and left alone for more.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.shape import DepthToSpace, Reshape, SpaceToDepth, Transpose
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule

X = Wild(where=lambda v: v.type.rank == 4 and v.type.is_static)
SPLIT = Layer(Reshape, X, where=lambda op: len(op.shape) == 6)
MOVED = Layer(Transpose, SPLIT)
MERGED = Layer(Reshape, MOVED, where=lambda op: len(op.shape) == 4)

CRD, DCR, GATHER, UNSHUFFLE = (0, 1, 4, 2, 5, 3), (0, 3, 4, 1, 5, 2), (0, 3, 5, 1, 2, 4), (0, 1, 3, 5, 2, 4)
BLOCK = {CRD: 2, DCR: 1, GATHER: 3, UNSHUFFLE: 3}  # the axis of `SPLIT` that is a side of the block


def shuffle(m: Match, g: Builder) -> Value | None:
    """The layer for the order of the axes, if the sizes are those of square blocks."""
    perm, split = m.op(MOVED).perm, m.op(SPLIT).shape
    n, c, h, w = m.value(X).type.dims
    b = split[BLOCK[perm]] if perm in BLOCK else 0
    if not b:
        return None
    square = b * b
    if perm in (CRD, DCR):
        depth = c // square
        shape, mode = ((n, depth, b, b, h, w), "CRD") if perm == CRD else ((n, b, b, depth, h, w), "DCR")
        op: DepthToSpace | SpaceToDepth = DepthToSpace(blocksize=b, mode=mode)
        merged = (n, depth, h * b, w * b)
    elif perm == GATHER or c == 1:
        shape, merged = (n, c, h // b, b, w // b, b), (n, c * square, h // b, w // b)
        op = SpaceToDepth(blocksize=b)
    else:
        return None
    return g.add(op, m.value(X)) if split == shape and m.root.output.type.shape == merged else None


class FusePixelShuffle(RewritePass):
    """Three layers that move channels to pixels, or back, become one `depth_to_space` or `space_to_depth`."""

    error_class = ErrorClass.EXACT

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(MERGED, shuffle),)

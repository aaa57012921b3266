"""Attention one query at a time, for any type of floats."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.plain import Ints, Plain, pointers
from codegen.program import Parameter


class PlainAttention(Plain):
    """y = softmax(q k^T * scale + mask) v for q [batch, heads, queries, depth], k [batch, shared, keys, depth] and
    v [batch, shared, keys, width]; `scores` has room for those of one query.

    mask     strides of the mask along batch, heads, queries and keys (0: repeated); its type of C is `mask_type`, empty
             without one; it holds true for what is seen (`is_choice`), or is added
    causal   query i sees keys 0 to i
    softcap  c > 0: scores s become c tanh(s / c) before they are masked
    """

    template = "neon/plain_attention.c.j2"
    ctype: str
    batch: int
    heads: int
    shared: int
    queries: int
    keys: int
    depth: int
    width: int
    scale: float
    causal: bool = False
    softcap: float = 0.0
    mask_type: str = ""
    is_choice: bool = False
    mask: Ints = (0, 0, 0, 0)

    @property
    def name(self) -> str:
        shape = (self.batch, self.heads, self.queries, self.keys, self.depth, self.width)
        return self.named("plain_attention", *shape)

    @property
    def suffix(self) -> str:
        """The end of the names of functions of math.h."""
        return "" if self.ctype == "double" else "f"

    @property
    def parameters(self) -> Sequence[Parameter]:
        masks = [(self.mask_type, "mask")] if self.mask_type else []
        operands = [(self.ctype, name) for name in "qkv"]
        return pointers([*operands, *masks], [(self.ctype, "y"), (self.computed(self.ctype), "scores")])

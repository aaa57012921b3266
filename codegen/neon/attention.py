"""Attention of floats in blocks of queries and keys, with products of matrices and an online softmax.

Per head, keys are packed as the right operand of a product, transposed, and so are values. For each block of queries
and each block of keys: scores = queries keys^T, their powers of two above the largest score so far, and their product
with the values, which is added to what earlier blocks of keys gave, scaled down as the largest score has risen
(Milakov & Gimelshein, arXiv:1805.02867; Dao et al., arXiv:2205.14135).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from codegen.neon.gemm import Gemm
from codegen.neon.stored import Stored
from codegen.neon.tailed import digest
from codegen.program import Kernel, Parameter

Ints = tuple[int, ...]
OVERREAD = 32  # floats that products may read beyond packed matrices
LOG2_E = 1.4426950408889634
GROUP = 8  # keys are packed in such groups, so that products end with whole turns of their loops


class Product(NamedTuple):
    """A kernel, its numbers of tiles, and how many tiles are done with all columns before the next ones begin."""

    gemm: Gemm
    counts: Ints
    block: int


class Blocks(NamedTuple):
    """How an axis is cut: `blocks` of `size` elements, but `last` in the last one."""

    blocks: int
    size: int
    last: int

    @property
    def largest(self) -> int:
        """Elements of the largest block."""
        return max(self.last, self.size) if self.blocks > 1 else self.last


def rounded(keys: int) -> int:
    """Keys of a block as they are packed."""
    return -(-keys // GROUP) * GROUP


class PackKeys(Stored):
    """Keys [n, depth], `pitch` apart, times a factor, as the right operand of products: panels of `width` columns, of
    which the last one has what is left. There are `room` columns, and those from n on give scores of -inf; others have
    biases that are `bias` elements apart, if these are given."""

    family = "attention"
    template = "neon/attention_pack.c.j2"
    is_internal = True
    bias_type: str = ""

    @property
    def name(self) -> str:
        kind = {"": "", "uint8_t": "_chosen"}.get(self.bias_type, "_masked")
        return f"pack{kind}{self.stored_name}_keys"

    @property
    def parameters(self) -> Sequence[Parameter]:
        biases = [Parameter(f"const {self.bias_type} *", "b"), Parameter("size_t", "step")] if self.bias_type else []
        sizes = (Parameter("size_t", name) for name in ("pitch", "n", "room", "depth", "width"))
        pointers = [Parameter(f"const {self.ctype} *", "k"), *biases, Parameter("float *", "to")]
        return [*pointers, *sizes, Parameter("float", "factor")]


class PackValues(Stored):
    """Values [n, depth], `pitch` apart, as the right operand of products without biases; rows from n to `room` are
    zeros."""

    family = "attention"
    template = "neon/attention_values.c.j2"
    is_internal = True

    @property
    def name(self) -> str:
        return f"pack{self.stored_name}_values"

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter(f"const {self.ctype} *", "v"), Parameter("float *", "to")]
        return [*pointers, *(Parameter("size_t", name) for name in ("pitch", "n", "room", "depth", "width"))]


class Attention(Stored):
    """y = softmax(q k^T * scale + mask) v for q [batch, heads, queries, depth], k [batch, shared, keys, depth] and
    v [batch, shared, keys, width], for blocks of queries from `begin` to `end`, counted through all heads.

    q, k, v, y   elements from one of a batch to the next, from head to head, and from row to row
    mask         the same, and from key to key; `mask_type` is empty without one, of bytes where it tells what is seen
    causal       query i sees keys 0 to i
    ctype        of q, k, v, y and of a mask of floats; halves are computed with in 32 bits
    softcap      c > 0: scores s become c tanh(s / c) before they are masked
    rows, cols   how queries and keys are cut
    scores, sums products for [rows whole, last] x [keys whole, last]
    """

    family = "attention"
    template = "neon/attention.c.j2"
    batch: int
    heads: int
    shared: int
    queries: int
    keys: int
    depth: int
    width: int
    scale: float
    q: Ints
    k: Ints
    v: Ints
    y: Ints
    rows: Blocks
    cols: Blocks
    scores: tuple[Product, ...]
    sums: tuple[Product, ...]
    mask: Ints = ()
    mask_type: str = ""
    causal: bool = False
    softcap: float = 0.0

    @property
    def name(self) -> str:
        shape = "x".join(map(str, (self.batch, self.heads, self.queries, self.keys, self.depth, self.width)))
        kind = "causal_" * self.causal
        return f"{kind}attention_{shape}_{digest(self.values())}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        masks = [Parameter(f"const {self.mask_type} *", "mask")] * bool(self.mask_type)
        given = [Parameter(f"const {self.ctype} *", name) for name in "qkv"]
        pointers = [*given, *masks, Parameter(f"{self.ctype} *", "y")]
        return [*pointers, Parameter("float *", "scratch"), Parameter("size_t", "begin"), Parameter("size_t", "end")]

    @property
    def needs(self) -> Sequence[Kernel]:
        return list(dict.fromkeys([self.pack_keys, self.pack_values, *(p.gemm for p in (*self.scores, *self.sums))]))

    @property
    def is_natural(self) -> bool:
        """Whether scores are logarithms to base e: numbers of a mask may be too large to be scaled."""
        return self.mask_type in ("float", "half_t")

    @property
    def factor(self) -> float:
        """What keys are multiplied with."""
        if self.softcap > 0:
            return self.scale / self.softcap
        return self.scale * (1.0 if self.is_natural else LOG2_E)

    @property
    def cap(self) -> float:
        """What tangents are multiplied with."""
        return self.softcap * (1.0 if self.is_natural else LOG2_E)

    @property
    def pack_keys(self) -> PackKeys:
        """What packs keys, with the mask if it is the same for all queries."""
        return PackKeys(bias_type=self.mask_type if self.mask_of_keys else "", ctype=self.ctype)

    @property
    def pack_values(self) -> PackValues:
        """What packs values."""
        return PackValues(ctype=self.ctype)

    @property
    def is_wide(self) -> bool:
        """Whether queries and results of a block are beside it in 32 bits."""
        return self.ctype != "float"

    @property
    def steps(self) -> tuple[int, int]:
        """Elements from one query, and from one result, to the next, as products read and write them."""
        return (self.depth, self.width) if self.is_wide else (self.q[2], self.y[2])

    @property
    def mask_of_keys(self) -> bool:
        """Whether the mask is the same for all queries and heads, and comes in with the product."""
        return bool(self.mask_type) and not any(self.mask[1:3]) and not self.softcap

    @property
    def mask_of_scores(self) -> bool:
        """Whether each score has its own mask."""
        return bool(self.mask_type) and not self.mask_of_keys

    @property
    def is_online(self) -> bool:
        """Whether there are several blocks of keys."""
        return self.cols.blocks > 1

    @property
    def items(self) -> int:
        """Blocks of queries of all heads."""
        return self.batch * self.heads * self.rows.blocks

    @property
    def pitch(self) -> int:
        """Floats of a row of scores."""
        return rounded(self.cols.largest)

    @property
    def panels(self) -> tuple[int, int]:
        """Floats of a block of packed keys and of one of values."""
        return (self.depth + 1) * self.pitch + OVERREAD, (self.pitch + 1) * -(-self.width // 4) * 4 + OVERREAD

    @property
    def places(self) -> dict[str, int]:
        """Where parts of the scratch begin, in floats."""
        keys, values = (n * self.cols.blocks for n in self.panels)
        state = self.rows.largest if self.is_online else 0
        sizes = {"values": keys, "scores": values, "sums": self.rows.largest * self.pitch, "tops": self.rows.largest}
        begin, made = 0, {"keys": 0}
        for name, size in sizes.items():
            begin += -(-size // 4) * 4
            made[name] = begin
        begin += -(-state // 4) * 4
        for name, size in (("queries", self.depth), ("results", self.width)) if self.is_wide else ():
            made[name] = begin
            begin += -(-self.rows.largest * size // 4) * 4
        return {**made, "end": begin}

    def place(self, name: str, head: str, row: str) -> str:
        """Where the rows of a head lie in q, k, v, y or the mask."""
        steps = getattr(self, name)
        batch = "i0" if self.batch > 1 else ""
        terms = [f"{i} * {s}" if s != 1 else i for i, s in zip((batch, head, row), steps, strict=False) if i and s]
        return " + ".join((name, *terms))

    def products(self, whole: str, x: str, w: str, y: str, ldx: int, ldy: int) -> list[str]:
        """Statements that call the product for the number of rows, and of keys in the block: scores or sums."""
        is_scores = whole == "scores"
        list_of = self.scores if is_scores else self.sums
        lengths = [*[self.cols.size] * self.is_online, self.cols.last]
        calls = []
        for i, p in enumerate(list_of):
            room = rounded(lengths[i % len(lengths)])
            n, k = (room, self.depth) if is_scores else (self.width, room)
            numbers = ", ".join(map(str, (*p.counts, n, k, p.block, ldx, ldy)))
            calls.append(f"{p.gemm.name}({x}, {w}, {f'{y}, ' if p.gemm.has_other else ''}{y}, {numbers});")
        if not self.is_online:
            return self._by_rows(calls)
        inner, last = self._by_rows(calls[::2]), self._by_rows(calls[1::2])
        if inner == last:
            return inner
        test = f"if (b + 1 < {self.cols.blocks}) {{"
        return [test, *(f"    {t}" for t in inner), "} else {", *(f"    {t}" for t in last), "}"]

    def _by_rows(self, calls: Sequence[str]) -> list[str]:
        if calls[0] == calls[-1]:
            return [calls[0]]
        return [f"if (rows == {self.rows.size})", f"    {calls[0]}", "else", f"    {calls[1]}"]


class FewQueries(Attention):
    """The same for so few queries that keys and values are not packed: one query at a time, of a depth and width of
    whole vectors. A block is a query, and there are no products."""

    template = "neon/attention_few.c.j2"

    @property
    def name(self) -> str:
        return super().name.replace("attention", "attention_few")

    @property
    def needs(self) -> Sequence[Kernel]:
        return ()

    @property
    def mask_of_keys(self) -> bool:
        return False

    @property
    def places(self) -> dict[str, int]:
        return {"end": self.pitch}

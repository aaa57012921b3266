"""Attention in the Metal Shading Language, with matrices of simdgroups and an online softmax.

A threadgroup takes a block of queries of one head, 8 for each of its simdgroups, and walks over blocks of keys: scores
by 8 x 8 products, their powers above the largest score so far, and the product of these with the values, which is added
to what earlier blocks gave, scaled down as the largest score has risen (Milakov & Gimelshein, arXiv:1805.02867; Dao et
al., arXiv:2205.14135). Sums of values stay in registers; a diagonal matrix scales them.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.metal.kernel import SIMD, Grid, MetalKernel, Numbers, Tile, groups, metal_type
from codegen.neon.tailed import digest
from codegen.program import Parameter, sizes

KEYS = 32  # of a block: one for each lane
SIDE = 8  # of a matrix
PADDING = 8  # elements between rows in the memory of a threadgroup, so that columns lie in different banks
ROOM = 32768  # bytes of it, on all families
LARGEST = 256  # elements of a query or of a value
STRIDES = tuple(f"{name}_{axis}" for name in "qkvy" for axis in ("batch", "head", "row"))
MASK = tuple(f"mask_{axis}" for axis in ("batch", "head", "query", "key"))


class Attention(MetalKernel):
    """y = softmax(q k^T * scale + mask) v for q [batch, heads, queries, depth], k [batch, shared, keys, depth] and
    v [batch, shared, keys, width], of which the last axes lie side by side; numbers tell the distances along others.

    mask_type  of the elements of a mask that is added, or bool8_t if it tells what is seen; empty without one
    causal     query i sees keys 0 to i
    softcap    c > 0: scores s become c tanh(s / c) before they are masked
    simdgroups of a threadgroup
    """

    family = "attention"
    template = "metal/attention.metal.j2"
    positions = ("group", "index", "lane", "simdgroup")
    depth: int
    width: int
    ctype: str = "float"
    mask_type: str = ""
    causal: bool = False
    softcap: float = 0.0
    simdgroups: int = 4

    @property
    def name(self) -> str:
        kind = "" if self.ctype == "float" else "_half"
        what = f"{'_causal' * self.causal}{'_masked' * bool(self.mask_type)}{'_capped' * (self.softcap > 0)}"
        plain = not self.mask_type and not self.softcap
        return f"attention_{self.depth}_{self.width}{what}{kind}{'' if plain else f'_{digest(self.values())}'}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter(f"const {self.ctype} *", name) for name in "qkv"]
        masks = [Parameter(f"const {self.mask_type} *", "mask")] if self.mask_type else []
        counts = ("batch", "heads", "shared", "queries", "keys", *STRIDES, *(MASK if self.mask_type else ()))
        return [*given, *masks, Parameter(f"{self.ctype} *", "y"), *sizes(*counts), Parameter("float", "scale")]

    @property
    def threads(self) -> Grid:
        return (SIMD * self.simdgroups, 1, 1)

    @property
    def rows(self) -> int:
        """Queries of a threadgroup."""
        return SIDE * self.simdgroups

    def grid(self, numbers: Numbers) -> Grid:
        return (groups(int(numbers["queries"]), self.rows), int(numbers["heads"]), int(numbers["batch"]))

    # -- memory of a threadgroup -----------------------------------------------------------------------------

    @property
    def stored(self) -> str:
        """The type of elements in memory, and of operands of products."""
        return metal_type(self.ctype)

    @property
    def deep(self) -> int:
        """Elements of a query, in whole matrices."""
        return -(-self.depth // SIDE) * SIDE

    @property
    def wide(self) -> int:
        """Elements of a value, in whole matrices."""
        return -(-self.width // SIDE) * SIDE

    @property
    def pitch(self) -> int:
        """From a row of keys, or of values, to the next."""
        return max(self.deep, self.wide) + PADDING

    @property
    def tiles(self) -> Sequence[Tile]:
        return [
            Tile(self.ctype, "queries", self.rows * (self.deep + PADDING)),
            Tile(self.ctype, "others", KEYS * self.pitch),
            Tile("float", "scores", self.simdgroups * SIDE * (KEYS + PADDING)),
            Tile(self.ctype, "powers", self.simdgroups * SIDE * (KEYS + PADDING)),
        ]

    @property
    def fits(self) -> bool:
        """Whether threadgroups have room for it."""
        return sum(t.nbytes for t in self.tiles) <= ROOM and max(self.depth, self.width) <= LARGEST


def attention(kernel: Attention) -> Attention | None:
    """The kernel with as many simdgroups as there is room for, up to 4; None if there is none."""
    ways = (kernel.with_(simdgroups=simdgroups) for simdgroups in (4, 2, 1))
    return next((way for way in ways if way.fits), None)

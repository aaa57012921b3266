"""Convolutions with 3 x 3 filters by fewer multiplications, F(2x2, 3x3) (A. Lavin, S. Gray, Fast Algorithms for
Convolutional Neural Networks, 2016), as one kernel in the Metal Shading Language.

A threadgroup makes 16 tiles of 2 x 2 results for 32 filters. For 8 channels at a time each of its threads transforms
one patch of 4 x 4 elements; then for each of the 16 places of a patch the tiles are a matrix [16, 8], which simdgroups
multiply by [8, 32] weights, transformed at compile time. Results are transformed back from the threadgroup's memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codegen.metal.kernel import SIMD, Grid, Numbers, Tile, groups
from codegen.metal.tailed import Tailed
from codegen.program import Parameter, sizes
from compiler.tensor import Array

OUT = 2  # results of a tile's side
PLACES = 16  # of a patch
TILES = 16  # of a threadgroup
FILTERS = 32  # of a threadgroup
CHANNELS = 8  # of a step
ADDED = 4  # elements that an element of a transformed patch is a sum of
GEOMETRY = ("images", "height", "width", "channels", "filters", "out_height", "out_width", "top", "left")
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])  # of filters


class Winograd(Tailed):
    """y [images, out_height, out_width, filters] = tail(x [images, height, width, channels] * w + b) for 3 x 3 filters
    at every pixel; elements beyond the image count as zeros. w is as `transformed` makes it, times `shrink`."""

    family = "winograd"
    template = "metal/winograd.metal.j2"
    positions = ("group", "index", "simdgroup")

    @property
    def name(self) -> str:
        return f"winograd_3x3{self.kind}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter(f"const {self.ctype} *", name) for name in ("x", "w")]
        bias = Parameter("const float *", "b")
        return [*given, bias, *self.other, self.result, *sizes(*GEOMETRY), *self.pitch]

    @property
    def shrink(self) -> int:
        """What patches are divided by, so that halves hold what becomes of any that they held."""
        return ADDED if self.ctype == "half_t" else 1

    @property
    def threads(self) -> Grid:
        return (4 * SIMD, 1, 1)

    @property
    def tiles(self) -> Sequence[Tile]:
        size = PLACES * TILES * CHANNELS
        return [Tile(self.ctype, "patches", size), Tile("float", "products", size)]

    def grid(self, numbers: Numbers) -> Grid:
        down, across = (-(-int(numbers[name]) // OUT) for name in ("out_height", "out_width"))
        return (groups(int(numbers["images"]) * down * across, TILES), groups(int(numbers["filters"]), FILTERS), 1)


def transformed(w: Array) -> Array:
    """Filters [M, C, 3, 3] for the 16 places of a patch, row by row: [16, C, M], with zeros up to whole steps of
    channels and whole blocks of filters."""
    m, c = w.shape[:2]
    placed = np.einsum("ai,mcij,bj->abcm", G, w.astype(np.float64), G).reshape(PLACES, c, m)
    made = np.zeros((PLACES, -(-c // CHANNELS) * CHANNELS, -(-m // FILTERS) * FILTERS), np.float32)
    made[:, :c, :m] = placed
    return made

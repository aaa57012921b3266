"""Convolutions of images that lie channels-last, as products: a row is a pixel of the result, and its elements are what
its window covers, read from the image where they lie; what is beyond the border is zero."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from codegen.metal.gemm import Tiled, packed_panels
from codegen.metal.kernel import Grid, Numbers
from codegen.program import Parameter, sizes
from compiler.tensor import Array

Pair = tuple[int, int]
MOST = 15  # taps along an axis: which of them are inside the image, is told by bits of one word for both axes


class Windows(Tiled):
    """y [m, n] = tail(x w + b) for the m pixels of the result and n filters, of which there are several groups if it
    `is_grouped`. Pairs are [height, width]; `begins` are the lines and columns of border before the image, and without
    `has_border` no window leaves it. Filters lie as `packed_filters` lays them; b are floats."""

    kernel: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    begins: Pair = (0, 0)
    has_border: bool = False
    is_grouped: bool = False
    has_bias: bool = False

    @property
    def layer(self) -> str:
        """The part of a name that tells of the windows."""
        made = "x".join(map(str, self.kernel))
        for letter, pair, usual in (
            ("s", self.strides, (1, 1)),
            ("d", self.dilations, (1, 1)),
            ("p", self.begins, (0, 0)),
        ):
            if pair != usual:
                made += f"_{letter}{pair[0]}" + f"x{pair[1]}" * (pair[0] != pair[1])
        made += "_border" * self.has_border + "_grouped" * self.is_grouped
        return f"{made}_{self.cut}{'_bias' * self.has_bias}{self.kind}"

    @property
    def is_long(self) -> bool:
        """Whether a word has too few bits for the taps."""
        return self.has_border and max(self.kernel) > MOST

    @property
    def taps(self) -> int:
        """Elements of a window."""
        return prod(self.kernel)

    @property
    def parameters(self) -> Sequence[Parameter]:
        bias = [Parameter("const float *", "b")] * self.has_bias
        given = [Parameter(f"const {self.ctype} *", name) for name in ("x", "w")]
        return [*given, *bias, *self.other, self.result, *sizes(*self.counts), *self.pitch]

    @property
    def counts(self) -> Sequence[str]:
        """The numbers that a dispatch gives."""
        groups = ["channels", "filters", "groups"] * self.is_grouped
        return ["m", "n", "depth", *groups, "height", "width", "out_height", "out_width"]

    def grid(self, numbers: Numbers) -> Grid:
        across, down = -(-int(numbers["n"]) // self.columns), -(-int(numbers["m"]) // self.rows)
        return (across, down, int(numbers.get("groups", 1)))


class Conv(Windows):
    """Tap by tap, the channels of a tap in steps, of which they are a whole number."""

    template = "metal/conv.metal.j2"

    @property
    def name(self) -> str:
        return f"conv_{self.layer}"


class ConvFew(Windows):
    """For `depth` channels, any number: all taps together are the depth of the product."""

    template = "metal/conv_few.metal.j2"
    depth: int

    @property
    def name(self) -> str:
        return f"conv_{self.depth}_{self.layer}"

    @property
    def counts(self) -> Sequence[str]:
        return [name for name in super().counts if name != "depth"]


def packed_filters(w: Array, groups: int, kernel: Windows) -> Array:
    """[M, C / groups, height, width] as the kernel reads them: for each group panels of filters, in each of them the
    taps one after the other, each with its channels: [groups, panels, depth, columns]."""
    m, c, *_ = w.shape
    matrix = w.reshape(groups, m // groups, c, kernel.taps).transpose(0, 3, 2, 1)
    if isinstance(kernel, ConvFew):
        return packed_panels(matrix.reshape(groups, kernel.taps * c, m // groups), kernel)
    made = packed_panels(matrix, kernel).swapaxes(1, 2)
    return np.ascontiguousarray(made).reshape(groups, made.shape[1], -1, kernel.columns)

"""Pools of images that lie channels-last, on vectors of channels."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.stored import Stored
from codegen.neon.tailed import Tailed, other, suffix
from codegen.program import Parameter, sizes

BLOCK = 4  # vectors at a time
GEOMETRY = ("stride_y", "stride_x", "dilation_y", "dilation_x", "top", "left")
FIRST = {"max": "-INFINITY", "average": "0.0f", "norm1": "0.0f", "norm2": "0.0f"}
STEPS = {
    "max": "vmaxq_f32({0}, {1})",
    "average": "vaddq_f32({0}, {1})",
    "norm1": "vaddq_f32({0}, vabsq_f32({1}))",
    "norm2": "vfmaq_f32({0}, {1}, {1})",
}
LAST = {"average": "vmulq_f32({0}, vdupq_n_f32(scale))", "norm2": "vsqrtq_f32({0})"}


class WindowPool(Tailed, Stored):
    """y = tail(pool(x)) over windows of an image [images, height, width, channels].

    kind      max, average, norm1 (sum of magnitudes) or norm2
    window    [rows, columns], if these are not parameters; taps are neighbours then
    counts_border  an average counts elements of the border
    """

    family = "pool"
    template = "neon/window_pool.c.j2"
    kind: str
    window: tuple[int, int] | None = None
    counts_border: bool = False

    @property
    def name(self) -> str:
        size = f"_{self.window[0]}x{self.window[1]}" if self.window else ""
        return f"{self.kind}_pool{size}{'_with_border' * self.counts_border}{self.stored_name}{suffix(self.tail)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        image = ("images", "height", "width", "channels", "out_height", "out_width", "begin", "end")
        window = () if self.window else ("rows", "columns")
        ends = ("bottom", "right") if self.counts_border else ()
        pointers = [
            Parameter(f"const {self.ctype} *", "x"),
            *other(self.tail, self.ctype),
            Parameter(f"{self.ctype} *", "y"),
        ]
        return [*pointers, *sizes(*image, *window, *GEOMETRY, *ends)]

    @property
    def first(self) -> str:
        """What a window without elements gives."""
        return FIRST[self.kind]

    def step(self, so_far: str, element: str) -> str:
        """A vector of elements taken in."""
        return STEPS[self.kind].format(so_far, element)

    @property
    def last(self) -> str:
        """What is done with the vector {0} of a window at its end, if anything."""
        return LAST.get(self.kind, "")

"""Resampling of images that lie channels-last: pixels are copied, or mixed on vectors of channels."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.copies import UNITS
from codegen.neon.stored import Stored
from codegen.program import Kernel, Parameter, sizes

BLOCK = 4  # vectors at a time


class ResizeNearest(Kernel):
    """y[n, i, j, :] = x[n, rows[i], columns[j], :] for pixels of elements of `size` bytes; lines from the same row are
    copied whole."""

    family = "resize"
    template = "neon/resize_nearest.c.j2"
    size: int

    @property
    def name(self) -> str:
        return f"resize_nearest_{8 * self.size}bit"

    @property
    def unit(self) -> str:
        """The type of C of an element."""
        return UNITS[self.size]

    @property
    def parameters(self) -> Sequence[Parameter]:
        tables = [Parameter("const int32_t *", "rows"), Parameter("const int32_t *", "columns")]
        image = sizes("images", "height", "width", "channels", "out_height", "out_width", "begin", "end")
        return [Parameter(f"const {self.unit} *", "x"), *tables, Parameter(f"{self.unit} *", "y"), *image]


class ResizeMixed(Stored):
    """y[n, i, j, :] = the sum of x[n, rows[i, s], columns[j, t], :] row_weights[i, s] column_weights[j, t], for s and t
    less than `taps`. Rows are mixed first, into a line of `width` pixels, if there is more than one tap."""

    family = "resize"
    template = "neon/resize_mixed.c.j2"
    taps: tuple[int, int]

    @property
    def name(self) -> str:
        return f"resize_mixed_{self.taps[0]}x{self.taps[1]}{self.stored_name}"

    @property
    def line(self) -> Stored:
        """How rows that are mixed lie."""
        return Stored(ctype="float" if self.taps[0] > 1 else self.ctype)

    @property
    def parameters(self) -> Sequence[Parameter]:
        kinds = (("int32_t", "rows"), ("float", "row_weights"), ("int32_t", "columns"), ("float", "column_weights"))
        tables = [Parameter(f"const {ctype} *", name) for ctype, name in kinds]
        line = [Parameter("float *", "line")] * (self.taps[0] > 1)
        image = sizes("images", "height", "width", "channels", "out_height", "out_width", "begin", "end")
        return [Parameter(f"const {self.ctype} *", "x"), *tables, *line, Parameter(f"{self.ctype} *", "y"), *image]

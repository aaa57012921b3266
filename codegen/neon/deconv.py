"""Transposed convolutions: results gather what the pixels of the image add to them."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.conv import PlainWindows
from codegen.neon.tailed import Tailed, other, suffix
from codegen.program import Parameter, sizes

IMAGE = ("images", "height", "width", "channels", "out_height", "out_width", "begin", "end")
STEPS = ("stride_y", "stride_x", "dilation_y", "dilation_x", "top", "left")


class SumColumns(Tailed):
    """y = tail(b + the sum of the columns that fall on a result): x [images, height, width, rows, columns, channels]
    holds what each pixel adds to each tap of a filter of `window` = [rows, columns].

    is_depthwise  x is the image itself, and pixels are multiplied by w [rows, columns, channels] here
    """

    family = "deconv"
    template = "neon/sum_columns.c.j2"
    window: tuple[int, int]
    is_depthwise: bool = False

    @property
    def name(self) -> str:
        what = "depthwise_transposed" if self.is_depthwise else "sum_columns"
        return f"{what}_{self.window[0]}x{self.window[1]}{suffix(self.tail)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = ["x", *["w"] * self.is_depthwise, "b"]
        read = [*(Parameter("const float *", name) for name in given), *other(self.tail)]
        return [*read, Parameter("float *", "y"), *sizes(*IMAGE, *STEPS)]


class PlainDeconv(PlainWindows):
    """A transposed convolution."""

    template = "neon/plain_deconv.c.j2"

    @property
    def name(self) -> str:
        return self.named("plain_deconv", *self.w[0])

    @property
    def spatial(self) -> str:
        """Where a pixel lies in its channel."""
        return "".join(f" + at{a} / {self.strides[a]} * {self.x[1][a + 2]}" for a in self.axes)

    @property
    def taps(self) -> str:
        """Where a weight lies in its filter."""
        return "".join(f" + k{a} * {self.w[1][a + 2]}" for a in self.axes)

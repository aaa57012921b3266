"""Transposed convolutions: results gather what the pixels of the image add to them."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.expression import Body, Expression, Operand, write
from codegen.neon.gemm import other, sizes, suffix
from codegen.neon.plain import Ints, Plain, pointers
from codegen.neon.vectors import VECTOR
from codegen.program import Kernel, Parameter

IMAGE = ("images", "height", "width", "channels", "out_height", "out_width", "begin", "end")
STEPS = ("stride_y", "stride_x", "dilation_y", "dilation_x", "top", "left")


class SumColumns(Kernel):
    """y = tail(b + the sum of the columns that fall on a result): x [images, height, width, rows, columns, channels]
    holds what each pixel adds to each tap of a filter of `window` = [rows, columns].

    is_depthwise  x is the image itself, and pixels are multiplied by w [rows, columns, channels] here
    """

    family = "deconv"
    template = "neon/sum_columns.c.j2"
    window: tuple[int, int]
    is_depthwise: bool = False
    tail: Expression = Operand(0)

    @property
    def name(self) -> str:
        what = "depthwise_transposed" if self.is_depthwise else "sum_columns"
        return f"{what}_{self.window[0]}x{self.window[1]}{suffix(self.tail)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = ["x", *["w"] * self.is_depthwise, "b"]
        read = [*(Parameter("const float *", name) for name in given), *other(self.tail)]
        return [*read, Parameter("float *", "y"), *sizes(*IMAGE, *STEPS)]

    @property
    def has_other(self) -> bool:
        """Whether the tail reads a second value."""
        return bool(other(self.tail))

    def body(self, so_far: str, second: str) -> Body:
        """The tail of one vector of results."""
        return write(self.tail, VECTOR, {0: so_far, 1: second}, prefix=f"{so_far}_")


class PlainDeconv(Plain):
    """A transposed convolution of any number of axes, groups and any type of elements, one result at a time.

    x, w, y   sizes and strides in elements, in logical order
    wide      type to compute in
    """

    template = "neon/plain_deconv.c.j2"
    ctype: str
    wide: str
    x: tuple[Ints, Ints]
    w: tuple[Ints, Ints]
    y: tuple[Ints, Ints]
    strides: Ints
    pads: Ints
    dilations: Ints
    groups: int = 1
    has_bias: bool = False

    @property
    def name(self) -> str:
        return self.named("plain_deconv", *self.w[0])

    @property
    def parameters(self) -> Sequence[Parameter]:
        names = ["x", "w", *["b"] * self.has_bias]
        return pointers([(self.ctype, n) for n in names], [(self.ctype, "y")])

    @property
    def axes(self) -> range:
        """The spatial axes."""
        return range(len(self.strides))

    @property
    def spatial(self) -> str:
        """Where a pixel lies in its channel."""
        return "".join(f" + at{a} / {self.strides[a]} * {self.x[1][a + 2]}" for a in self.axes)

    @property
    def taps(self) -> str:
        """Where a weight lies in its filter."""
        return "".join(f" + k{a} * {self.w[1][a + 2]}" for a in self.axes)

"""Depthwise convolutions in the Metal Shading Language: a thread for each channel and strip of results of a line."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.metal.kernel import Launch, Numbers, planar
from codegen.metal.tailed import Tailed
from codegen.program import Parameter, sizes

GEOMETRY = ("images", "height", "width", "channels", "out_height", "out_width", "top", "left")
STRIP = 4  # results of a line that a thread computes: neighbours read the same elements


class Depthwise(Tailed):
    """y [images, out_height, out_width, channels] = tail(x [images, height, width, channels] * w + b), each channel by
    its own filter; w is [rows, columns, channels]. Elements beyond the image count as zeros.

    Strips keep the elements of a line in registers: per line of the filter (STRIP - 1) * stride + (columns - 1) *
    dilation + 1 loads for STRIP * columns multiply-adds.
    """

    family = "depthwise"
    template = "metal/depthwise.metal.j2"
    window: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    strip: int = STRIP
    many: int = 1

    @property
    def name(self) -> str:
        stride = "" if self.strides == (1, 1) else f"_stride_{self.strides[0]}x{self.strides[1]}"
        dilation = "" if self.dilations == (1, 1) else f"_dilation_{self.dilations[0]}x{self.dilations[1]}"
        strip = "" if self.strip == STRIP else f"_strip_{self.strip}"
        many = "" if self.many == 1 else f"_by_{self.many}"
        return f"depthwise_{self.window[0]}x{self.window[1]}{stride}{dilation}{strip}{many}{self.kind}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter(f"const {self.ctype} *", name) for name in ("x", "w")]
        bias = Parameter("const float *", "b")
        return [*given, bias, *self.other, self.result, *sizes(*GEOMETRY), *self.pitch]

    def launch(self, numbers: Numbers) -> Launch:
        strips = -(-int(numbers["out_width"]) // self.strip)
        return planar(int(numbers["channels"]), int(numbers["images"]) * int(numbers["out_height"]) * strips)

    @property
    def taken(self) -> int:
        """Elements of a line of x that a strip reads."""
        return (self.strip - 1) * self.strides[1] + (self.window[1] - 1) * self.dilations[1] + 1

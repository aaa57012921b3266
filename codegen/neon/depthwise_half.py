"""Depthwise convolutions of halves: eight channels at a time along a line, whose filters stay in registers."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.expression import Apply, Body, Expression, Number, functions, write
from codegen.neon.gemm_tail import is_held
from codegen.neon.tailed import Tailed, other, suffix
from codegen.neon.vectors import HALVES, VECTOR
from codegen.program import Parameter, sizes

Pair = tuple[int, ...]
LANES = 8
PIXELS = 4  # of a line at a time


class HalfDepthwise(Tailed):
    """y = tail(depthwise(x, w) + b) in 32 bits, for images [images, height, width, channels] with their borders, of at
    least eight channels. w holds for each eight channels, the last of which may overlap with those before, their
    biases, then the weights of each tap. Pairs are [height, width]."""

    family = "depthwise"
    template = "neon/depthwise_half.c.j2"
    kernel: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)

    @property
    def kind(self) -> str:
        """In the name."""
        return "half"

    @property
    def name(self) -> str:
        made = f"depthwise_{self.kind}_{self.kernel[0]}x{self.kernel[1]}"
        made += f"_s{self.strides[0]}x{self.strides[1]}" * (self.strides != (1, 1))
        made += f"_d{self.dilations[0]}x{self.dilations[1]}" * (self.dilations != (1, 1))
        return made + suffix(self.tail)

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter("const half_t *", "x"), Parameter("const half_t *", "w"), *other(self.tail, "half_t")]
        image = sizes("images", "height", "width", "channels", "out_height", "out_width", "begin", "end")
        return [*pointers, Parameter("half_t *", "y"), *image]

    @property
    def taps(self) -> list[tuple[int, int]]:
        """Lines and columns of the filter, by their distance from the first."""
        down, along = self.dilations
        return [(row * down, column * along) for row in range(self.kernel[0]) for column in range(self.kernel[1])]

    @property
    def pixels(self) -> Sequence[int]:
        """How many of a line are computed at a time."""
        return PIXELS, 1

    def part(self, result: str, second: str) -> Body:
        """The tail of four results in 32 bits."""
        return write(self.tail, VECTOR, {0: result, 1: second}, prefix=f"{result}_")

    @property
    def is_half(self) -> bool:
        """Whether there are variants that multiply halves."""
        return False

    @property
    def ends_in_halves(self) -> bool:
        """Whether the tail is computed in 16 bits as well."""
        return self.is_half and all(f in HALVES.writers for f in functions(self.tail)) and _is_held(self.tail)

    def whole(self, result: str, second: str) -> Body:
        """The tail of eight results in 16 bits."""
        return write(self.tail, HALVES, {0: result, 1: second}, prefix=f"{result}_")


class Fp16Depthwise(HalfDepthwise):
    """The same in 16 bits."""

    isa = "fp16"

    @property
    def kind(self) -> str:
        return "fp16"

    @property
    def is_half(self) -> bool:
        return True


def _is_held(e: Expression) -> bool:
    """Whether halves hold all numbers."""
    if isinstance(e, Apply):
        return all(map(_is_held, e.arguments))
    return not isinstance(e, Number) or is_held(float(e.value), "8h")

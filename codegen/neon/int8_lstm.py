"""The long short-term memory of bytes, whose gates and cell state have 16 bits."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.program import Kernel, Parameter, sizes

NUMBERS = (
    "by0", "shift0", "by1", "shift1", "by2", "shift2", "by3", "shift3", "again0", "right0", "again1", "right1",
    "again2", "right2", "again3", "right3", "cell_bits", "clip", "by", "shift", "zero",
)  # fmt: skip


class Lstm(Kernel):
    """Sequences x to y by four gates: input, forget, cell, output. w [4, units, features] and r [4, units, units] are
    their weights, with what is to be added to sums of products (biases, and what zero points add) in w_sums and r_sums
    [4, units]. `step` and `line` are elements from a step to the next, and from a sequence to the next, in x; y_step
    and y_line in y. The states begin as the zero point and 0. `scratch` has room for 6 units in 16 bits."""

    family = "int8"
    template = "neon/int8_lstm.c.j2"

    @property
    def name(self) -> str:
        return "int8_lstm"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter("const int8_t *", n) for n in ("x", "w", "r")]
        given += [Parameter("const int32_t *", n) for n in ("w_sums", "r_sums", "numbers")]
        places = [Parameter("int16_t *", "scratch"), Parameter("int8_t *", "y")]
        names = ("lines", "steps", "features", "units", "line", "step", "y_line", "y_step")
        return [*given, *places, *sizes(*names)]

    @property
    def numbers(self) -> Sequence[str]:
        """What the numbers are called."""
        return NUMBERS

"""Products of two computed matrices of bytes."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.program import Kernel, Parameter, sizes

NUMBERS = ("zero_x", "zero_w", "zero_y", "multiplier", "shift", "least", "most")


class MatMul(Kernel):
    """y [batch, m, n] = x [batch, m, k] w, with w [batch, k, n], or [batch, n, k] if it `is_flipped`. From a matrix to
    the next there are `x_step` and `w_step` elements. `sums` has room for n numbers."""

    family = "int8"
    template = "neon/int8_matmul.c.j2"
    is_flipped: bool

    @property
    def name(self) -> str:
        return f"int8_matmul{'_flipped' * self.is_flipped}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter("const int8_t *", name) for name in "xw"]
        places = [Parameter("int32_t *", "sums")] * (not self.is_flipped) + [Parameter("int8_t *", "y")]
        counts = sizes("batch", "m", "n", "k", "x_step", "w_step")
        return [*given, *places, *counts, *(Parameter("int32_t", name) for name in NUMBERS)]

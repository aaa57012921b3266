"""Borders of images of bytes."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.gemm import sizes
from codegen.program import Kernel, Parameter


class Int8Border(Kernel):
    """Images with a border of a number: each line of `line` bytes has so many before and after it, and there are whole
    lines above and below."""

    family = "int8"
    template = "neon/int8_border.c.j2"

    @property
    def name(self) -> str:
        return "int8_border"

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter("const int8_t *", "from"), Parameter("int8_t *", "to")]
        counts = sizes("images", "lines", "line", "top", "bottom", "left", "right")
        return [*pointers, *counts, Parameter("int", "fill")]

"""Borders around images."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.program import Kernel, Parameter


class Border(Kernel):
    """Images with a border of equal bytes: each line of `line` bytes has so many before and after it, and there are
    whole lines above and below."""

    family = "border"
    template = "neon/border.c.j2"

    @property
    def name(self) -> str:
        return "add_border"

    @property
    def parameters(self) -> Sequence[Parameter]:
        names = ("images", "lines", "line", "top", "bottom", "left", "right")
        pointers = [Parameter("const void *", "from"), Parameter("void *", "to")]
        return [*pointers, *(Parameter("size_t", name) for name in names), Parameter("int", "fill")]

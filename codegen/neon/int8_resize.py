"""Images of another size, bilinearly, and places of extremes."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.program import Kernel, Parameter, sizes


class Bilinear(Kernel):
    """Images [images, height, width, channels] to `rows` x `columns` pixels. For each row and column of the result a
    table holds the places before and after it, and its distance from the former in units of 1/1024."""

    family = "int8"
    template = "neon/int8_bilinear.c.j2"
    ctype: str = "int8_t"

    @property
    def name(self) -> str:
        return f"{self.ctype.removesuffix('_t')}_bilinear"

    @property
    def fraction(self) -> str:
        """The type of distances."""
        return "float" if self.ctype == "float" else "int32_t"

    @property
    def parameters(self) -> Sequence[Parameter]:
        tables = [Parameter("const int32_t *", name) for name in ("down", "right")]
        counts = sizes("images", "height", "width", "channels", "rows", "columns")
        if self.ctype == "float":
            tables += [Parameter("const float *", name) for name in ("down_by", "right_by")]
        return [Parameter(f"const {self.ctype} *", "x"), *tables, Parameter(f"{self.ctype} *", "y"), *counts]


class Extreme(Kernel):
    """Where along an axis of `n` elements, `inner` apart, the first greatest or least one is."""

    family = "int8"
    template = "neon/int8_extreme.c.j2"
    is_greatest: bool
    ctype: str
    of: str = "int8_t"

    @property
    def name(self) -> str:
        return f"{self.of.removesuffix('_t')}_place_of_{'greatest' if self.is_greatest else 'least'}_{self.ctype[:-2]}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        return [Parameter(f"const {self.of} *", "x"), Parameter(f"{self.ctype} *", "y"), *sizes("outer", "n", "inner")]

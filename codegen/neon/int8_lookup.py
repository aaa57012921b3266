"""Tables: functions of one byte, moves that no strides describe, and softmax."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.copies import UNITS
from codegen.program import Kernel, Parameter, sizes


class Lookup(Kernel):
    """y[i] = table[x[i]], where x is taken for an unsigned number of `bits`."""

    family = "int8"
    template = "neon/int8_lookup.c.j2"
    ctype: str
    bits: int = 8

    @property
    def name(self) -> str:
        return f"lookup_{self.bits}_to_{self.ctype.removesuffix('_t')}"

    @property
    def is_vector(self) -> bool:
        """Whether registers hold the table."""
        return self.bits == 8 and self.ctype in ("int8_t", "uint8_t")

    @property
    def parameters(self) -> Sequence[Parameter]:
        x, table = Parameter(f"const uint{self.bits}_t *", "x"), Parameter(f"const {self.ctype} *", "table")
        return [x, table, Parameter(f"{self.ctype} *", "y"), *sizes("count")]


class Pick(Kernel):
    """y[i] = x[places[i]], in elements of `size` bytes; where a place is negative, y stays."""

    family = "int8"
    template = "neon/int8_pick.c.j2"
    size: int

    @property
    def name(self) -> str:
        return f"pick_{8 * self.size}bit"

    @property
    def unit(self) -> str:
        """The type of C of an element."""
        return UNITS[self.size]

    @property
    def parameters(self) -> Sequence[Parameter]:
        x, places = Parameter(f"const {self.unit} *", "x"), Parameter("const int32_t *", "places")
        return [x, places, Parameter(f"{self.unit} *", "y"), *sizes("count")]


class Softmax(Kernel):
    """Of rows of bytes, to units of 1/256 from -128: exponentials are looked up by the distance from the greatest
    element."""

    family = "int8"
    template = "neon/int8_softmax.c.j2"

    @property
    def name(self) -> str:
        return "int8_softmax"

    @property
    def parameters(self) -> Sequence[Parameter]:
        x, table = Parameter("const int8_t *", "x"), Parameter("const int32_t *", "exponentials")
        return [x, table, Parameter("int8_t *", "y"), *sizes("rows", "n")]


class WideSoftmax(Kernel):
    """Of rows of 16-bit numbers, to units of 2^-15: exponentials and the reciprocal of their sum are looked up between
    samples, of the distance from the greatest element times a factor."""

    family = "int8"
    template = "neon/int16_softmax.c.j2"

    @property
    def name(self) -> str:
        return "int16_softmax"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter("const int16_t *", name) for name in ("x", "exponentials", "reciprocals")]
        by = [Parameter("int32_t", name) for name in ("multiplier", "shift")]
        return [*given, Parameter("int16_t *", "y"), *sizes("rows", "n"), *by]


class LogSoftmax(Kernel):
    """Of rows of bytes, to units of 1/16 from 127 down. By the distance from the greatest element two tables tell its
    exponential, in Q12.19, and what it is in Q5.26; a factor takes logarithms back to distances, of which those up to
    `least` count for nothing."""

    family = "int8"
    template = "neon/int8_log_softmax.c.j2"

    @property
    def name(self) -> str:
        return "int8_log_softmax"

    @property
    def parameters(self) -> Sequence[Parameter]:
        tables = [Parameter("const int32_t *", name) for name in ("exponentials", "fine")]
        numbers = [Parameter("int32_t", name) for name in ("multiplier", "shift", "least")]
        return [Parameter("const int8_t *", "x"), *tables, Parameter("int8_t *", "y"), *sizes("rows", "n"), *numbers]


class Normalization(Kernel):
    """Rows of bytes, less a zero point, by their Euclidean norms, to units of 1/128."""

    family = "int8"
    template = "neon/int8_normalization.c.j2"

    @property
    def name(self) -> str:
        return "int8_normalization"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter("const int8_t *", "x"), Parameter("int8_t *", "y")]
        return [*given, *sizes("rows", "n"), Parameter("int32_t", "zero")]


class Pool(Kernel):
    """The mean or the greatest of the elements below windows that slide over images [images, height, width, channels];
    what is outside counts for nothing."""

    family = "int8"
    template = "neon/int8_pool.c.j2"
    is_mean: bool
    size: tuple[int, int]
    strides: tuple[int, int]
    ctype: str = "int8_t"

    @property
    def is_float(self) -> bool:
        """Whether elements are floats."""
        return self.ctype == "float"

    @property
    def name(self) -> str:
        what = "mean" if self.is_mean else "max"
        kind = self.ctype.removesuffix("_t")
        return f"{kind}_{what}_pool_{self.size[0]}x{self.size[1]}_s{self.strides[0]}x{self.strides[1]}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        counts = sizes("images", "height", "width", "channels", "rows", "columns", "top", "left")
        kind = "float" if self.is_float else "int32_t"
        limits = [Parameter(kind, "least"), Parameter(kind, "most")]
        return [Parameter(f"const {self.ctype} *", "x"), Parameter(f"{self.ctype} *", "y"), *counts, *limits]

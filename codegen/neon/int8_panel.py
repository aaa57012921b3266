"""Products of matrices of 16-bit integers times bytes, and of floats: rows times packed panels of columns."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.program import Kernel, Parameter, sizes

PANEL = 8  # columns
ROWS = 4  # that are computed side by side
ENDINGS = ("short", "fixed", "real", "float")
WALK = ("lines", "m", "n", "x_line", "y_line", "ldx", "ldy", "depth", "count1", "pitch1", "count2", "pitch2")


class PanelProduct(Kernel):
    """`lines` lines, `x_line` and `y_line` elements apart, of m rows, `ldx` and `ldy` apart: y = x w + biases, with n
    columns. A row of x is `depth` elements, and that `count1` times, `pitch1` apart, and all that `count2` times.

    w      panels of 8 columns: for each element of a row their weights
    ending short: sums of 64 bits times factors of 15 bits; fixed: sums of 32 bits times factors of 31 bits, rounded
           twice; real: times real numbers; float: sums of floats, limited
    is_long  sums of one panel may exceed 32 bits before biases are added
    """

    family = "int8"
    template = "neon/int8_panel.c.j2"
    ending: str
    is_long: bool = False

    @property
    def name(self) -> str:
        return "float_panels" if self.is_float else f"int16_panels_{self.ending}{'_long' * self.is_long}"

    @property
    def is_float(self) -> bool:
        """Of floats."""
        return self.ending == "float"

    @property
    def types(self) -> tuple[str, str, str]:
        """Of elements, of weights as they are packed, and of sums."""
        if self.is_float:
            return "float", "float", "float"
        return "int16_t", "int16_t", "int64_t" if self.is_long else "int32_t"

    @property
    def parameters(self) -> Sequence[Parameter]:
        x, w, _ = self.types
        bias = "float" if self.is_float else "int64_t"
        given = [Parameter(f"const {x} *", "x"), Parameter(f"const {w} *", "w"), Parameter(f"const {bias} *", "bias")]
        if self.ending == "real":
            given.append(Parameter("const double *", "factor"))
        elif not self.is_float:
            given += [Parameter("const int32_t *", "factor"), Parameter("const int32_t *", "shift")]
        limit = "float" if self.is_float else "int32_t"
        limits = [
            Parameter(limit, name) for name in (("least", "most") if self.is_float else ("zero", "least", "most"))
        ]
        return [*given, Parameter(f"{x} *", "y"), *sizes(*WALK), *limits]


class ChannelProduct(Kernel):
    """Depthwise convolutions of images with their borders, [images, height, width, channels]: weights
    [size[0], size[1], channels], each channel by itself. `ending` and `is_long` as of PanelProduct."""

    family = "int8"
    template = "neon/int8_channels.c.j2"
    ending: str
    size: tuple[int, int]

    @property
    def name(self) -> str:
        kind = "float" if self.is_float else f"int16_{self.ending}"
        return f"depthwise_{kind}_{self.size[0]}x{self.size[1]}"

    @property
    def is_float(self) -> bool:
        """Of floats."""
        return self.ending == "float"

    @property
    def types(self) -> tuple[str, str, str]:
        """Of elements, of weights as they are packed, and of sums."""
        return ("float", "float", "float") if self.is_float else ("int16_t", "int16_t", "int32_t")

    @property
    def parameters(self) -> Sequence[Parameter]:
        product = PanelProduct(ending=self.ending)
        given = [p for p in product.parameters if p.name not in WALK]
        limits = [p for p in given if p.name in ("zero", "least", "most")]
        names = ("images", "rows", "columns", "channels", "image", "down", "right", "tall", "wide")
        return [*(p for p in given if p not in limits), *sizes(*names), *limits]

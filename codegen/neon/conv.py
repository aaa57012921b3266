"""Convolutions of images that lie channels-last, on the micro-kernels of products of matrices: an output pixel is a row
of the product, and what its filter covers in a line of the image lies in memory one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from codegen.neon.gemm import Floats, Strip
from codegen.neon.gemm_model import schedule
from codegen.neon.plain import Plain, pointers
from codegen.neon.tailed import other, suffix
from codegen.program import Kernel, Parameter, sizes
from compiler.record import Record

Ints = tuple[int, ...]


class Geometry(Record):
    """What convolutions know of their layer: an image [images, height, width, channels] with its borders, filters
    [filters, *kernel, channels / groups], the pixels `out` = [height, width] that come out."""

    images: int
    height: int
    width: int
    channels: int
    filters: int
    kernel: Ints
    out: Ints
    strides: Ints = (1, 1)
    dilations: Ints = (1, 1)
    groups: int = 1

    @property
    def shape_name(self) -> str:
        """The part of a name that tells of the layer."""
        kind = f"{'x'.join(map(str, self.kernel))}_{self.channels}_at_{self.height}x{self.width}_to_{self.filters}"
        kind += f"_s{'x'.join(map(str, self.strides))}" * (self.strides != (1, 1))
        kind += f"_d{'x'.join(map(str, self.dilations))}" * (self.dilations != (1, 1))
        return kind + f"_g{self.groups}" * (self.groups > 1) + f"_n{self.images}" * (self.images > 1)

    @property
    def line(self) -> int:
        """Elements of a line of the image."""
        return self.width * self.channels

    @property
    def depth(self) -> int:
        """Channels that a filter sees."""
        return self.channels // self.groups


class Conv(Geometry, Floats):
    """y = tail(conv(x, w) + b), for lines of the result from `begin` to before `last`.

    rows, count, last_rows, last_count   how the pixels of a line of the result are cut
    vectors                              of the filters that are computed at once
    block                                lines of the result that are done with all filters before the next begin
    """

    family = "gemm"
    template = "neon/conv.c.j2"
    rows: int
    count: int
    last_rows: int
    last_count: int
    vectors: int
    block: int
    in_order: bool = False

    @property
    def name(self) -> str:
        return f"conv{self.kind}_{self.shape_name}{'_in_order' * self.in_order}{suffix(self.tail)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = f"const {self.ctype} *"
        pointers = [Parameter(given, "x"), Parameter(given, "w"), *other(self.tail, self.ctype)]
        return [*pointers, Parameter(f"{self.ctype} *", "y"), *sizes("begin", "last")]

    @property
    def columns(self) -> int:
        """Of a whole panel of filters."""
        return self.lanes * self.vectors

    @property
    def many(self) -> int:
        """Filters of a group."""
        return self.filters // self.groups

    @property
    def last_columns(self) -> int:
        """Filters of a group that are left over."""
        return self.many % self.columns

    @property
    def run(self) -> int:
        """Elements that lie one after the other below a filter."""
        return run(self)

    @property
    def levels(self) -> list[tuple[int, int]]:
        """How often such a run is repeated, and how far apart."""
        return levels(self)

    @property
    def panel(self) -> int:
        """Weights of a filter, and its bias."""
        return self.depth * prod(self.kernel) + 1

    @property
    def panels(self) -> list[int]:
        """The columns of each kind of panel."""
        return [c for c in (self.columns if self.many >= self.columns else 0, self.last_columns) if c]

    @property
    def needs(self) -> Sequence[Kernel]:
        return [self.strip(r, c) for r in (self.rows, self.last_rows) if r for c in self.panels]

    def strip(self, rows: int, columns: int) -> Strip:
        """The micro-kernel of a size."""
        made = schedule(self.rows, self.vectors, in_order=self.in_order)
        assert made is not None
        return Strip(
            rows=rows,
            columns=columns,
            rest=self.run % made.per_turn,
            is_short=self.run < made.per_turn,
            levels=len(self.levels),
            in_order=self.in_order,
            tail=self.tail,
        )

    def arguments(self, columns: int, j: str, at: int, tiles: int) -> str:
        """Of a call of a strip for pixels from `at` on."""
        step = self.strides[1] * self.channels
        x = f"xi + {at * step}" if at else "xi"
        offset = f"{at * self.filters} + {j}" if at else j
        others = f"ri + {offset}, " if self.has_other else ""
        levels = "".join(f", {count}, {pitch}" for count, pitch in self.levels)
        return f"{x}, {step}, panel, {others}yi + {offset}, {self.filters}, {tiles}, {self.run}{levels}"


def run(g: Geometry) -> int:
    """Elements that lie one after the other below a filter."""
    return g.depth * g.kernel[1] if g.depth == g.channels and g.dilations[1] == 1 else g.depth


def levels(g: Geometry) -> list[tuple[int, int]]:
    """How often such a run is repeated, and how far apart, from the innermost on."""
    taps = [] if run(g) != g.depth or g.kernel[1] == 1 else [(g.kernel[1], g.dilations[1] * g.channels)]
    return taps + [(g.kernel[0], g.dilations[0] * g.line)] * (g.kernel[0] > 1)


class PlainWindows(Plain):
    """A convolution or a transposed one, of any number of axes and any type of elements, one result at a time.

    wide      the type of sums
    x, w, y   sizes of the operands and of the result, and their strides in elements, in logical order
    """

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
    def parameters(self) -> Sequence[Parameter]:
        names = ["x", "w", *["b"] * self.has_bias]
        return pointers([(self.ctype, n) for n in names], [(self.ctype, "y")])

    @property
    def axes(self) -> range:
        """The spatial axes."""
        return range(len(self.strides))


class PlainConv(PlainWindows):
    """A convolution."""

    template = "neon/plain_conv.c.j2"

    @property
    def name(self) -> str:
        return self.named("plain_conv", *self.w[0])

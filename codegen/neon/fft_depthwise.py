"""Depthwise convolutions with large filters, as products of Fourier transforms over two axes.

Four channels lie beside each other in all that is transformed, so that each butterfly is one of four channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from codegen.neon.fft import RADICES, Pass, Stage
from codegen.neon.tailed import Tailed, other, suffix
from codegen.program import Kernel, Parameter, sizes

Pair = tuple[int, int]
WIDTH = 4  # channels beside each other
COST = {5: 15.6, 4: 13.5, 3: 14.7, 2: 12.0}  # instructions for each number of a pass, by its radix
AROUND = 14.0  # and for what comes before, between and behind


@cache
def batched(points: int, step: int) -> tuple[Stage, ...]:
    """The passes of transforms of so many complex numbers that are `step` floats apart, of as many lines beside each
    other; none if there are not at least two passes."""
    made: list[Stage] = []
    at, left, width = 0, points, step
    for radix in RADICES:
        while left % radix == 0:
            left //= radix
            made.append(Stage(radix, left, width, at))
            width *= radix
            at += 2 * (radix - 1) * left
    return tuple(made) if left == 1 and len(made) > 1 else ()


def cost(points: Pair, tile: Pair) -> float:
    """Instructions for four channels of two tiles."""
    down, along = (sum(COST[s.radix] for s in batched(n, WIDTH)) for n in points)
    return points[0] * points[1] * (2 * down + along * (1 + tile[0] / points[0]) + AROUND)


class LoadTile(Kernel):
    """Four channels of a part of an image."""

    family = "fft"
    template = "neon/fft_tile.c.j2"
    is_internal = True

    @property
    def name(self) -> str:
        return "fft_load_tile"

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter("const float *", "x"), Parameter("float *", "y")]
        begins = [Parameter("ptrdiff_t", name) for name in ("top", "left")]
        return [*pointers, *sizes("height", "width", "channels"), *begins, *sizes("rows", "columns")]


class Product(Kernel):
    """Complex numbers times others, in place."""

    family = "fft"
    template = "neon/fft_product.c.j2"
    is_internal = True

    @property
    def name(self) -> str:
        return "fft_product"

    @property
    def parameters(self) -> Sequence[Parameter]:
        parts = [Parameter("float *", name) for name in ("re", "im")]
        return [*parts, Parameter("const float *", "h"), *sizes("count")]


class FftDepthwise(Tailed):
    """y = tail(depthwise(x, h) + b), tile by tile; pairs are [height, width]. h holds transformed filters, w the
    factors of passes along the width, then of those along the height."""

    family = "fft"
    template = "neon/fft_depthwise.c.j2"
    height: int
    width: int
    channels: int
    out: Pair
    kernel: Pair
    begins: Pair
    tile: Pair
    points: Pair

    @property
    def name(self) -> str:
        rows, columns = self.kernel
        image = f"{self.height}x{self.width}x{self.channels}"
        return f"depthwise_{rows}x{columns}_fft_{'x'.join(map(str, self.points))}_of_{image}{suffix(self.tail)}"

    @property
    def title(self) -> str:
        """For readers of the source."""
        filters, tiles = ("x".join(map(str, pair)) for pair in (self.kernel, self.tile))
        return f"Filters of {filters}, each of its own channel, on tiles of {tiles}."

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter("const float *", name) for name in ("x", "h", "w", "b")]
        made = [Parameter("float *", name) for name in ("y", "scratch")]
        return [*pointers, *other(self.tail), *made, *sizes("begin", "end")]

    @property
    def groups(self) -> int:
        """Of four channels."""
        return self.channels // WIDTH

    @property
    def across(self) -> int:
        """Tiles beside each other."""
        return -(-self.out[1] // self.tile[1])

    @property
    def tiles(self) -> int:
        """Of an image."""
        return -(-self.out[0] // self.tile[0]) * self.across

    @property
    def result(self) -> int:
        """Elements of a result."""
        return self.out[0] * self.out[1] * self.channels

    @property
    def room(self) -> int:
        """Floats of working memory."""
        return WIDTH * self.points[1] * 4 * (self.points[0] + 1)

    @property
    def load(self) -> LoadTile:
        """What fills tiles."""
        return LoadTile()

    @property
    def stages(self) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
        """Along the width, and along the height."""
        return batched(self.points[1], WIDTH), batched(self.points[0], WIDTH * self.points[1])

    @property
    def needs(self) -> Sequence[Kernel]:
        radices = dict.fromkeys(p for stages in self.stages for p in passes(stages))
        return [self.load, Product(), *radices]

    def along(self, re: str, im: str, to_re: str, to_im: str) -> Iterator[str]:
        """Transforms of one line, through buffers for lines."""
        length = WIDTH * self.points[1]
        lines = [f"line{f' + {i * length}' if i else ''}" for i in range(4)]
        places = [(lines[0], lines[1]), (lines[2], lines[3])]
        stages = self.stages[0]
        here = re, im
        for i, (stage, one) in enumerate(zip(stages, passes(stages), strict=True)):
            there = (to_re, to_im) if one.is_last else places[i % 2]
            yield call(one, stage, here, there, 0)
            here = there

    @property
    def down(self) -> Iterator[str]:
        """Transforms along the height, the product, and back, with the result where it began: where as many passes lead
        there and back."""
        stages = self.stages[1]
        here, there = ("re", "im"), ("to_re", "to_im")
        for stage, one in zip(stages, passes(stages), strict=True):
            yield call(one, stage, here, there, self._after)
            here, there = there, here
        count = WIDTH * self.points[0] * self.points[1]
        yield f"{Product().name}({here[0]}, {here[1]}, h + item % {self.groups} * {2 * count}, count);"
        for stage, one in zip(stages, passes(stages), strict=True):
            yield call(one, stage, here[::-1], there[::-1], self._after)
            here, there = there, here

    @property
    def _after(self) -> int:
        return self.stages[0][-1].at


def passes(stages: Sequence[Stage]) -> list[Pass]:
    """The kernels of passes."""
    return [Pass(radix=s.radix, ending="turned" if s is not stages[-1] else "apart") for s in stages]


def call(one: Pass, stage: Stage, here: tuple[str, str], there: tuple[str, str], at: int) -> str:
    """A pass, in C."""
    more = "" if one.is_last else f"w + {at + stage.at}, {stage.groups}, "
    return f"{one.name}({', '.join(here)}, {', '.join(there)}, {more}{stage.step});"

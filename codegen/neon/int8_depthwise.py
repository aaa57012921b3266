"""Depthwise convolutions of bytes: 16 channels of some neighbouring pixels at a time.

Products of a few taps are added up in 16 bits, as many as cannot overflow whatever the image is: `smull` and `smlal`;
these sums are added to those of 32 bits. Pixels that are computed together share what they read.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.assembly import INT8, packed
from codegen.neon.gemm_schedule import COUNT, REGISTERS, ROW, VECTOR, registers
from codegen.neon.int8_ending import FACTORS, Ending
from codegen.neon.int8_tiles import Group
from codegen.neon.tailed import digest
from codegen.program import Kernel, Parameter, sizes

LANES = 16  # channels
RESIDENT = 9  # weights that stay in registers, if there are no more
CHUNK = 4  # of the others are loaded at once, into a ring of two chunks: later pixels are some taps behind
RING = 2 * CHUNK
SUMS = 4  # accumulators of a pixel
LATEST = 4  # registers for what is read
NO_ENDING = Ending()


class DepthwiseForm(Kernel):
    """What strips and those that walk over them agree on.

    size, stride, dilation   of windows: rows and columns; of columns; of columns
    sums     how many taps are added up in 16 bits, one group after the other, row by row: equal numbers, then the rest
    pixels   that are computed together
    """

    family = "int8"
    size: tuple[int, int]
    stride: int
    dilation: int
    sums: tuple[int, ...]
    pixels: int
    ending: Ending = NO_ENDING

    @property
    def suffix(self) -> str:
        """Of names."""
        spread = f"_d{self.dilation}" * (self.dilation > 1)
        shape = f"{self.size[0]}x{self.size[1]}_s{self.stride}{spread}"
        return f"{shape}_{self.sums[0]}taps_by{self.pixels}{self.ending.suffix}"

    @property
    def taps(self) -> int:
        """Of a window."""
        return self.size[0] * self.size[1]

    @property
    def biases(self) -> int:
        """Bytes from the begin of a panel to the biases."""
        return self.ending.biases(SUMS)

    @property
    def panel(self) -> int:
        """Bytes of the weights of 16 channels with all that belongs to them."""
        return self.biases + VECTOR * (SUMS + self.taps)


class DepthwiseStrip(DepthwiseForm):
    """16 channels of `steps` times `pixels` pixels of a line. There are `pitch` bytes from a pixel to the next, in x
    and in y, and `line` from a row of a window to the next."""

    template = "neon/int8_depthwise_strip.c.j2"
    is_internal = True
    is_assembly = True
    header = INT8

    @property
    def name(self) -> str:
        return f"int8_depthwise_strip_{self.suffix}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        x, w, y = Parameter("const int8_t *", "x"), Parameter("const void *", "w"), Parameter("int8_t *", "y")
        return [x, w, y, *sizes("steps", "pitch", "line")]

    @property
    def places(self) -> int:
        """Pixels of a row that a step reads."""
        return (self.pixels - 1) * self.stride + (self.size[1] - 1) * self.dilation + 1

    @property
    def is_resident(self) -> bool:
        """Whether weights stay in registers."""
        return self.taps <= RESIDENT

    @property
    def groups(self) -> list[Group]:
        """The accumulators of each pixel."""
        first = REGISTERS - SUMS * self.pixels
        return [Group([first + SUMS * p + i for i in range(SUMS)], [p]) for p in range(self.pixels)]

    @property
    def weights(self) -> list[int]:
        """The registers of weights."""
        count = self.taps if self.is_resident else RING
        first = REGISTERS - SUMS * self.pixels - count
        return list(range(first, first + count))

    def _product(self, pixel: int) -> tuple[int, int]:
        first = FACTORS + LATEST + 2 * pixel
        return first, first + 1

    @property
    def clobbers(self) -> list[str]:
        """General registers that the assembly uses besides its operands."""
        return [f"x{ROW + i}" for i in range(self.size[0])] + [COUNT, "x16"]

    def assembly(self) -> list[tuple[str, list[str]]]:
        """Blocks of instructions with what they do, the lines of source packed."""
        rows = [f"mov x{ROW}, %[x]", *(f"add x{ROW + i}, x{ROW + i - 1}, %[line]" for i in range(1, self.size[0]))]
        blocks = [("the rows", rows), ("limits", self.ending.limits())]
        loaded = [f"ldr q{r}, [%[taps], #{VECTOR * i}]" for i, r in enumerate(self.weights)]
        blocks.append(("weights", loaded if self.is_resident else []))
        starts = [f"ld1 {registers(g.sums[0], SUMS)}, [%[biases]]" for g in self.groups]
        back = ["mov x16, %[taps]"] * (not self.is_resident)
        blocks.append((f"{self.pixels} pixels: biases", ["0:", *starts, *back]))
        blocks += [(f"row {row}", self._row(row)) for row in range(self.size[0])]
        used = {r for g in self.groups for r in g.sums} | (set(self.weights) if self.is_resident else set())
        free = [r for r in range(REGISTERS) if r not in used]
        blocks.append(("sums to bytes", self.ending.lines(self.groups, free, limits=False)))
        stored = [f"st1 {{v{g.sums[0]}.16b}}, [%[y]], %[pitch]" for g in self.groups]
        blocks.append(("results", [*stored, "subs %[steps], %[steps], #1", "b.ne 0b"]))
        return [(title, packed(lines, INT8)) for title, lines in blocks if lines]

    def _row(self, row: int) -> list[str]:
        """The products of a row of the windows; the pointer ends at what the next step reads first."""
        lines: list[str] = []
        columns = self.size[1]
        for place in range(self.places):
            x = FACTORS + place % LATEST
            step = "%[back]" if place == self.places - 1 else "%[pitch]"
            lines.append(f"ld1 {{v{x}.16b}}, [x{ROW + row}], {step}")
            for pixel in range(self.pixels):
                column, rest = divmod(place - pixel * self.stride, self.dilation)
                if rest or not 0 <= column < columns:
                    continue
                if not self.is_resident and pixel == 0:
                    lines += self._fetched(row * columns + column)
                lines += self._tap(pixel, row * columns + column, x)
        return lines

    def _fetched(self, tap: int) -> list[str]:
        """Load the next weights, where they stream."""
        if tap % CHUNK:
            return []
        first, count = tap % RING, min(CHUNK, self.taps - tap)
        names = ", ".join(f"v{r}.16b" for r in self.weights[first : first + count])
        return [f"ld1 {{{names}}}, [x16], #{VECTOR * count}"]

    def _tap(self, pixel: int, tap: int, x: int) -> list[str]:
        ends = [sum(self.sums[: i + 1]) for i in range(len(self.sums))]
        verb = "smull" if tap == 0 or tap in ends else "smlal"
        low, high = self._product(pixel)
        w = self.weights[tap % len(self.weights)]
        lines = [f"{verb} v{low}.8h, v{x}.8b, v{w}.8b", f"{verb}2 v{high}.8h, v{x}.16b, v{w}.16b"]
        if tap + 1 in ends:
            a = self.groups[pixel].sums
            lines += [f"saddw v{a[0]}.4s, v{a[0]}.4s, v{low}.4h", f"saddw2 v{a[1]}.4s, v{a[1]}.4s, v{low}.8h"]
            lines += [f"saddw v{a[2]}.4s, v{a[2]}.4s, v{high}.4h", f"saddw2 v{a[3]}.4s, v{a[3]}.4s, v{high}.8h"]
        return lines


class Depthwise(DepthwiseForm):
    """y = conv(x, w) of images with their borders, [images, height, width, channels], at least 16 channels; the last 16
    are computed together, though some of them may have been before. If it `is_shared`, the lines of each image from
    `begin` to `end`."""

    template = "neon/int8_depthwise.c.j2"
    images: int
    height: int
    width: int
    channels: int
    out: tuple[int, int]
    down: int
    tall: int
    is_shared: bool = False

    @property
    def name(self) -> str:
        shape = f"{self.channels}_at_{self.height}x{self.width}"
        return f"int8_depthwise_{self.size[0]}x{self.size[1]}_{shape}_{digest(self)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        part = sizes("begin", "end") if self.is_shared else []
        return [Parameter("const int8_t *", "x"), Parameter("const void *", "w"), Parameter("int8_t *", "y"), *part]

    @property
    def needs(self) -> Sequence[Kernel]:
        return [self.strip]

    @property
    def strip(self) -> DepthwiseStrip:
        """The micro-kernel."""
        return DepthwiseStrip(**{name: getattr(self, name) for name in DepthwiseForm.fields})

    @property
    def blocks(self) -> int:
        """Of 16 channels, the last of which may overlap."""
        return -(-self.channels // LANES)


def fits(ending: Ending, taps: int, pixels: int) -> bool:
    """Whether there are registers for so many pixels at a time."""
    extra = SUMS * ending.has_left + ending.is_mixed
    kept = FACTORS + SUMS * pixels + (taps if taps <= RESIDENT else 0)
    return kept + 2 * SUMS + extra <= REGISTERS and FACTORS + LATEST + (2 + SUMS) * pixels + RING <= REGISTERS

"""Depthwise convolutions of images that lie channels-last: each channel has its own filter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import lcm

from codegen.expression import Expression, Operand
from codegen.neon.depthwise_schedule import Cut, Line, Slide
from codegen.neon.gemm import LINE, WIDTH
from codegen.neon.gemm_tail import Constant
from codegen.neon.tailed import Tailed, digest, other, suffix
from codegen.program import Kernel, Parameter, sizes

IMAGE = ("images", "height", "width", "channels", "out_height", "out_width", "begin", "end", "top")


MACROS = {
    re.compile(r"fmla v(\d+)\.4s, v(\d+)\.4s, v(\d+)\.4s"): "TAP({}, {}, {})",
    re.compile(r"ld1 \{v(\d+)\.4s, v(\d+)\.4s\}, \[%\[x(\d)\]\], %\[step\3\]"): "PIXEL({}, {}, {})",
    re.compile(r"ld1 \{v(\d+)\.4s, v(\d+)\.4s\}, \[%\[w\]\]"): "BIASES({}, {})",
    re.compile(r"st1 \{v(\d+)\.4s, v(\d+)\.4s\}, \[%\[y\]\], %\[step\]"): "RESULT({}, {})",
    re.compile(r"fmax v(\d+)\.4s, v\1\.4s, v(\d+)\.4s"): "AT_LEAST({}, {})",
    re.compile(r"fmin v(\d+)\.4s, v\1\.4s, v(\d+)\.4s"): "AT_MOST({}, {})",
}
"""What stands in the source for instructions that occur again and again."""


class Macros(Kernel):
    """Names for instructions of strips."""

    family = "depthwise"
    template = "neon/depthwise_macros.c.j2"
    is_internal = True
    is_assembly = True

    @property
    def name(self) -> str:
        return "TAP"

    @property
    def parameters(self) -> Sequence[Parameter]:
        return ()


class DepthwiseTwin(Tailed):
    """What strips of `vectors` do, with any filter: for processors other than those that they are written for."""

    family = "depthwise"
    template = "neon/depthwise_twin.c.j2"
    is_internal = True
    vectors: int
    is_first: bool = True

    @property
    def name(self) -> str:
        return f"depthwise_twin{'' if self.is_first else '_more'}_{WIDTH * self.vectors}{suffix(self.tail)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        return [*strip_parameters(self.tail), *sizes("rows", "columns", "stride", "left", "right")]


def strip_parameters(tail: Expression) -> list[Parameter]:
    """Rows of the image, bytes from a pixel to the next of each, weights; what is between lines is in bytes too."""
    pointers = [Parameter("const float *const *", "x"), Parameter("const size_t *", "steps")]
    pointers += [Parameter("const float *", "w"), *other(tail), Parameter("float *", "y")]
    return [*pointers, *sizes("channels", "lines", "out_width", "next_line")]


class DepthwiseStrip(Tailed):
    """Lines of the result, `vectors` of channels wide, from `rows` rows of the filters.

    w holds the biases of the channels, then the weights of each column of each row. The first of several strips of a
    filter begins with the biases (`is_first`), the others with what that has stored.
    """

    family = "depthwise"
    template = "neon/depthwise_strip.c.j2"
    is_internal = True
    line: Line
    rows: int
    vectors: int
    depth: int
    skew: int = 0
    is_first: bool = True
    in_order: bool = False

    @property
    def name(self) -> str:
        part = "" if self.is_first else "_more"
        shape = (
            f"{self.rows}x{self.line.kernel}_s{self.line.stride}_{WIDTH * self.vectors}{'_in_order' * self.in_order}"
        )
        return f"depthwise_strip{part}_{shape}{suffix(self.tail)}_{digest(self.line.values())}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        return strip_parameters(self.tail)

    @property
    def needs(self) -> Sequence[Kernel]:
        return [Macros(), self.twin]

    @property
    def twin(self) -> DepthwiseTwin:
        """The same without assembly."""
        return DepthwiseTwin(vectors=self.vectors, tail=self.tail, is_first=self.is_first)

    @property
    def slide(self) -> Slide:
        """Its schedule."""
        return Slide(**self.values())

    # -- assembly --------------------------------------------------------------------------------------------

    @property
    def constants(self) -> list[Constant]:
        """Numbers of the tail that come in general registers."""
        return [c for c in self.slide.end.constants if c.operand] if self.slide.end.fits else []

    @property
    def clobbers(self) -> list[str]:
        """Registers that the assembly uses besides its operands."""
        slide = self.slide
        used = {*range(slide.registers), *(slide.end.used if slide.end.fits else [])}
        return [f"v{r}" for r in sorted(used)]

    def assembly(self) -> list[tuple[str, list[str]]]:
        """Blocks of instructions with what they do, the lines of source packed."""
        slide = self.slide
        constants = [c.line for c in slide.end.constants] if slide.end.fits else []
        before, turn, after = slide.parts()
        blocks = [("weights", [*slide.load_weights(), *constants]), ("one line: its first columns", ["0:"])]
        blocks[-1][1].extend([*slide.first_loads(), *before])
        if turn:
            loop = ["mov %[count], %[turns]", "1:", *turn, "subs %[count], %[count], #1", "b.ne 1b"]
            blocks.append((f"{slide.outs} pixels at a time", loop))
        moved = [f"add %[x{i}], %[x{i}], %[next]" for i in range(self.rows)]
        blocks += [("the last columns", after), ("the next line", ["subs %[lines], %[lines], #1", *moved, "b.ne 0b"])]
        return [(title, packed(lines)) for title, lines in blocks]


class Depthwise(Tailed):
    """y = tail(depthwise(x, w) + b). `top` lines of border are above the image.

    lines     a line of the result; if the columns of filters are not neighbours, every so manieth pixel of it from the
              first, the second, ... on
    starts    for each of these the column of the image that it reads first
    passes    how the rows of the filters are computed, one part after the other
    spacing   lines between the rows of a filter
    stride    lines between the filters of neighbouring lines of the result
    vectors   widths of strips, in vectors; fewer channels than the smallest are refused
    in_order  for cores that issue in order
    block     lines of the result that are done with a strip of channels before the next one begins
    """

    family = "depthwise"
    template = "neon/depthwise.c.j2"
    lines: tuple[Line, ...]
    passes: tuple[tuple[Cut, ...], ...]  # for each width
    vectors: tuple[int, ...]
    stride: int = 1
    spacing: int = 1
    starts: tuple[int, ...] = (0,)
    in_order: bool = False

    @property
    def line(self) -> Line:
        """The first one."""
        return self.lines[0]

    @property
    def name(self) -> str:
        shape = f"{self.rows}x{self.line.kernel}_s{self.stride}"
        if self.line.stride != self.stride:
            shape += f"x{self.line.stride}"
        spacing = (self.spacing, len(self.lines))
        shape += f"_d{'x'.join(map(str, spacing))}" * (spacing != (1, 1))
        shape += "_in_order" * self.in_order
        told = ([line.values() for line in self.lines], self.starts, self.vectors)
        return f"depthwise_{shape}{suffix(self.tail)}_{digest(told)}"

    @property
    def rows(self) -> int:
        """Of a filter."""
        return sum(c.rows for c in self.passes[0])

    @property
    def reach(self) -> int:
        """Lines of the image from the first to the last that a filter covers."""
        return (self.rows - 1) * self.spacing + 1

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter("const float *", "x"), Parameter("const float *", "w"), *other(self.tail)]
        return [*pointers, Parameter("float *", "y"), *sizes(*IMAGE, "block")]

    @property
    def needs(self) -> Sequence[Kernel]:
        return [s for i in range(len(self.vectors)) for line in self.lines for s, _ in self.strips(line, i)]

    def strips(self, line: Line, i: int) -> list[tuple[DepthwiseStrip, int]]:
        """The passes of the i-th width, each with the first row of the filters."""
        made: list[tuple[DepthwiseStrip, int]] = []
        row = 0
        for cut in self.passes[i]:
            is_last = row + cut.rows == self.rows
            strip = DepthwiseStrip(
                line=line,
                rows=cut.rows,
                vectors=self.vectors[i],
                depth=cut.depth,
                skew=cut.skew,
                in_order=self.in_order,
                tail=self.tail if is_last else Operand(0),
                is_first=not row,
            )
            made.append((strip.with_(line=strip.slide.shortened), row))
            row += cut.rows
        return made

    def shortened(self, line: Line) -> Line:
        """A line with as few turns of loops as all strips can tell apart from more."""
        slides = [s.slide for i in range(len(self.vectors)) for s, _ in self.strips(line, i)]
        return line.shortened(lcm(*(s.outs for s in slides)), max(s.lag for s in slides), max(s.left for s in slides))

    def panel(self, i: int) -> int:
        """Floats of a strip of the i-th width: biases and weights."""
        return WIDTH * self.vectors[i] * (1 + self.rows * self.line.kernel)


class DepthwiseAny(Tailed):
    """y = tail(depthwise(x, w) + b) for any filters; w holds the biases of all channels, then the weights of each tap.
    Taps that lie in the border are left out. Sizes are [height, width]."""

    family = "depthwise"
    template = "neon/depthwise_any.c.j2"

    @property
    def name(self) -> str:
        return f"depthwise{suffix(self.tail)}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter("const float *", "x"), Parameter("const float *", "w"), *other(self.tail)]
        names = ("rows", "columns", "stride_y", "stride_x", "dilation_y", "dilation_x", "left")
        return [*pointers, Parameter("float *", "y"), *sizes(*IMAGE, *names)]


def packed(lines: Sequence[str]) -> list[str]:
    """Lines of source: strings of some instructions each, and macros between them; labels on their own."""
    made: list[str] = []
    now = ""
    for line in lines:
        if line.endswith(":"):
            made += [now] * bool(now) + [f'"{line}\\n"']
            now = ""
            continue
        word = _word(line)
        joined = now[:-1] + word[1:] if now.endswith('"') and word.startswith('"') else f"{now} {word}".lstrip()
        if len(joined) > LINE and now:
            made.append(now)
            joined = word
        now = joined
    return [*made, now] if now else made


def _word(line: str) -> str:
    for form, macro in MACROS.items():
        if found := form.fullmatch(line):
            return macro.format(*found.groups())
    return f'"{line}\\n "'

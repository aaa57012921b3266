"""Fast Fourier transforms by the self-sorting scheme of Stockham: passes of butterflies between two buffers, the parts
of complex numbers apart, four neighbours at a time.

The first pass goes through neighbouring inputs and interleaves its results; from then on numbers with the same factor
lie side by side. Real numbers are transformed as half as many complex ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import cos, pi, sin
from typing import NamedTuple

from codegen.program import Kernel, Parameter, sizes

RADICES = (5, 4, 3, 2)  # of passes after the first, in the order in which they are made
FIRST = 4
LEAST = 16  # complex numbers
SCRATCH = 4  # floats of working memory for each complex number
KINDS = ("real", "whole", "complex", "inverse", "real_inverse")


class Stage(NamedTuple):
    """A pass: butterflies of `radix`, of which `groups` have factors of their own, each for `step` neighbours; where
    its factors begin, in floats."""

    radix: int
    groups: int
    step: int
    at: int


def stages(points: int) -> Sequence[Stage] | None:
    """The passes of a transform of so many complex numbers; None if there is no such kernel."""
    if points % FIRST or points < LEAST:
        return None
    made = [Stage(FIRST, points // FIRST, 1, 0)]
    at, left = 2 * (FIRST - 1) * (points // FIRST), points // FIRST
    for radix in RADICES:
        while left % radix == 0:
            left //= radix
            made.append(Stage(radix, left, points // left // radix, at))
            at += 2 * (radix - 1) * left
    return made if left == 1 else None


class First(Kernel):
    """The first pass, over pairs."""

    family = "fft"
    template = "neon/fft_first.c.j2"
    is_internal = True
    is_windowed: bool = False
    is_swapped: bool = False

    @property
    def name(self) -> str:
        return f"fft_first{'_windowed' * self.is_windowed}{'_swapped' * self.is_swapped}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = ["x", *(["window"] if self.is_windowed else []), "w"]
        return [
            *(Parameter("const float *", name) for name in given),
            *(Parameter("float *", name) for name in ("re", "im")),
            *sizes("m"),
        ]


class Pass(Kernel):
    """One of the others. `ending`: turned (times factors), or of the last one: apart, pairs, or scaled (pairs with
    their parts exchanged, times a number)."""

    family = "fft"
    template = "neon/fft_pass.c.j2"
    is_internal = True
    radix: int
    ending: str = "turned"

    @property
    def name(self) -> str:
        return f"fft_{'last' if self.is_last else 'pass'}_{self.radix}{f'_{self.ending}' * self.is_last}"

    @property
    def is_last(self) -> bool:
        """Whether there are no factors."""
        return self.ending != "turned"

    @property
    def title(self) -> str:
        """For readers of the source."""
        if self.is_last:
            return f"The last pass: butterflies of {self.radix} at distances of s."
        return (
            f"Butterflies of {self.radix} at distances of s m, m with factors of their own (w), each for s neighbours."
        )

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter("const float *", name) for name in ("re", "im")]
        if self.ending in ("pairs", "scaled"):
            scale = [Parameter("float", "scale")] if self.ending == "scaled" else []
            return [*given, Parameter("float *", "y"), *scale, *sizes("s")]
        made = [Parameter("float *", name) for name in ("yr", "yi")]
        return [*given, *made, *([] if self.is_last else [Parameter("const float *", "w"), *sizes("m")]), *sizes("s")]

    def cosine(self, i: int) -> str:
        """Of i turns divided by the radix."""
        return f"{cos(2 * pi * i / self.radix):.9g}f"

    def sine(self, i: int) -> str:
        """The same."""
        return f"{sin(2 * pi * i / self.radix):.9g}f"


class RealEnd(Kernel):
    """Between the frequencies of real numbers and those of half as many complex ones."""

    family = "fft"
    template = "neon/fft_real.c.j2"
    is_internal = True
    is_inverse: bool = False
    is_whole: bool = False

    @property
    def name(self) -> str:
        return "fft_before_real" if self.is_inverse else f"fft_to_real{'_whole' * self.is_whole}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = ["x", "w"] if self.is_inverse else ["re", "im", "w"]
        return [*(Parameter("const float *", name) for name in given), Parameter("float *", "y"), *sizes("m")]


class Fft(Kernel):
    """Transforms of `length` numbers: of frames that begin `step` floats apart, in groups; results lie side by side.

    kind  real (to the frequencies that tell the others), whole (to all), complex, inverse, or real_inverse
    """

    family = "fft"
    template = "neon/fft.c.j2"
    length: int
    kind: str
    is_windowed: bool = False

    @property
    def name(self) -> str:
        return f"fft_{self.length}_{self.kind}{'_windowed' * self.is_windowed}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = ["x", *(["window"] if self.is_windowed else []), "w"]
        return [
            *(Parameter("const float *", name) for name in given),
            *(Parameter("float *", name) for name in ("y", "scratch")),
            *sizes("groups", "group_step", "frames", "step"),
        ]

    @property
    def is_real(self) -> bool:
        """Whether either side has numbers of one part."""
        return self.kind in ("real", "whole", "real_inverse")

    @property
    def points(self) -> int:
        """Complex numbers that are transformed."""
        return self.length // 2 if self.is_real else self.length

    @property
    def stages(self) -> Sequence[Stage]:
        """The passes."""
        made = stages(self.points)
        assert made is not None
        return made

    @property
    def factors(self) -> int:
        """Floats of the factors of all passes but the last, which has none; those of real numbers follow."""
        return self.stages[-1].at

    @property
    def result(self) -> int:
        """Floats of the result of a frame."""
        return {"real": self.length + 2, "real_inverse": self.length}.get(self.kind, 2 * self.length)

    @property
    def title(self) -> str:
        """For readers of the source."""
        what = {
            "real": f"{self.length} real numbers (to {self.length // 2 + 1} frequencies)",
            "whole": f"{self.length} real numbers",
            "complex": f"{self.length} complex numbers",
            "inverse": f"{self.length} complex numbers, back",
            "real_inverse": f"{self.length // 2 + 1} frequencies back to {self.length} real numbers",
        }[self.kind]
        window = " times a window" if self.is_windowed else ""
        return f"Fourier transforms of {what}{window}, in passes of {', '.join(str(s.radix) for s in self.stages)}."

    @property
    def _first(self) -> First:
        return First(is_windowed=self.is_windowed, is_swapped=self.kind == "inverse")

    @property
    def _end(self) -> RealEnd:
        return RealEnd(is_inverse=self.kind == "real_inverse", is_whole=self.kind == "whole")

    @property
    def _passes(self) -> Sequence[Pass]:
        ending = {"complex": "pairs", "inverse": "scaled", "real_inverse": "scaled"}.get(self.kind, "apart")
        *inner, last = self.stages[1:]
        return [*(Pass(radix=s.radix) for s in inner), Pass(radix=last.radix, ending=ending)]

    @property
    def needs(self) -> Sequence[Kernel]:
        return [self._first, *dict.fromkeys(self._passes), *([self._end] if self.is_real else [])]

    @property
    def parts(self) -> Sequence[tuple[str, int]]:
        """Buffers that the calls name, and where they lie in the working memory."""
        named = set(re.findall(r"\w+", " ".join(self.calls)))
        places = [(name, i * self.points) for i, name in enumerate(("re", "im", "to_re", "to_im"))]
        return [(name, at) for name, at in places if name in named]

    @property
    def calls(self) -> Iterator[str]:
        """Of one frame, in C."""
        source, end = "frame", f"w + {self.factors}"
        if self.kind == "real_inverse":
            source = "to_re"
            yield f"{self._end.name}(frame, {end}, to_re, {self.points});"
        window = "window, " if self.is_windowed else ""
        yield f"{self._first.name}({source}, {window}w, re, im, {self.points // FIRST});"
        here, there = "re, im", "to_re, to_im"
        for stage, one in zip(self.stages[1:], self._passes, strict=True):
            if not one.is_last:
                yield f"{one.name}({here}, {there}, w + {stage.at}, {stage.groups}, {stage.step});"
                here, there = there, here
            elif one.ending == "apart":
                yield f"{one.name}({here}, {there}, {stage.step});"
                yield f"{self._end.name}({there}, {end}, y, {self.points});"
            else:
                scale = f"1.0f / {self.length}, " if one.ending == "scaled" else ""
                yield f"{one.name}({here}, y, {scale}{stage.step});"

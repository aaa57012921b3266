"""Schedules of depthwise convolutions: which instructions, in which order, on which registers.

A strip slides along a line of the result with the weights of one or two vectors of channels in registers. Each column
of the image is loaded once, and adds to all results that it reaches: these are so few that they stay in registers too.
Columns of the border are not computed at all: results at the ends of a line have fewer steps. A line begins with the
steps that reach fewer results than the others, a loop follows, and the steps that are left over end it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from codegen.expression import Expression, Operand
from codegen.neon.gemm_schedule import REGISTERS, registers
from codegen.neon.gemm_tail import Tail
from compiler.record import Record

WIDEST = 2  # vectors of a strip
PER_LOAD = 4  # registers that one load fills at most


class Tap(NamedTuple):
    """A column of the filter, and the result that it adds to."""

    column: int
    out: int


class Line(Record):
    """A line: filters of `kernel` columns at distances of `stride` give `out` results; `left` and `right` columns that
    they cover are of the border. Both are less than `kernel`, and so is the stride, or equal."""

    kernel: int
    stride: int
    left: int
    right: int
    out: int

    @property
    def steps(self) -> int:
        """Columns of the image that are read."""
        return self.stride * (self.out - 1) + self.kernel - self.left - self.right

    @property
    def steps_text(self) -> str:
        """The same for a line of `out_width` results, in C."""
        more = self.kernel - self.stride - self.left - self.right
        scaled = f"{self.stride} * out_width" if self.stride > 1 else "out_width"
        return f"{scaled} {'-+'[more > 0]} {abs(more)}" if more else scaled

    @property
    def live(self) -> int:
        """Results that one column reaches at most."""
        return -(-self.kernel // self.stride)

    @property
    def startup(self) -> int:
        """Steps before those that are all alike."""
        return max(self.kernel - self.stride - self.left, int(self.left > 0))

    def taps(self, step: int) -> list[Tap]:
        """What a step adds to, the oldest results first."""
        at = step + self.left
        reached = [Tap(k, (at - k) // self.stride) for k in reversed(range(self.kernel)) if (at - k) % self.stride == 0]
        return [t for t in reached if 0 <= t.out < self.out]

    def begins(self, step: int) -> list[int]:
        """The results whose first step it is."""
        return [t.out for t in self.taps(step) if max(self.stride * t.out - self.left, 0) == step]

    def ends(self, step: int) -> list[int]:
        """The results whose last step it is."""
        last = self.kernel - 1 - self.left
        return [t.out for t in self.taps(step) if min(self.stride * t.out + last, self.steps - 1) == step]

    def turns(self, outs: int) -> int:
        """Of a loop that completes so many results in a turn; at least one step is left behind it."""
        alike = min(self.steps - 1, self.stride * self.out - self.left) - self.startup
        return max(alike, 0) // (outs * self.stride)

    def shortened(self, outs: int) -> Line:
        """The line with one turn instead of more: all that a schedule depends on."""
        return self.with_(out=self.out - max(self.turns(outs) - 1, 0) * outs)


class Slide(Record):
    """How a strip is computed: `rows` of the filters' rows, `vectors` of channels.

    line      shortened
    depth     loads that are ahead of their use: a divisor of the loads in a turn
    is_first  results begin with the bias, else with what is stored in their place
    """

    line: Line
    rows: int
    vectors: int
    depth: int
    tail: Expression
    is_first: bool = True

    # -- registers -------------------------------------------------------------------------------------------

    @property
    def weights(self) -> int:
        """Registers with weights, the first ones."""
        return self.rows * self.line.kernel * self.vectors

    def accumulator(self, out: int) -> int:
        """The first register of a result."""
        return self.weights + out % self.line.live * self.vectors

    def loaded(self, load: int) -> int:
        """The first register that a load fills."""
        return self.weights + (self.line.live + load % self.depth) * self.vectors

    @property
    def registers(self) -> int:
        """How many it takes besides those of the tail."""
        return self.weights + (self.line.live + self.depth) * self.vectors

    @property
    def end(self) -> Tail:
        """The tail on the registers that are left."""
        return Tail(self.tail, range(self.registers, REGISTERS), self.vectors)

    # -- instructions ----------------------------------------------------------------------------------------

    @property
    def outs(self) -> int:
        """Results that a turn of the loop completes."""
        turn = self.line.live
        while turn * self.line.stride * self.rows % self.depth:
            turn += self.line.live
        return turn

    def load_weights(self) -> list[str]:
        """Behind the biases."""
        lines = [f"add %[taps], %[w], #{16 * self.vectors}"]
        for first in range(0, self.weights, PER_LOAD):
            count = min(PER_LOAD, self.weights - first)
            lines.append(f"ld1 {registers(first, count)}, [%[taps]], #{16 * count}")
        return lines

    def first_loads(self) -> list[str]:
        """Those that are ahead of the first step."""
        return [self._load(n) for n in range(self.depth)]

    def parts(self) -> tuple[list[str], list[str], list[str]]:
        """The steps before the loop, one turn of it (none if there is no loop), and the steps behind it."""
        line, turn = self.line, self.outs * self.line.stride
        begin = line.startup if line.turns(self.outs) else 0
        end = begin + turn if line.turns(self.outs) else 0
        cuts = (range(begin), range(begin, end), range(end, line.steps))
        return tuple([i for step in cut for i in self._step(step)] for cut in cuts)  # type: ignore[return-value]  # three cuts, three lists

    def _step(self, step: int) -> Iterator[str]:
        for out in self.line.begins(step):
            yield self._begin(out)
        taps = self.line.taps(step)
        for row in range(self.rows):
            n = step * self.rows + row
            for tap in taps:
                for v in range(self.vectors):
                    weight = (row * self.line.kernel + tap.column) * self.vectors + v
                    yield f"fmla v{self.accumulator(tap.out) + v}.4s, v{self.loaded(n) + v}.4s, v{weight}.4s"
            if n + self.depth < self.line.steps * self.rows:
                yield self._load(n + self.depth)
        for out in self.line.ends(step):
            yield from self._end(out)

    def _load(self, n: int) -> str:
        row = n % self.rows
        return f"ld1 {registers(self.loaded(n), self.vectors)}, [%[x{row}]], %[step{row}]"

    def _begin(self, out: int) -> str:
        place = registers(self.accumulator(out), self.vectors)
        return f"ld1 {place}, [%[w]]" if self.is_first else f"ld1 {place}, [%[sums]], %[step]"

    def _end(self, out: int) -> Iterator[str]:
        first = self.accumulator(out)
        if self.end.fits:
            if self.end.has_other:
                yield f"ld1 {registers(self.end.others[0], self.vectors)}, [%[r]], %[step]"
            yield from self.end.row([first + v for v in range(self.vectors)])
        yield f"st1 {registers(first, self.vectors)}, [%[y]], %[step]"


class Cut(NamedTuple):
    """Rows of the filters that are done in one pass over a line, and loads ahead."""

    rows: int
    depth: int


def passes_of(line: Line, rows: int, vectors: int, tail: Expression) -> tuple[Cut, ...]:
    """The passes of filters of so many rows: as few as registers allow, none if that is not possible. Only the last
    one has the tail."""
    for passes in range(1, rows + 1):
        counts = [rows // passes + (i < rows % passes) for i in range(passes)]
        found = [_cut(line, n, vectors, tail if i == passes - 1 else None) for i, n in enumerate(counts)]
        if all(found):
            return tuple(c for c in found if c)
    return ()


def _cut(line: Line, rows: int, vectors: int, tail: Expression | None) -> Cut | None:
    for depth in range(rows, 0, -1):
        made = Slide(line=line, rows=rows, vectors=vectors, depth=depth, tail=tail or Operand(0))
        fits = made.registers <= REGISTERS and (made.end.fits or not _could_fit(tail))
        if fits and (depth >= min(rows, 2)) and made.outs <= 2 * line.live:
            return Cut(rows, depth)
    return None


def _could_fit(tail: Expression | None) -> bool:
    """Whether a tail has instructions at all."""
    return tail is None or Tail(tail, range(REGISTERS), 1).fits

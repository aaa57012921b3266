"""Schedules of depthwise convolutions: which instructions, in which order, on which registers.

A strip slides along a line of the result with the weights of one or two vectors of channels in registers. Each column
of the image is loaded once, and adds to all results that it reaches: these are so few that they stay in registers too.
Columns of the border are not computed at all: results at the ends of a line have fewer steps. A line begins with the
steps that reach fewer results than the others, a loop follows, and the steps that are left over end it.

The multiply-accumulates of a result wait for each other. Rows of the filters may be some columns behind each other
(`skew`): then more results are under way at once, in more registers, and a core need not look so far ahead for others.

Cores that issue in order have loads and stores of their own: where an address moves on with a load, the next one waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from codegen.expression import Expression, Operand
from codegen.neon.gemm_schedule import REGISTERS, registers
from codegen.neon.gemm_tail import Tail
from codegen.neon.in_order import ordered
from compiler.record import Record

WIDEST = 2  # vectors of a strip
PER_LOAD = 4  # registers that one load fills at most
LATENCY = 4  # cycles of a multiply-accumulate
PIPES = 4  # of the widest cores
AHEAD = 23  # cycles of work that these see at once
SLOW = 1.25  # times as long as others: that is worth another pass
FARTHEST = 3  # steps between rows in order
OPERANDS = 30  # of a block of assembly in gcc, of which those that it reads and writes are two
OTHERS = 14  # than rows and numbers


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

    def live(self, lag: int = 0) -> int:
        """Results that so many successive columns and one more reach at most."""
        return -(-(self.kernel + lag) // self.stride)

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

    def turns(self, outs: int, lag: int = 0, left: int = 1) -> int:
        """Of a loop that completes so many results in a turn, if the last rows are `lag` steps behind the first ones;
        at least so many steps are left behind it."""
        alike = min(self.steps - left, self.stride * self.out - self.left) - self.startup - lag
        return max(alike, 0) // (outs * self.stride)

    def shortened(self, outs: int, lag: int = 0, left: int = 1) -> Line:
        """The line with one turn instead of more: all that a schedule depends on."""
        return self.with_(out=self.out - max(self.turns(outs, lag, left) - 1, 0) * outs)


class Order(NamedTuple):
    """Loads: the row of each, and which one it is that a row takes at a time."""

    rows: list[int]
    place: dict[tuple[int, int], int]


@cache
def order(steps: int, rows: int, skew: int) -> Order:
    """That of so many rows, each `skew` steps behind the one before."""
    times = range(steps + (rows - 1) * skew)
    taken = [(time, row) for time in times for row in range(rows) if 0 <= time - row * skew < steps]
    return Order([row for _, row in taken], {place: n for n, place in enumerate(taken)})


class Slide(Record):
    """How a strip is computed: `rows` of the filters' rows, `vectors` of channels.

    line      shortened
    depth     loads that are ahead of their use: a divisor of the loads in a turn
    skew      steps that each row is behind the one before
    is_first  results begin with the bias, else with what is stored in their place
    in_order  for cores that issue in order
    """

    line: Line
    rows: int
    vectors: int
    depth: int
    tail: Expression
    skew: int = 0
    is_first: bool = True
    in_order: bool = False

    # -- registers -------------------------------------------------------------------------------------------

    @property
    def lag(self) -> int:
        """Steps that the last row is behind the first."""
        return (self.rows - 1) * self.skew

    @property
    def live(self) -> int:
        """Results that are under way."""
        return self.line.live(self.lag)

    @property
    def weights(self) -> int:
        """Registers with weights, the first ones."""
        return self.rows * self.line.kernel * self.vectors

    def accumulator(self, out: int) -> int:
        """The first register of a result."""
        return self.weights + out % self.live * self.vectors

    def loaded(self, load: int) -> int:
        """The first register that a load fills."""
        return self.weights + (self.live + load % self.depth) * self.vectors

    @property
    def registers(self) -> int:
        """How many it takes besides those of the tail."""
        return self.weights + (self.live + self.depth) * self.vectors

    @property
    def end(self) -> Tail:
        """The tail on the registers that are left."""
        return Tail(self.tail, range(self.registers, REGISTERS), self.vectors)

    # -- instructions ----------------------------------------------------------------------------------------

    @property
    def outs(self) -> int:
        """Results that a turn of the loop completes."""
        turn = self.live
        while turn * self.line.stride * self.rows % self.depth:
            turn += self.live
        return turn

    @property
    def left(self) -> int:
        """Steps behind the loop, whose loads it has begun."""
        return -(-self.depth // self.rows)

    @property
    def turns(self) -> int:
        """Of the loop: one or none."""
        return self.line.turns(self.outs, self.lag, self.left)

    @property
    def shortened(self) -> Line:
        """The line with one turn instead of more."""
        return self.line.shortened(self.outs, self.lag, self.left)

    def load_weights(self) -> list[str]:
        """Behind the biases."""
        lines = [f"add %[taps], %[w], #{16 * self.vectors}"]
        for first in range(0, self.weights, PER_LOAD):
            count = min(PER_LOAD, self.weights - first)
            lines.append(f"ld1 {registers(first, count)}, [%[taps]], #{16 * count}")
        return lines

    def first_loads(self) -> list[str]:
        """Those that are ahead of the first step."""
        return [line for n in range(min(self.depth, len(self._order.rows))) for line in self._load(n)]

    def parts(self) -> tuple[list[str], list[str], list[str]]:
        """The times before the loop, one turn of it (none if there is no loop), and the times behind it."""
        turn = self.outs * self.line.stride
        begin = self.line.startup + self.lag if self.turns else 0
        end = begin + turn if self.turns else 0
        before, loop, after = (range(begin), range(begin, end), range(end, self.line.steps + self.lag))
        return self._during(before), self._during(loop, is_loop=True), self._during(after)

    def _during(self, times: range, *, is_loop: bool = False) -> list[str]:
        lines = [line for time in times for line in self._at(time)]
        return ordered(lines, is_loop=is_loop) if self.in_order else lines

    @property
    def _order(self) -> Order:
        return order(self.line.steps, self.rows, self.skew)

    def _at(self, time: int) -> Iterator[str]:
        for out in self.line.begins(time) if time < self.line.steps else ():
            yield from self._begin(out)
        for row in range(self.rows):
            n = self._order.place.get((time, row))
            if n is None:
                continue
            for tap in self.line.taps(time - row * self.skew):
                for v in range(self.vectors):
                    weight = (row * self.line.kernel + tap.column) * self.vectors + v
                    yield f"fmla v{self.accumulator(tap.out) + v}.4s, v{self.loaded(n) + v}.4s, v{weight}.4s"
            if n + self.depth < len(self._order.rows):
                yield from self._load(n + self.depth)
        for out in self.line.ends(time - self.lag) if time >= self.lag else ():
            yield from self._end(out)

    def _load(self, n: int) -> list[str]:
        row = self._order.rows[n]
        return self._move("ld", self.loaded(n), f"x{row}", f"step{row}")

    def _begin(self, out: int) -> list[str]:
        first = self.accumulator(out)
        return self._move("ld", first, "w") if self.is_first else self._move("ld", first, "sums", "step")

    def _end(self, out: int) -> Iterator[str]:
        first = self.accumulator(out)
        if self.end.fits:
            if self.end.has_other:
                yield from self._move("ld", self.end.others[0], "r", "step")
            yield from self.end.row([first + v for v in range(self.vectors)])
        yield from self._move("st", first, "y", "step")

    def _move(self, verb: str, first: int, pointer: str, step: str = "") -> list[str]:
        """Load or store the vectors of a pixel, and go on to another one."""
        at = f"%[{pointer}]"
        if not self.in_order:
            return [f"{verb}1 {registers(first, self.vectors)}, [{at}]" + f", %[{step}]" * bool(step)]
        whole = [f"{verb}r q{first + v}, [{at}, #{16 * v}]" for v in range(self.vectors)]
        if verb == "st" and self.vectors > 1:
            whole = [f"stp q{first}, q{first + 1}, [{at}]"]
        return [*whole, *[f"add {at}, {at}, %[{step}]"] * bool(step)]


class Cut(NamedTuple):
    """Rows of the filters that are done in one pass over a line, loads ahead, and steps from a row to the next."""

    rows: int
    depth: int
    skew: int = 0


def passes_of(line: Line, rows: int, vectors: int, tail: Expression, *, in_order: bool = False) -> tuple[Cut, ...]:
    """The passes of filters of so many rows: as few as registers allow, or one more if results of these would wait for
    themselves; none if that is not possible. Only the last one has the tail."""
    possible: list[tuple[Cut, ...]] = []
    cut = _cut_in_order if in_order else _cut
    for passes in range(1, rows + 1):
        counts = [rows // passes + (i < rows % passes) for i in range(passes)]
        found = [cut(line, n, vectors, tail if i == passes - 1 else None) for i, n in enumerate(counts)]
        if all(found):
            possible.append(tuple(c for c in found if c))
            if in_order or not any(waiting(line, vectors, c) > SLOW for c in possible[-1]):
                return possible[-1]
        if len(possible) > 1:
            break
    return possible[0] if possible else ()


def waiting(line: Line, vectors: int, cut: Cut) -> float:
    """How long results take because their multiply-accumulates wait for each other, as a share of the time that a
    wide core has for them: while it does the others of as many steps, and of those that it sees ahead."""
    lag = (cut.rows - 1) * cut.skew
    chain = LATENCY * cut.rows * line.kernel
    step = cut.rows * line.kernel * vectors / line.stride / PIPES
    return chain / ((line.kernel + lag) * step + AHEAD)


def _cut(line: Line, rows: int, vectors: int, tail: Expression | None) -> Cut | None:
    """The way that is computed soonest, with as few steps between rows as that takes, and then as many loads ahead as
    registers allow."""
    most = line.kernel if rows > 1 else 0
    enough = next((s for s in range(most) if waiting(line, vectors, Cut(rows, 1, s)) <= 1), most)
    ways = (Cut(rows, depth, skew) for skew in range(enough, -1, -1) for depth in range(rows, 0, -1))
    return next((way for way in ways if _fits(line, vectors, tail, way)), None)


def _cut_in_order(line: Line, rows: int, vectors: int, tail: Expression | None) -> Cut | None:
    """The way with the most products that do not wait for each other, and loads that are complete when they are
    taken."""
    skews = range(FARTHEST, -1, -1) if rows > 1 else (0,)
    ways = (Cut(rows, depth, skew) for skew in skews for depth in range(max(rows, 2), 1, -1))
    return next((way for way in ways if _fits(line, vectors, tail, way)), None)


def _fits(line: Line, vectors: int, tail: Expression | None, cut: Cut) -> bool:
    """Whether there are registers for it and room for its operands, and its loop is not too long."""
    made = Slide(line=line, vectors=vectors, tail=tail or Operand(0), **cut._asdict())
    end = made.end
    if made.registers > REGISTERS or made.outs > 2 * made.live or not (end.fits or not _could_fit(tail)):
        return False
    numbers = len([c for c in end.constants if c.operand]) if end.fits else 0
    return OTHERS + 3 * cut.rows + numbers <= OPERANDS


def _could_fit(tail: Expression | None) -> bool:
    """Whether a tail has instructions at all."""
    return tail is None or Tail(tail, range(REGISTERS), 1).fits

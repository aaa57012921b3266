"""Copies that make the innermost axis of an array another one: in square blocks, or pixels of a few channels."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.copies import UNITS
from codegen.program import Kernel, Parameter

BLOCKS = {1: 8, 2: 8, 4: 4}  # bytes of an element -> rows and columns of a block
INTERLEAVED = (2, 3, 4)  # channels that one instruction joins or parts


class Transposing(Kernel):
    """y[..., c * t + r] = x[..., r * s + c] for `rows` x `columns` elements, at least as many as a block has, for all
    places along outer axes, with their distances in x and in y.

    size   bytes of an element
    outer  how many outer axes
    """

    family = "transposes"
    template = "neon/transpose.c.j2"
    size: int
    outer: int = 0

    @property
    def name(self) -> str:
        return f"transpose_{8 * self.size}bit{f'_{self.outer}d' * bool(self.outer)}"

    @property
    def unit(self) -> str:
        """The type of C of an element."""
        return UNITS[self.size]

    @property
    def lanes(self) -> int:
        """Of a vector."""
        return 16 // self.size

    @property
    def block(self) -> int:
        """Rows and columns of a block."""
        return BLOCKS[self.size]

    @property
    def intrinsic(self) -> str:
        """The end of the names of intrinsics."""
        return f"u{8 * self.size}"

    @property
    def axes(self) -> Sequence[str]:
        """Numbers of the two axes that change places, and their distances."""
        return "rows", "columns", "s", "t"

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter(f"const {self.unit} *", "x"), Parameter(f"{self.unit} *", "y")]
        steps = (f"{side}{i}" for side in "st" for i in range(self.outer))
        names = (*(f"n{i}" for i in range(self.outer)), *self.axes, *steps)
        return [*pointers, *(Parameter("size_t", name) for name in names)]


class Interleaving(Transposing):
    """The same for a few rows, which become neighbours (t is their number), or a few columns, which are (s is).

    channels  how many
    is_split  columns that lie side by side become rows
    """

    template = "neon/interleave.c.j2"
    channels: int = 3
    is_split: bool = False

    @property
    def name(self) -> str:
        what = f"{'split' if self.is_split else 'join'}_{self.channels}_channels"
        return f"{what}_{8 * self.size}bit{f'_{self.outer}d' * bool(self.outer)}"

    @property
    def axes(self) -> Sequence[str]:
        return ("rows", "t") if self.is_split else ("columns", "s")

"""Elements at positions that are data. A negative position counts from the end; one beyond is taken to the border."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.copies import UNITS
from codegen.neon.plain import Ints, Plain, pointers, without
from codegen.program import Parameter, sizes


class Gather(Plain):
    """y[o, i, :] = x[o, indices[i], :] for x [outer, length, row], in elements of `size` bytes.

    index   type of C of a position
    is_row  rows have more than one element, of which there are `row`
    """

    template = "neon/gather.c.j2"
    size: int
    index: str
    is_row: bool = False

    @property
    def name(self) -> str:
        return f"gather_{'rows_of_' * self.is_row}{8 * self.size}bit_by_{self.index[:-2]}"

    @property
    def unit(self) -> str:
        """The type of C of an element."""
        return UNITS[self.size]

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = pointers([(self.unit, "x"), (self.index, "indices")], [(self.unit, "y")])
        return [*given, *sizes("outer", "length", "count", *["row"] * self.is_row)]


class GatherElements(Plain):
    """y[i, j, ...] = x[i, indices[i, j, ...], ...], the index on `axis`; indices and y have the sizes `shape`.

    length   of x along that axis
    strides  of x
    """

    template = "neon/gather_elements.c.j2"
    size: int
    index: str
    axis: int
    length: int
    shape: Ints
    strides: Ints

    @property
    def name(self) -> str:
        return self.named("gather_elements", *self.shape)

    @property
    def unit(self) -> str:
        """The type of C of an element."""
        return UNITS[self.size]

    @property
    def others(self) -> Ints:
        """The strides, 0 for the axis of the index."""
        return without(self.strides, self.axis)

    @property
    def parameters(self) -> Sequence[Parameter]:
        return pointers([(self.unit, "x"), (self.index, "indices")], [(self.unit, "y")])


class GatherPositions(Plain):
    """Rows of x [batch, *lengths, row] at positions [batch, count, len(lengths)]."""

    template = "neon/gather_positions.c.j2"
    size: int
    index: str
    lengths: Ints

    @property
    def name(self) -> str:
        return self.named("gather_positions", *self.lengths)

    @property
    def unit(self) -> str:
        """The type of C of an element."""
        return UNITS[self.size]

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = pointers([(self.unit, "x"), (self.index, "positions")], [(self.unit, "y")])
        return [*given, *sizes("batch", "count", "row")]


class ReverseSequence(Plain):
    """The first lengths[b] elements along the axis `time` reversed, of each element b of the axis `batch`.

    shape, strides  of x and y
    """

    template = "neon/reverse_sequence.c.j2"
    size: int
    index: str
    batch: int
    time: int
    shape: Ints
    strides: Ints

    @property
    def name(self) -> str:
        return self.named("reverse_sequence", *self.shape)

    @property
    def unit(self) -> str:
        """The type of C of an element."""
        return UNITS[self.size]

    @property
    def others(self) -> Ints:
        """The strides, 0 for the axis of the time."""
        return without(self.strides, self.time)

    @property
    def parameters(self) -> Sequence[Parameter]:
        return pointers([(self.unit, "x"), (self.index, "lengths")], [(self.unit, "y")])


class PadElements(Plain):
    """x with elements of its own put around it.

    mode    edge: the outermost; reflect: mirrored, without repeating it; wrap: from the other side
    before  how many come before x, along each axis
    x, y    sizes and strides
    """

    template = "neon/pad_elements.c.j2"
    size: int
    mode: str
    before: Ints
    x: tuple[Ints, Ints]
    y: tuple[Ints, Ints]

    @property
    def name(self) -> str:
        return self.named(f"pad_{self.mode}", *self.x[0])

    @property
    def unit(self) -> str:
        """The type of C of an element."""
        return UNITS[self.size]

    @property
    def padded(self) -> list[int]:
        """The axes that grow."""
        return [i for i, (a, b) in enumerate(zip(self.x[0], self.y[0], strict=True)) if a != b]

    @property
    def inside(self) -> Ints:
        """The strides of x, 0 for the axes that grow."""
        return without(self.x[1], *self.padded)

    @property
    def parameters(self) -> Sequence[Parameter]:
        return pointers([(self.unit, "x")], [(self.unit, "y")])

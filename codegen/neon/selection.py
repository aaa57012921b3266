"""What gives as many results as data ask for: y has room for the most that there may be, and its sizes are written
beside it."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.plain import Ints, Plain, pointers
from codegen.neon.sorting import Line
from codegen.program import Parameter, sizes

DIMS = ("size_t", "dims")


class NonZero(Line):
    """The positions in an array of the sizes `shape` of all elements other than 0, as columns."""

    template = "neon/nonzero.c.j2"
    shape: Ints
    strides: Ints

    @property
    def name(self) -> str:
        return self.named(f"nonzero_{self.short}", *self.shape)

    @property
    def parameters(self) -> Sequence[Parameter]:
        return pointers([(self.ctype, "x")], [("int64_t", "y"), DIMS])


class Compress(Plain):
    """The rows of x [outer, length, row] (bytes) for which a condition holds, of which there are `count`.

    shape  of the result; its axis `axis` has as many elements as are kept
    """

    template = "neon/compress.c.j2"
    shape: Ints
    axis: int

    @property
    def name(self) -> str:
        return self.named("compress", *self.shape)

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = pointers([("unsigned char", "x"), ("uint8_t", "condition")], [("unsigned char", "y"), DIMS])
        return [*given, *sizes("outer", "length", "row", "count")]


class Unique(Line):
    """The distinct slices of x [outer, length, inner] along its second axis, where each stands first, which of them
    every slice is, and how many there are of each.

    shape      of the result; its axis `axis` has as many elements as there are distinct ones
    is_sorted  ascending, else in the order in which they appear
    """

    template = "neon/unique.c.j2"
    shape: Ints
    axis: int
    is_sorted: bool

    @property
    def name(self) -> str:
        return self.named(f"unique_{self.short}", *self.shape)

    @property
    def parameters(self) -> Sequence[Parameter]:
        results = [(self.ctype, "y"), *(("int64_t", n) for n in ("first", "which", "counts"))]
        dims = [("size_t", f"{n}dims") for n in ("", "first_", "counts_")]
        return [*pointers([(self.ctype, "x")], [*results, *dims]), *sizes("outer", "length", "inner")]


class NonMaxSuppression(Line):
    """Boxes [images, boxes, 4] with the best scores [images, classes, boxes], but those that overlap a better one.

    limit      rows for an image and class
    overlap    the share of the union that two may have in common
    threshold  scores have to be above it
    centres    boxes are centre x, y, width, height, else two opposite corners
    """

    template = "neon/non_max_suppression.c.j2"
    images: int
    classes: int
    boxes: int
    limit: int
    overlap: float
    threshold: float
    centres: bool = False

    @property
    def name(self) -> str:
        return self.named("non_max_suppression", self.images, self.classes, self.boxes)

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [(self.ctype, "boxes"), (self.ctype, "scores")]
        return pointers(given, [("int64_t", "y"), DIMS, ("uint8_t", "seen")])

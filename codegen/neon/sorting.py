"""The best elements along an axis, sums along it: lines of x [outer, length, inner]."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.plain import Plain, pointers
from codegen.program import Parameter, sizes


class Line(Plain):
    """What works on lines shares. NaN counts as larger than all numbers, but for the smallest element, where it wins
    too.

    ctype  of the elements
    """

    ctype: str

    @property
    def short(self) -> str:
        """The type as a part of names."""
        return self.ctype.removesuffix("_t")

    def better(self, a: str, b: str, is_largest: bool, nan_wins: bool = True) -> str:
        """Whether a comes before b, both in the type to compute in."""
        plain = f"{a} {'>' if is_largest else '<'} {b}"
        if not self.is_float(self.ctype):
            return plain
        first, second = (a, b) if is_largest or nan_wins else (b, a)
        return f"{plain} || ({first} != {first} && {second} == {second})"


class TopK(Line):
    """The `count` largest or smallest elements of each line, best first, and where they are; of equals, the first
    first. Each is inserted where it belongs, which suits few of them."""

    template = "neon/topk.c.j2"
    is_largest: bool

    @property
    def name(self) -> str:
        return f"{'largest' if self.is_largest else 'smallest'}_{self.short}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = pointers([(self.ctype, "x")], [(self.ctype, "y"), ("int64_t", "places")])
        return [*given, *sizes("outer", "length", "inner", "count")]


class ArgExtreme(Line):
    """Where the largest or smallest element of each line is: the first one, or the last."""

    template = "neon/arg_extreme.c.j2"
    is_largest: bool
    is_last: bool = False

    @property
    def name(self) -> str:
        last = "last_" * self.is_last
        return f"{last}{'largest' if self.is_largest else 'smallest'}_place_{self.short}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        return [*pointers([(self.ctype, "x")], [("int64_t", "y")]), *sizes("outer", "length", "inner")]


class Cumulate(Line):
    """The sum, or the product, of all elements up to each, or (exclusive) before it, from the begin or the end."""

    template = "neon/cumulate.c.j2"
    is_product: bool = False
    is_exclusive: bool = False
    is_reverse: bool = False

    @property
    def name(self) -> str:
        kind = "product" if self.is_product else "sum"
        how = "_exclusive" * self.is_exclusive + "_reverse" * self.is_reverse
        return f"cumulative_{kind}{how}_{self.short}"

    @property
    def total(self) -> str:
        """The type of the sum; integers wrap around."""
        if self.is_float(self.ctype):
            return self.computed(self.ctype)
        return "uint64_t" if "64" in self.ctype else "uint32_t"

    @property
    def parameters(self) -> Sequence[Parameter]:
        return [*pointers([(self.ctype, "x")], [(self.ctype, "y")]), *sizes("outer", "length", "inner")]

"""Moving elements as they are: bytes, and arrays with any distance between elements along each axis."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.program import Kernel, Parameter

UNITS = {1: "uint8_t", 2: "uint16_t", 4: "uint32_t", 8: "uint64_t"}


class CopyBytes(Kernel):
    """As many bytes from one place to another; the places do not overlap."""

    family = "copies"
    template = "neon/copy_bytes.c.j2"

    @property
    def name(self) -> str:
        return "copy_bytes"

    @property
    def parameters(self) -> Sequence[Parameter]:
        return [Parameter("void *", "to"), Parameter("const void *", "from"), Parameter("size_t", "size")]


class CopyStrided(Kernel):
    """y[i0 * t0 + i1 * t1 + ...] = x[i0 * s0 + i1 * s1 + ...] for all i0 < n0, i1 < n1, ...

    size       bytes of an element
    rank       how many axes
    is_row     neighbours along the last axis lie side by side in both, and it has no distances
    is_turned  distances in x may be negative: what is copied first lies `first` elements behind x
    """

    family = "copies"
    template = "neon/copy_strided.c.j2"
    size: int
    rank: int
    is_row: bool = False
    is_turned: bool = False

    @property
    def name(self) -> str:
        return f"copy_{8 * self.size}bit_{self.rank}d{'_rows' * self.is_row}{'_turned' * self.is_turned}"

    @property
    def unit(self) -> str:
        """The type of C of an element."""
        return UNITS[self.size]

    @property
    def strided(self) -> range:
        """The axes with distances."""
        return range(self.rank - self.is_row)

    @property
    def parameters(self) -> Sequence[Parameter]:
        return [
            Parameter(f"const {self.unit} *", "x"),
            Parameter(f"{self.unit} *", "y"),
            *(Parameter("size_t", f"n{i}") for i in range(self.rank)),
            *(Parameter("ptrdiff_t", f"{side}{i}") for side in "st" for i in self.strided),
            *[Parameter("ptrdiff_t", "first")] * self.is_turned,
        ]


class Fill(Kernel):
    """`count` equal elements of `size` bytes."""

    family = "copies"
    template = "neon/fill.c.j2"
    size: int

    @property
    def name(self) -> str:
        return f"fill_{8 * self.size}bit"

    @property
    def unit(self) -> str:
        """The type of C of an element."""
        return UNITS[self.size]

    @property
    def parameters(self) -> Sequence[Parameter]:
        return [Parameter(f"const {self.unit} *", "x"), Parameter(f"{self.unit} *", "y"), Parameter("size_t", "count")]

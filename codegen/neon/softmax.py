"""Softmax along rows of floats, and the choice of the largest element along an axis."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.plain import Plain
from codegen.neon.stored import Stored
from codegen.program import Kernel, Parameter


class SoftmaxRows(Stored):
    """Rows of n floats of a type that lie one after the other: e^x / sum(e^x), or x - log(sum(e^x)) if `is_log`."""

    family = "softmax"
    template = "neon/softmax_rows.c.j2"
    is_log: bool = False

    @property
    def name(self) -> str:
        return f"{'log_' * self.is_log}softmax_rows{self.stored_name}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter(f"const {self.ctype} *", "x"), Parameter(f"{self.ctype} *", "y")]
        return [*pointers, Parameter("size_t", "rows"), Parameter("size_t", "n")]


class Hardmax(Kernel):
    """1 at the first of the largest elements of each line (a NaN is larger than all), 0 elsewhere. Neighbours of a line
    are `inner` elements apart."""

    family = "softmax"
    template = "neon/hardmax.c.j2"
    ctype: str

    @property
    def name(self) -> str:
        return f"hardmax_{self.ctype.removesuffix('_t')}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        pointers = [Parameter(f"const {self.ctype} *", "x"), Parameter(f"{self.ctype} *", "y")]
        return [*pointers, *(Parameter("size_t", name) for name in ("outer", "n", "inner"))]

    @property
    def computed(self) -> str:
        """The type in which elements are compared."""
        return Plain.computed(self.ctype)

    def load(self, text: str) -> str:
        """An element in that type."""
        return Plain.load(self.ctype, text)

    @property
    def one(self) -> str:
        """As an element."""
        return Plain.store(self.ctype, "1.0f")

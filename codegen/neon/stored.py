"""Kernels that compute with floats of 32 bits and store them as such, or as halves."""

from __future__ import annotations

from codegen.neon.vectors import loaded, stored
from codegen.program import Kernel


class Stored(Kernel):
    """Elements lie as `ctype`: float or half_t."""

    ctype: str = "float"

    @property
    def stored_name(self) -> str:
        """The end of a name."""
        return "" if self.ctype == "float" else "_half"

    def vector(self, place: str, count: str = "") -> str:
        """Four elements as floats; the first `count`, then zeros, if that is said."""
        return loaded(self.ctype, place, count)

    def put(self, place: str, value: str, count: str = "") -> str:
        """The statement that stores four floats as elements, or the first `count` of them."""
        return stored(self.ctype, place, value, count)

    def vectors(self, place: str, many: int) -> str:
        """So many vectors of four elements that lie one after the other."""
        return f"vld1q_f32_x{many}({place})" if self.ctype == "float" else f"load_half_x{4 * many}({place})"

    def number(self, element: str) -> str:
        """An element as a float."""
        return element if self.ctype == "float" else f"half_to_float({element})"

    def element(self, number: str) -> str:
        """A float as an element."""
        return number if self.ctype == "float" else f"float_to_half({number})"

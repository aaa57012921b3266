"""What plain kernels share: loops in C for the sizes of one layer, an element at a time, for any type of elements."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan

from codegen.neon.tailed import digest
from codegen.program import Kernel, Parameter

Ints = tuple[int, ...]
HALVES = {"half_t": "half", "bfloat_t": "bfloat"}  # types of 16 bits, which are computed with as float
LEAST = {"float": "-INFINITY", "double": "-INFINITY"}


class Plain(Kernel):
    """A kernel whose sizes are literals."""

    family = "plain"

    def named(self, what: str, *shape: int) -> str:
        """A name: what is done, some sizes, and a word that tells it apart from others."""
        sizes = f"_{'x'.join(map(str, shape))}" if shape else ""
        return f"{what}{sizes}_{digest((type(self).__name__, self.values()))}"

    @staticmethod
    def computed(ctype: str) -> str:
        """The type to compute in."""
        return "float" if ctype in HALVES else ctype

    @staticmethod
    def load(ctype: str, text: str) -> str:
        """An element in the type to compute in."""
        return f"{HALVES[ctype]}_to_float({text})" if ctype in HALVES else text

    @staticmethod
    def store(ctype: str, text: str) -> str:
        """A number of that type as an element."""
        if ctype in HALVES:
            return f"float_to_{HALVES[ctype]}({text})"
        return text if ctype in LEAST else f"({ctype})({text})"

    @staticmethod
    def least(ctype: str) -> str:
        """The smallest number of a type to compute in."""
        return LEAST.get(ctype) or (f"{ctype[:-2].upper()}_MIN" if ctype.startswith("int") else "0")

    @staticmethod
    def is_float(ctype: str) -> bool:
        """Whether it may hold NaN."""
        return ctype in LEAST or ctype in HALVES

    @staticmethod
    def number(value: float) -> str:
        """A constant, exact as a double."""
        return repr(value) if isfinite(value) else "NAN" if isnan(value) else "INFINITY" if value > 0 else "-INFINITY"

    @staticmethod
    def offset(strides: Sequence[int], name: str) -> str:
        """Where the element at name0, name1, ... lies."""
        terms = [f"{name}{i}" + (f" * {s}" if s != 1 else "") for i, s in enumerate(strides) if s]
        return " + ".join(terms) or "0"


def pointers(reads: Sequence[tuple[str, str]], writes: Sequence[tuple[str, str]]) -> list[Parameter]:
    """Parameters for what is read and what is written, each a type of C and a name."""
    read = [Parameter(f"const {ctype} *", name) for ctype, name in reads]
    return [*read, *(Parameter(f"{ctype} *", name) for ctype, name in writes)]


def without(strides: Ints, *axes: int) -> Ints:
    """Strides in which those of some axes are 0."""
    return tuple(0 if i in axes else s for i, s in enumerate(strides))

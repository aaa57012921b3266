"""Kernels that end with an expression of what they compute."""

from __future__ import annotations

from hashlib import sha256

from codegen.expression import Apply, Body, Expression, Number, Operand, functions, operands, write
from codegen.neon.vectors import VECTOR
from codegen.program import Kernel, Parameter

RELU: Expression = Apply("max", (Operand(0), Number(0)))
SHORT = {RELU: "_relu", Apply("min", (RELU, Number(6.0))): "_relu6"}


class Tailed(Kernel):
    """Computes `tail` of each result before it is stored: operand 0 is the result, operand 1 an element of a value that
    lies as the result does."""

    tail: Expression = Operand(0)

    @property
    def has_other(self) -> bool:
        """Whether the tail reads a second value."""
        return bool(other(self.tail))

    def body(self, result: str, second: str) -> Body:
        """The tail of one vector of results, with intrinsics."""
        return write(self.tail, VECTOR, {0: result, 1: second}, prefix=f"{result}_")


def other(tail: Expression, ctype: str = "float") -> list[Parameter]:
    """The second operand of a tail, as a parameter, if it reads one."""
    return [Parameter(f"const {ctype} *", "r")] * any(o.index == 1 for o in operands(tail))


def suffix(tail: Expression) -> str:
    """Of the name of a kernel: the functions at its end."""
    done = functions(tail)
    if not done or tail in SHORT:
        return SHORT.get(tail, "")
    return f"_{'_'.join(done)}_{digest(tail)}"


def digest(value: object) -> str:
    """A short word that tells values apart, of which a name cannot hold all."""
    return sha256(repr(value).encode()).hexdigest()[:6]

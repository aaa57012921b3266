"""Kernels that end with an expression of what they compute, in the Metal Shading Language."""

from __future__ import annotations

from codegen.expression import Body, Expression, Operand, operands, write
from codegen.metal.kernel import MetalKernel, metal_type
from codegen.metal.scalar import METAL
from codegen.neon.tailed import suffix
from codegen.program import Parameter, sizes


class Tailed(MetalKernel):
    """Computes `tail` of each result, a float, before it is stored as `ctype`: operand 0 is the result, operand 1 an
    element of a value `r` that lies as the result would densely.

    wide       results are stored as this type instead, if it is told
    is_spread  rows of the result, each with all its channels, lie `pitch` elements apart
    """

    tail: Expression = Operand(0)
    ctype: str = "float"
    wide: str = ""
    is_spread: bool = False

    @property
    def stored(self) -> str:
        """The type of elements in memory."""
        return metal_type(self.ctype)

    @property
    def kind(self) -> str:
        """The end of a name: how elements are stored, and what is done with results."""
        to = f"_to_{self.wide.removesuffix('_t')}" if self.wide else ""
        return f"{'' if self.ctype == 'float' else '_half'}{to}{'_spread' * self.is_spread}{suffix(self.tail)}"

    @property
    def has_other(self) -> bool:
        """Whether the tail reads a second value."""
        return any(o.index == 1 for o in operands(self.tail))

    @property
    def other(self) -> list[Parameter]:
        """The second value as a parameter, if there is one."""
        return [Parameter(f"const {self.ctype} *", "r")] * self.has_other

    def ending(self, result: str, place: str) -> Body:
        """Statements, and the element that is to be stored: `place` is its index in the result."""
        body = write(self.tail, METAL, {0: result, 1: self.second or f"float(r[{place}])"})
        to = self.wide or self.ctype
        return Body(body.lines, body.result if to == "float" else f"{metal_type(to)}({body.result})")

    @property
    def second(self) -> str:
        """What operand 1 is, if it is no element of r."""
        return ""

    @property
    def result(self) -> Parameter:
        """The result as a parameter."""
        return Parameter(f"{self.wide or self.ctype} *", "y")

    @property
    def pitch(self) -> list[Parameter]:
        """The distance between rows of the result as a parameter, if it is no matter of course."""
        return sizes("pitch") if self.is_spread else []

    @property
    def has_dense(self) -> bool:
        """Whether it is asked where results would lie densely."""
        return not self.is_spread or self.has_other

    def place(self, dense: str, row: str, channel: str) -> str:
        """The index in the result of what would lie at `dense`: a channel of a row."""
        return f"({row}) * s.pitch + {channel}" if self.is_spread else dense

"""Recurrent layers in the Metal Shading Language: a threadgroup walks the steps of one element of the batch."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.expression import Body, Expression, operands, write
from codegen.metal.kernel import SIMD, Grid, MetalKernel, Numbers, Tile, metal_type
from codegen.metal.scalar import METAL
from codegen.neon.recurrent import GATES, PEEPHOLES
from codegen.neon.tailed import digest
from codegen.program import Parameter

MOST = 1024  # threads of a threadgroup


class Recurrent(MetalKernel):
    """The steps of one direction of an LSTM, GRU or RNN. `seen` [time, batch, directions, gates, hidden] has what the
    gates see of the inputs, with all biases that can be added before; r [hidden, gates, hidden] are the weights of the
    state. A thread computes every `threads`-th unit; all read the state in the memory of the threadgroup.

    backwards    the last step comes first
    has_lens     elements of the batch end early
    cell, out    of a unit, of these operands: the gates in their order, then for an LSTM the cell and peepholes, and
                 for `out` the new cell; for the others the state, and its product with weights of the candidate
    reset        of a GRU that resets the state before its product with those weights: the state that is multiplied
    """

    family = "recurrent"
    template = "metal/recurrent.metal.j2"
    positions = ("group", "index")
    kind: str
    time: int
    batch: int
    directions: int
    hidden: int
    backwards: bool
    out: Expression
    ctype: str = "float"
    cell: Expression | None = None
    reset: Expression | None = None
    has_lens: bool = False
    has_h: bool = False
    has_c: bool = False
    has_p: bool = False

    @property
    def name(self) -> str:
        shape = f"{self.time}x{self.batch}x{self.hidden}"
        return f"{self.kind}{'_backwards' * self.backwards}_{shape}_{digest(self.values())}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        reads = [("r", True), ("rest", self.is_split)]
        starts = [("initial_h", self.has_h), ("initial_c", self.has_c), ("p", self.has_p)]
        given = [Parameter(f"const {self.ctype} *", name) for name, is_there in (*reads, *starts) if is_there]
        given.append(Parameter(f"const {self.ctype} *", "seen"))
        given += [Parameter("const int32_t *", "lens")] * self.has_lens
        return [*given, *(Parameter(f"{self.ctype} *", n) for n in ("y", "last_h", *["last_c"] * self.is_lstm))]

    @property
    def threads(self) -> Grid:
        return (min(-(-self.hidden // SIMD) * SIMD, MOST), 1, 1)

    @property
    def tiles(self) -> Sequence[Tile]:
        cell = [Tile("float", "c", self.hidden)] * self.is_lstm
        kept = [Tile("float", name, self.hidden) for name in ("z", "kept")] * (self.reset is not None)
        return [Tile("float", "h", 2 * self.hidden), *cell, *kept]

    def grid(self, numbers: Numbers) -> Grid:
        return (self.batch, 1, 1)

    @property
    def stored(self) -> str:
        """The type of elements in memory."""
        return metal_type(self.ctype)

    @property
    def is_lstm(self) -> bool:
        """Whether there is a cell."""
        return self.kind == "lstm"

    @property
    def is_split(self) -> bool:
        """Whether the state's product with weights of the candidate is one of its own, with biases."""
        return self.kind == "gru" and self.reset is None

    @property
    def gates(self) -> tuple[str, ...]:
        """Their names."""
        return GATES[self.kind]

    @property
    def pitch(self) -> int:
        """Floats from what one element of the batch has seen to the next."""
        return self.directions * len(self.gates) * self.hidden

    def load(self, element: str) -> str:
        """An element as a float."""
        return element if self.ctype == "float" else f"float({element})"

    def store(self, number: str) -> str:
        """A float as an element."""
        return number if self.ctype == "float" else f"{self.stored}({number})"

    def body(self, e: Expression, prefix: str, new: str = "") -> Body:
        """The statements that compute an expression, of which the name of the new cell is given."""
        more = ("c[j]", *PEEPHOLES, "new") if self.is_lstm else ("h[now + j]", "v_rest")
        names = [*(f"v_{gate}" for gate in self.gates), *more]
        places = {name: self.load(f"p[{i * self.hidden} + j]") for i, name in enumerate(PEEPHOLES)} | {"new": new}
        return write(e, METAL, {o.index: places.get(names[o.index], names[o.index]) for o in operands(e)}, prefix)

"""Recurrent layers of floats: for each step a product of the state, and a loop over its gates."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.expression import Body, Expression, operands, write
from codegen.neon.attention import Product
from codegen.neon.tailed import digest
from codegen.neon.vectors import VECTOR
from codegen.program import Kernel, Parameter

GATES = {"lstm": ("i", "o", "f", "g"), "gru": ("z", "r", "n"), "rnn": ("n",)}
PEEPHOLES = ("pi", "po", "pf")


class Recurrent(Kernel):
    """The steps of one direction of an LSTM, GRU or RNN. `seen` [time, batch, directions, gates, hidden] has what the
    gates see of the inputs, with all biases that can be added before; it is written upon.

    backwards    the last step comes first
    has_lens     elements of the batch end early, and are computed one after the other
    cell, out    what a gate loop computes, of these operands: the gates in their order, then for an LSTM the cell and
                 peepholes, and for `out` the new cell; for the others the state, and its product with weights of the
                 candidate
    reset        of a GRU that resets the state before its product with those weights: the state that is multiplied
    product      of the state, which is added to the gates: all of them, but for a GRU without the candidate
    candidate    for a GRU: of the state, or of the reset state
    """

    family = "recurrent"
    template = "neon/recurrent.c.j2"
    kind: str
    time: int
    batch: int
    directions: int
    hidden: int
    backwards: bool
    out: Expression
    product: Product
    cell: Expression | None = None
    reset: Expression | None = None
    candidate: Product | None = None
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
        given = [("r", True), ("r_n", self.candidate is not None)]
        reads = [Parameter("const float *", name) for name, is_there in given if is_there]
        starts = [("initial_h", self.has_h), ("initial_c", self.has_c), ("p", self.has_p)]
        reads += [Parameter("const int32_t *", "lens")] * self.has_lens
        reads += [Parameter("const float *", name) for name, is_there in starts if is_there]
        writes = ["seen", "y", "last_h", *["last_c"] * self.is_lstm, *["rest"] * (self.candidate is not None)]
        return [*reads, *(Parameter("float *", name) for name in writes)]

    @property
    def needs(self) -> Sequence[Kernel]:
        return [self.product.gemm, *([self.candidate.gemm] if self.candidate else [])]

    @property
    def is_lstm(self) -> bool:
        """Whether there is a cell."""
        return self.kind == "lstm"

    @property
    def gates(self) -> tuple[str, ...]:
        """Their names."""
        return GATES[self.kind]

    @property
    def rows(self) -> int:
        """Elements of the batch that go together."""
        return 1 if self.has_lens else self.batch

    @property
    def pitch(self) -> int:
        """Floats from what one element of the batch has seen to the next."""
        return self.directions * len(self.gates) * self.hidden

    def names(self, e: Expression) -> dict[int, str]:
        """The operands that an expression reads."""
        more = ("c", *PEEPHOLES, "new") if self.is_lstm else ("before", "rest")
        return {o.index: (*self.gates, *more)[o.index] for o in operands(e)}

    def body(self, e: Expression, prefix: str, new: str = "") -> Body:
        """The statements of a gate loop, of which the name of the new cell is given."""
        names = {i: new if name == "new" else f"v_{name}" for i, name in self.names(e).items()}
        return write(e, VECTOR, names, prefix)

    def place(self, name: str) -> str:
        """Where an operand lies."""
        if name in self.gates:
            at = self.gates.index(name) * self.hidden
            return f"g + {at} + j" if at else "g + j"
        if name in PEEPHOLES:
            at = PEEPHOLES.index(name) * self.hidden
            return f"p + {at} + j" if at else "p + j"
        row = f"b * {self.hidden} + j" if self.rows > 1 else "j"
        return {"c": f"c + {row}", "before": f"h + {row}", "rest": f"rest + {row}"}[name]

    def load(self, name: str, is_part: bool) -> str:
        """A vector of an operand."""
        place = self.place(name)
        return f"load_f32({place}, {self.hidden % 4})" if is_part else f"vld1q_f32({place})"

    def store(self, place: str, value: str, is_part: bool) -> str:
        """The statement that stores a vector."""
        return f"store_f32({place}, {value}, {self.hidden % 4});" if is_part else f"vst1q_f32({place}, {value});"

    def call(self, product: Product, x: str, w: str, y: str, n: int, ldy: int) -> str:
        """A call of a product, which is added to what is there if its kernel does so."""
        counts = ", ".join(map(str, product.counts))
        other = f"{y}, " if product.gemm.has_other else ""
        h = self.hidden
        return f"{product.gemm.name}({x}, {w}, {other}{y}, {counts}, {n}, {h}, {product.block}, {h}, {ldy});"

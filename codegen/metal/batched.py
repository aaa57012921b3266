"""Products of matrices that are both computed, each of a batch a part of the grid."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.metal.gemm import UNEVEN, WIDE, Tiled
from codegen.metal.kernel import Grid, Numbers
from codegen.neon.tailed import digest
from codegen.program import Parameter, sizes

Ints = tuple[int, ...]


class BatchedGemm(Tiled):
    """y [*batch, m, n] = tail(x [*, m, k] w [*, k, n] + b [n]).

    x_steps, w_steps  elements from one matrix to the next along each axis of the batch, 0 where one is repeated
    is_transposed     matrices of w lie as [n, k]
    w_vector          neighbours of w that are copied at once: 4, 2 or 1
    """

    template = "metal/batched.metal.j2"
    batch: Ints = ()
    x_steps: Ints = ()
    w_steps: Ints = ()
    is_transposed: bool = False
    w_vector: int = WIDE
    has_bias: bool = False

    @property
    def name(self) -> str:
        shape = "x".join(map(str, self.batch))
        uneven = f"{UNEVEN[self.w_vector]}_w" if self.w_vector != WIDE else ""
        kind = "_transposed" * self.is_transposed + uneven + "_bias" * self.has_bias
        word = f"_{digest((self.batch, self.x_steps, self.w_steps))}" if shape else ""
        return f"product{'_' + shape if shape else ''}_{self.cut}{kind}{self.kind}{word}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter(f"const {self.ctype} *", name) for name in ("x", "w", *["b"] * self.has_bias)]
        return [*given, *self.other, self.result, *sizes("m", "n", "k", "count")]

    @property
    def is_direct(self) -> bool:
        return False

    @property
    def w_pitch(self) -> int:
        return self.x_pitch if self.is_transposed else self.columns + self.pad

    @property
    def w_rows(self) -> int:
        return self.columns if self.is_transposed else self.step

    @property
    def w_copies(self) -> int:
        return self.step * self.columns // self.w_vector // self.count

    @property
    def w_width(self) -> int:
        """Elements of a row of the second operand's tile."""
        return self.step if self.is_transposed else self.columns

    @property
    def w_apart(self) -> int:
        """Rows of it from one copy to the next."""
        return self.count * self.w_vector // self.w_width

    @staticmethod
    def terms(steps: Ints) -> list[str]:
        """What adds up to where a matrix begins, by its places i0, i1, ... in the batch."""
        return [f"i{axis} * {step}" for axis, step in enumerate(steps) if step]

    @property
    def places(self) -> list[str]:
        """The statements that find them."""
        made, rest = [], "group.z"
        for axis in range(len(self.batch) - 1, 0, -1):
            made.append(f"const uint i{axis} = {rest} % {self.batch[axis]}, rest{axis} = {rest} / {self.batch[axis]};")
            rest = f"rest{axis}"
        return [*made, *[f"const uint i0 = {rest};"] * bool(self.batch)]

    def grid(self, numbers: Numbers) -> Grid:
        across, down = -(-int(numbers["n"]) // self.columns), -(-int(numbers["m"]) // self.rows)
        return (across, down, int(numbers["count"]))

"""Add up products of parts of the inner axis, where products of matrices are limited in it."""

from __future__ import annotations

from compiler.graph import Value
from compiler.op import Op
from compiler.ops.elementwise import Add
from compiler.ops.matmul import Dense, MatMul
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of
from passes._windows import strips, summed


class SubstituteLargeMatmul(RewritePass):
    """Products of matrices with more than `most` elements along the axis that is summed over."""

    most: int = 32768

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(MatMul, self._parts), instead_of(Dense, self._parts))

    def _parts(self, add: Layers, op: Op, x: Value, w: Value, b: Value | None = None) -> Value | None:
        length = x.type.dims[-1]
        if length <= self.most:
            return None
        column = w.type.rank - (1 if w.type.rank == 1 or (isinstance(op, Dense) and op.transposed) else 2)
        parts = [
            add(op, add.cut(x, x.type.rank - 1, *ends), add.cut(w, column, *ends)) for ends in strips(length, self.most)
        ]
        total = summed(add, parts)
        return total if b is None else add(Add(), total, b)

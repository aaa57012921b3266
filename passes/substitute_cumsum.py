"""Compute running sums by products with triangular matrices of ones, for accelerators that have none."""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.ops.matmul import Dense, MatMul
from compiler.ops.reduce import CumSum
from compiler.pass_base import RewritePass
from compiler.rewrite import Result, Rule, Skip
from passes._decompose import Layers
from passes._substitute import instead_of


class SubstituteCumsum(RewritePass):
    """Running sums of floats along at most `most` elements: a dense layer along the last axis, a matrix in front along
    the one before, and other axes become the last."""

    adds_work = True
    most: int = 2048

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(CumSum, self._parts),)

    def _parts(self, add: Layers, op: CumSum, x: Value) -> Result:
        axis, rank, length = op.axis, x.type.rank, x.type.dims[op.axis]
        if length > self.most:
            return Skip(f"a matrix for {length} elements would have {length**2} numbers")
        ones = np.triu(np.ones((length, length)), int(op.exclusive))  # [from, to]
        matrix = add.const(np.ascontiguousarray(ones.T if op.reverse else ones), x.type.dtype)
        if rank > 1 and axis == rank - 2:
            return add(MatMul(), add.transpose(matrix, (1, 0)), x)
        order = [*(i for i in range(rank) if i != axis), axis]
        y = add(Dense(), add.transpose(x, order), matrix)
        return add.transpose(y, [order.index(i) for i in range(rank)])

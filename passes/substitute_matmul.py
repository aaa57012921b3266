"""Compute the products of one matrix with several constant ones by a single dense layer, where batches are not
broadcast: heads of attention that are computed in front of the sequence."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler.graph import Value
from compiler.ops.matmul import Dense, MatMul
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of


def parts(add: Layers, op: MatMul, x: Value, w: Value) -> Value | None:
    """x [1,...,S,K] times w [...,H,K,N]: one layer [K,H*N], whose columns go apart as axes."""
    dims = w.type.dims
    if w.data is None or len(dims) < 3 or prod(x.type.dims[:-2]) != 1 or prod(dims[:-2]) == 1:
        return None
    (rows, depth), heads, columns = x.type.dims[-2:], prod(dims[:-2]), dims[-1]
    wide = np.asarray(w.data).reshape(heads, depth, columns).transpose(1, 0, 2).reshape(depth, heads * columns)
    y = add(Dense(), add.reshape(x, (rows, depth)), add.const(np.ascontiguousarray(wide), w.type.dtype))
    apart = add.transpose(add.reshape(y, (rows, heads, columns)), (1, 0, 2))
    return add.reshape(apart, add.node.output.type.dims)


class SubstituteMatmul(RewritePass):
    """A matrix times several constant ones becomes one dense layer."""

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(MatMul, parts),)

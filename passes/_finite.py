"""Whether a value cannot be infinite, as far as the layers that compute it tell."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Value
from compiler.op import Op
from compiler.ops.layout import ConvertLayout

MOVES: tuple[type[Op], ...] = (
    ops.Reshape, ops.Transpose, ops.Expand, ops.Slice, ops.Identity, ops.Concat, ConvertLayout,
)  # fmt: skip
ARITHMETIC: tuple[type[Op], ...] = (ops.Add, ops.Sub, ops.Mul)
ORDINARY = 1e30  # numbers of which a few may be added or multiplied with a mask's and stay finite


def is_finite(mask: Value) -> bool:
    """Whether a term cannot be infinite for ordinary inputs: it is computed from them by arithmetic with ordinary
    numbers. An input that is the term itself may be."""
    waiting, known = [(mask, False)], set()
    while waiting:
        v, computed = waiting.pop()
        if (v, computed) in known or not v.type.dtype.is_float:
            continue
        known.add((v, computed))
        op = None if v.node is None else type(v.node.op)
        if v.data is not None:
            if not (np.abs(v.data) <= ORDINARY).all():
                return False
        elif v.node is None:
            if not computed:
                return False
        elif op is ops.Cast or op in MOVES or op in ARITHMETIC or op is ops.Where:
            waiting.extend((x, computed or op in ARITHMETIC) for x in v.node.inputs if x is not None)
        else:
            return False
    return True

"""Weights with zeros: a bit mask, and the numbers that are left, which an operation puts in their places.

They may be floats, integers of 8 bits about zero, or places in a table, which another operation expands.
"""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array
from targets.apple.sparse import Saving
from targets.coreai.compressed import Form
from targets.coreai.dtypes import TYPES
from targets.coreai.program import Program, Var

TABLE = "lut_to_dense"
MASK = "uint1"


def left_of(form: Form) -> Array | None:
    """Which numbers of a form a mask would leave: those that do not stand for 0, but one if all do. None where the
    dialect has no mask."""
    data, kind = form.operands[0]
    if form.operation == TABLE:
        lut = form.operands[1][0]
        groups = (np.arange(n) // (n // g) for g, n in zip(lut.shape, data.shape, strict=False))
        left = np.asarray(lut[(*np.ix_(*groups), data)][..., 0] != 0)
    elif kind == "int4" or (form.operation != "const" and form.operands[2][0].any()):
        return None
    else:
        left = np.asarray(data != 0)
    if not left.any():
        left[(0,) * left.ndim] = True
    return left


def saving(form: Form, left: Array) -> Saving:
    """What the numbers of a form take, and those that are left with their mask."""
    bits = TYPES[form.operands[0][1]].bits
    return Saving(-(-left.size * bits // 8), -(-left.size // 8) + -(-int(left.sum()) * bits // 8))


def expand(program: Program, form: Form, left: Array, dtype: str) -> Var:
    """The weight that the numbers of a form which are left expand to."""
    (data, kind), *others = form.operands
    count, shape = int(left.sum()), data.shape
    operands = [program.const(a, k, key=id(a)) for a, k in others]
    stored = [program.const(data[left], kind), program.const(left.astype(np.uint8), MASK)]
    sparse = program.sparse("build_sparse_with_bitmask", stored, kind, shape, count)
    if form.operation == TABLE:
        sparse = program.sparse("lut_to_sparse_with_bitmask", [sparse, *operands], dtype, shape, count)
    (dense,) = program.op("sparse_with_bitmask_to_dense", [sparse], [(sparse.dtype, shape)])
    if dense.dtype == dtype:
        return dense
    return program.op(form.operation, [dense, *operands], [(dtype, shape)])[0]

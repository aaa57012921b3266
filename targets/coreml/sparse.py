"""Weights with zeros: a bit mask, and the numbers that are left, which a `constexpr_*` operation puts in their places.

Since iOS 18 these numbers may be integers with scales or places in a table; an operation of their own expands them
first. Before, the mask is packed into bytes.
"""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array
from targets.coreml.blob import entry_bytes
from targets.coreml.compressed import BLOCKWISE, Form
from targets.coreml.dtypes import pack_bits
from targets.coreml.literals import WEIGHT_FILE_FROM
from targets.coreml.mil import Literal, Program, Var

FROM_SPARSE = ("constexpr_lut_to_sparse", "constexpr_sparse_blockwise_shift_scale")  # that give a mask and numbers

Operand = Literal | tuple[Array, str]


def masked(form: Form, ios: int) -> Form:
    """A form of floats ("const"), integers or places in a table, with a mask; the zeros that it stands for are left
    out, but for one if there is nothing else."""
    match form.operation:
        case "const":
            return _floats(*_typed(form.operands["val"]), ios)
        case "constexpr_lut_to_dense":
            return _places(form)
    return _integers(form)


def stored_bytes(form: Form) -> int:
    """What the operands of a form add to a weight file at most."""
    arrays = (_typed(v) for v in form.operands.values() if isinstance(v, tuple))
    return sum(entry_bytes(a.size, kind) for a, kind in arrays if a.size >= WEIGHT_FILE_FROM)


def expand(program: Program, form: Form, dtype: str, shape: tuple[int, ...], name: str) -> Var:
    """The weight that a form expands to."""
    if form.operation not in FROM_SPARSE:
        return program.constexpr(form.operation, form.operands, [(dtype, shape)], name)[0]
    count = next(_typed(v)[0].size for key, v in form.operands.items() if key.endswith("nonzero_data"))
    outputs = [("uint1", shape), (dtype, (count,))]
    mask, numbers = program.constexpr(form.operation, form.operands, outputs, name)
    operands = {"nonzero_data": numbers, "mask": mask}
    return program.constexpr("constexpr_sparse_to_dense", operands, [(dtype, shape)], name)[0]


def _typed(operand: Operand) -> tuple[Array, str]:
    assert isinstance(operand, tuple) and isinstance(operand[1], str)
    return np.asarray(operand[0]), operand[1]


def _left(numbers: Array) -> Array:
    """Which are stored."""
    left = np.asarray(numbers != 0)
    if not left.any():
        left[(0,) * left.ndim] = True
    return left


def _floats(data: Array, kind: str, ios: int) -> Form:
    left = _left(data)
    operands: dict[str, Operand] = {"nonzero_data": (data[left], kind)}
    if ios < BLOCKWISE:
        operands["mask"] = (np.frombuffer(pack_bits(left, 1), np.uint8), "uint8")
        operands["shape"] = np.array(data.shape, np.uint32)
    else:
        operands["mask"] = (left.astype(np.uint8), "uint1")
    return Form("constexpr_sparse_to_dense", operands)


def _places(form: Form) -> Form:
    """Of a form of iOS 18, whose places are not packed."""
    (places, kind), (lut, dtype) = _typed(form.operands["indices"]), _typed(form.operands["lut"])
    groups = (np.arange(n) // (n // g) for g, n in zip(lut.shape, places.shape, strict=False))
    left = _left(lut[(*np.ix_(*groups), places)][..., 0])
    mask = (left.astype(np.uint8), "uint1")
    numbers = (places[left], kind)
    return Form(FROM_SPARSE[0], {"indices_mask": mask, "indices_nonzero_data": numbers, "lut": (lut, dtype)})


def _integers(form: Form) -> Form:
    """Of either operation on integers."""
    given = form.operands
    key = "quantized_data" if "quantized_data" in given else "data"
    (data, kind), (scale, dtype) = _typed(given[key]), _typed(given["scale"])
    zero = _typed(given.get("zero_point", given.get("offset", (np.zeros(scale.shape, data.dtype), kind))))[0]
    if scale.ndim < data.ndim:
        along = given.get("axis", 0)
        grid = [scale.size if i == along else 1 for i in range(data.ndim)]
        scale, zero = scale.reshape(grid), zero.reshape(grid)
    shift = zero
    for axis, size in enumerate(data.shape):
        shift = shift.repeat(size // shift.shape[axis], axis)
    left = _left(data != shift)
    operands: dict[str, Operand] = {"data_mask": (left.astype(np.uint8), "uint1"), "nonzero_data": (data[left], kind)}
    operands["scale"] = (scale, dtype)
    if zero.any():
        operands["offset"] = (zero, kind)
    return Form(FROM_SPARSE[1], operands)

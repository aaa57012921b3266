"""Images that products with constant matrices read flattened: they are read as they lie, and the rows of the matrix are
put in that order when it is packed."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.layout import ConvertLayout, logical, order_of
from compiler.tensor import F16, F32, Array


def is_absorbed(node: Node) -> bool:
    """Whether a layer only gives an image its logical order for such products, so that it moves nothing."""
    x, y = node.inputs[0], node.output
    assert x is not None
    if not isinstance(node.op, ConvertLayout) or y.n_out or not y.users or not x.type.is_static:
        return False
    order, dims = order_of(x.type), x.type.dims
    if order_of(y.type) != logical(len(dims)) or len(dims) < 2 or order[0] != 0:
        return False
    flat = (dims[0], prod(dims[1:]))
    return all(
        isinstance(user.op, ops.Reshape)
        and user.output.type.shape == flat
        and not user.output.n_out
        and all(_multiplies(product, user.output) for product in user.output.users)
        for user in y.users
    )


def _multiplies(node: Node, x: Value) -> bool:
    """Whether a layer takes the rows of x times a constant matrix."""
    if not isinstance(node.op, ops.Dense | ops.MatMul) or node.output.type.dtype not in (F16, F32):
        return False
    first, *constants = node.inputs
    return (
        first is x
        and constants[0] is not None
        and constants[0].type.rank == 2
        and all(v is None or v.data is not None for v in constants)
    )


def in_memory(x: Value, matrix: Array) -> Array:
    """A matrix [k, n] with its rows in the order in which the elements of x [m, k] lie."""
    flatten = x.node
    convert = None if flatten is None or flatten.inputs[0] is None else flatten.inputs[0].node
    if convert is None or not isinstance(convert.op, ConvertLayout) or not is_absorbed(convert):
        return matrix
    image = convert.inputs[0]
    assert image is not None
    inner, columns = image.type.dims[1:], matrix.shape[1]
    order = [axis - 1 for axis in order_of(image.type)[1:]]
    return np.ascontiguousarray(matrix.reshape(*inner, columns).transpose(*order, len(inner)).reshape(-1, columns))

"""The parameters that the layer graph gives to weights, for the forms in which lowerings store those."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.graph import Value
from compiler.tensor import Array, QuantParams, TensorType
from targets.tflite.lower.axes import same_axis


class WeightParams:
    """Looked up by where the data lies in memory, so that views of it are known too."""

    def __init__(self) -> None:
        self._types: dict[int, TensorType] = {}

    def learn(self, constants: Sequence[Value]) -> None:
        """Remember the constants that are quantized along an axis."""
        for v in constants:
            if v.data is not None and v.type.quant is not None and v.type.quant.axis is not None:
                self._types[_place(v.data)] = v.type

    def of(self, data: Array, perm: tuple[int, ...] | None, shape: tuple[int, ...]) -> QuantParams | None:
        """Those of a constant whose axes are permuted and that then has another shape, along what was its axis; None
        where nothing is known or that is no axis any more."""
        known = self._types.get(_place(data)) if self._types else None
        if known is None or known.quant is None or known.quant.axis is None or known.size != data.size:
            return None
        own = same_axis(known.dims, data.shape, known.quant.axis)
        moved = own if own is None or perm is None else perm.index(own)
        stored = data.shape if perm is None else tuple(data.shape[i] for i in perm)
        axis = None if moved is None else same_axis(stored, shape, moved)
        return None if axis is None else known.quant._replace(axis=axis)


def _place(data: Array) -> int:
    address: int = data.__array_interface__["data"][0]
    return address


def plain(data: Array) -> Array:
    """Elements of types that numpy lacks as ones that it has."""
    if data.dtype.kind == "V":
        return data.astype(np.float32 if "float" in data.dtype.name else np.int32)
    return data

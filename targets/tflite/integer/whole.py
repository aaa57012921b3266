"""Whole numbers that are not quantized: indices and sizes, as the runtime wraps and rounds them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler.tensor import Array
from targets.tflite.integer.kernel import Kernel, Node
from targets.tflite.reader import STORED

WHOLE = frozenset(("INT32", "INT64"))
INTEGERS = frozenset(("INT8", "UINT8", "INT16", "INT32", "INT64", "BOOL"))


def plain(compute: Callable[[Array, Array], Array], quantized: Kernel | None = None) -> Kernel:
    """A kernel of two operands that are whole numbers, or quantized where there is a kernel for them."""

    def evaluate(node: Node) -> Array | tuple[Array, ...]:
        if quantized is not None and node.tensor(0).dtype in quantized.types:
            return quantized.evaluate(node)
        if node.option("FusedActivationFunction"):
            raise node.refused("has a fused activation of whole numbers")
        return compute(node.value(0), node.value(1))

    return Kernel(evaluate, WHOLE if quantized is None else WHOLE | quantized.types)


def _cast(node: Node) -> Array:
    """Of the numbers that are stored, quantized or not."""
    if node.result().dtype not in INTEGERS:
        raise node.refused(f"gives {node.result().dtype} elements")
    return node.value().astype(STORED[node.result().dtype])


KERNELS = {
    "CAST": Kernel(_cast, INTEGERS),
    "FLOOR_MOD": plain(np.mod),
    "FLOOR_DIV": plain(np.floor_divide),
}

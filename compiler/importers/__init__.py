"""ONNX operators without an operation of their own, by family; importing this package registers them."""

from compiler.importers import (  # noqa: F401  # each registers its operators
    constant,
    elementwise,
    index,
    linear,
    normalization,
    pooling,
    recurrent,
    reduce,
    sequence,
    shape,
)

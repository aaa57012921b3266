"""ONNX operators without an operation of their own, by family; importing this package registers them."""

from compiler.importers import (  # noqa: F401  # each registers its operators
    attention,
    constant,
    elementwise,
    index,
    linear,
    loss,
    normalization,
    pooling,
    qoperator,
    recurrent,
    reduce,
    sequence,
    shape,
    signal,
    vision,
)

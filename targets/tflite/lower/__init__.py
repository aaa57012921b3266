"""Lowering of the layer graph to builtin operators, by family; importing this package fills the table."""

from targets.tflite.lower import (  # noqa: F401  # each registers its operations
    activation,
    conv,
    elementwise,
    indexing,
    linear,
    movement,
    norm,
    pool,
    recurrent,
    resize,
)
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import TABLE

__all__ = ["TABLE", "Lowering"]

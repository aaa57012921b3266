"""Lowering of the layer graph to builtin operators, by family; importing this package fills the table."""

from passes.decompose import DECOMPOSED
from targets.tflite.lower import (  # noqa: F401  # each registers its operations
    activation,
    attention,
    conv,
    dynamic,
    elementwise,
    indexing,
    integer,
    linear,
    movement,
    norm,
    pool,
    quant,
    recurrent,
    resize,
    response,
)
from targets.tflite.lower.lowering import Lowering
from targets.tflite.lower.table import TABLE

TABLE.decomposes(DECOMPOSED)

__all__ = ["TABLE", "Lowering"]

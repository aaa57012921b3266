"""Lowering of the layer graph to MIL, by family; importing this package fills the table."""

from targets.coreml.lower import (  # noqa: F401  # each registers its operations
    attention,
    elementwise,
    indexing,
    linear,
    movement,
    norm,
    pool,
    quant,
    recurrent,
    reduction,
    resize,
)
from targets.coreml.lower.table import TABLE, Lowering

__all__ = ["TABLE", "Lowering"]

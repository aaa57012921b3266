"""Lowering of the layer graph to Apple's Core AI dialect, by family; importing this package fills the table."""

from passes.decompose import DECOMPOSED
from targets.coreai.lower import (  # noqa: F401  # each registers its operations
    activation,
    attention,
    elementwise,
    indexing,
    integer,
    linear,
    movement,
    norm,
    pool,
    quant,
    recurrent,
    reduction,
    refused,
    resize,
)
from targets.coreai.lower.lowering import Lowering
from targets.coreai.lower.table import TABLE

TABLE.decomposes(DECOMPOSED)

__all__ = ["TABLE", "Lowering"]

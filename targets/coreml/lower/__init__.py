"""Lowering of the layer graph to MIL, by family; importing this package fills the table."""

from passes.decompose import DECOMPOSED
from targets.coreml.lower import (  # noqa: F401  # each registers its operations
    activation,
    attention,
    elementwise,
    generate,
    heads,
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
    sampling,
)
from targets.coreml.lower.lowering import Lowering
from targets.coreml.lower.table import TABLE

TABLE.decomposes(DECOMPOSED)

__all__ = ["TABLE", "Lowering"]

"""Lowering of the layer graph to MIL, by family; importing this package fills the table."""

from targets.coreml.lower import (  # noqa: F401  # each registers its operations
    activation,
    attention,
    einsum,
    elementwise,
    generate,
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
    spectral,
)
from targets.coreml.lower.lowering import Lowering
from targets.coreml.lower.table import TABLE

__all__ = ["TABLE", "Lowering"]

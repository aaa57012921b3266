"""One function for each operation, by family; importing this registers them all."""

from passes.decompose import DECOMPOSED
from targets.neon.lower import (
    attention,
    cast,
    conv,
    deconv,
    elementwise,
    indexing,
    matmul,
    movement,
    norm,
    pool,
    recurrent,
    reduce,
    resize,
    search,
    softmax,
    windows,
)
from targets.neon.table import TABLE

TABLE.decomposes(DECOMPOSED)

__all__ = [
    "attention",
    "cast",
    "conv",
    "deconv",
    "elementwise",
    "indexing",
    "matmul",
    "movement",
    "norm",
    "pool",
    "recurrent",
    "reduce",
    "resize",
    "search",
    "softmax",
    "windows",
]

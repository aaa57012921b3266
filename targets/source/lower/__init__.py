"""One function for each operation whose kernels every target writes, by family; importing this registers them all."""

from targets.source.lower import (
    cast,
    elementwise,
    indexing,
    movement,
    norm,
    pool,
    reduce,
    resize,
    search,
    softmax,
    windows,
)

__all__ = [
    "cast",
    "elementwise",
    "indexing",
    "movement",
    "norm",
    "pool",
    "reduce",
    "resize",
    "search",
    "softmax",
    "windows",
]

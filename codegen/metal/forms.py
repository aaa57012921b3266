"""Importing this registers the forms of all kernels that other generators know too."""

from codegen.metal import (
    copies,
    elementwise,
    gather,
    plain,
    pool,
    reduce,
    resize,
    scatter,
    selection,
    sorting,
    windows,
)

__all__ = [
    "copies",
    "elementwise",
    "gather",
    "plain",
    "pool",
    "reduce",
    "resize",
    "scatter",
    "selection",
    "sorting",
    "windows",
]

"""What the singular values of each layer say of how far it can be compressed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from compiler.graph import Graph
from compiler.tensor import Array
from passes._compression import Rows, Work
from passes._low_rank import Menu, Option, Splits
from passes._low_rank_algebra import left_modes
from passes._low_rank_dimension import effective_rank, participation_ratio, two_nn
from passes._low_rank_forms import result_modes

SHOWN = (0.999, 0.99, 0.95, 0.9)  # shares of the energy for which ranks are told


class Spectrum(NamedTuple):
    """Of one layer.

    shape           of its weight, [results, inputs, *kernel]; of a table [numbers of a row, rows]
    values          singular values of the weight as a matrix [results, all else], falling; of a large one the first
    effective       effective rank of the weight: exp of the entropy of its singular values
    ranks           for each share of SHOWN, the least rank of the matrix that keeps as much of the squared values
    participation   participation ratio of the results on rows of data; None without
    dimension       intrinsic dimension of the results by two nearest neighbours; None without rows, NaN of too few
    before          its work
    options         what it can be split into, from little to much error
    """

    layer: str
    shape: tuple[int, ...]
    values: Array
    effective: float
    ranks: tuple[int | None, ...]
    participation: float | None
    dimension: float | None
    before: Work
    options: list[Option]


def spectra(graph: Graph, rows: Rows | None = None, splits: Splits | None = None) -> list[Spectrum]:
    """The spectrum of each layer that can be split, in the order of the graph."""
    menus = (Splits() if splits is None else splits).menus(graph, rows)
    return [_spectrum(menu) for menu in menus if isinstance(menu, Menu)]


def _spectrum(menu: Menu) -> Spectrum:
    modes = left_modes(menu.layer.matrix)
    tail = modes.tail()
    found = menu.seen
    return Spectrum(
        menu.layer.name,
        menu.layer.tensor.shape,
        np.sqrt(modes.energies),
        effective_rank(modes.energies),
        tuple(_least(tail, share) for share in SHOWN),
        None if found is None else participation_ratio(result_modes(menu.layer, found).energies),
        None if found is None else two_nn(found.cloud),
        menu.before,
        menu.options,
    )


def _least(tail: Array, share: float) -> int | None:
    """The first rank that leaves out no more than the rest; None if the values that are known do not reach it."""
    fitting = np.flatnonzero(tail <= 1 - share)
    return int(fitting[0]) if len(fitting) else None

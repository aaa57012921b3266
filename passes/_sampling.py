"""Reading images at places that are data, by gathers of whole rows of channels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np

from compiler.tensor import I32
from passes._terms import Term


class Tap(NamedTuple):
    """One of the elements along an axis that a place reads: its row (i32), and its weight (None: 1)."""

    row: Term
    weight: Term | None


def zero_padded(at: Term, length: int, stride: int = 1) -> list[Tap]:
    """The elements before and after each place along an axis, linearly weighed; what lies outside counts as 0."""
    low = at.floor()
    fraction = at - low
    return [inside(low, 1 - fraction, length, stride), inside(low + 1, fraction, length, stride)]


def inside(place: Term, weight: Term | None, length: int, stride: int) -> Tap:
    """A tap at whole numbers, without weight where they are outside."""
    nearest = place.clip(0, length - 1)
    known = nearest.equals(place).cast(place.dtype)
    return Tap(index_of(nearest, stride), known if weight is None else weight * known)


def index_of(place: Term, stride: int) -> Term:
    """Valid whole numbers as indices of rows that are `stride` apart."""
    index = place.cast(I32)
    return index if stride == 1 else index * stride


def rows_of(x: Term) -> Term:
    """x [N,C,*D] as the matrix [N*prod(D),C]."""
    n, c, *dims = x.dims
    return x.transpose(0, *range(2, len(dims) + 2), 1).reshape(n * prod(dims), c)


def corners(rows: Term, axes: Sequence[Sequence[Tap]], first: Term | None = None) -> list[Term]:
    """For each choice of one tap per axis, the weighed rows at the sums of their indices (and `first`)."""
    found = []
    for taps in product(*axes):
        index, weight = first, None
        for tap in taps:
            index = tap.row if index is None else index + tap.row
            if tap.weight is not None:
                weight = tap.weight if weight is None else weight * tap.weight
        assert index is not None
        seen = rows.take(index)
        found.append(seen if weight is None else seen * weight.reshape(*weight.dims, 1).cast(rows.dtype))
    return found


def image_starts(x: Term, count: int) -> Term | None:
    """The index of the first row of each of `count` images of that many rows, [N,1]; None for a single image."""
    n = x.dims[0]
    return x.const(np.arange(n).reshape(n, 1) * count, I32) if n > 1 else None

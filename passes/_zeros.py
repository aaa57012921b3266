"""Which weights have so many exact zeros that they are worth keeping."""

from __future__ import annotations

import numpy as np

from compiler.tensor import Array

MANY = 0.25  # the share of zeros from which a weight has many


def has_many_zeros(data: Array, share: float = MANY) -> bool:
    """Whether at least a share of an array, and one number of it, are exact zeros."""
    zeros = 0 if data.dtype.kind == "V" else data.size - int(np.count_nonzero(data))
    return zeros > 0 and zeros >= share * data.size

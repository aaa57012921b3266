"""Copies in row-major order."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.order import in_order
from compiler.tensor import Array

A = np.arange(300 * 170, dtype=np.float32).reshape(300, 170)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.float64, np.complex128])
@pytest.mark.parametrize(
    "view",
    [
        A.T,
        A.T[:, :, None, None],
        A.T[None, 5:, 3:],
        A.T[::2, ::-3],
        A[::-1],
        A[:, ::2].T,
        np.broadcast_to(A[:, :1], A.shape),
        A.reshape(3, 100, 170).transpose(2, 0, 1),
        A.T[:4, :4],
        A[:0].T,
        np.array(3.0).T,
    ],
    ids=lambda v: f"{v.shape}-{v.strides}",
)
def test_the_elements_are_the_same(view: Array, dtype: type[np.generic]) -> None:
    array = view if dtype is np.float32 else view.astype(dtype)
    found = in_order(array)
    assert found.flags.c_contiguous and found.shape == array.shape and found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_what_is_in_order_is_not_copied() -> None:
    assert np.shares_memory(in_order(A), A) and np.shares_memory(in_order(A[3:7]), A)

"""Orders in memory: through reshapes, and what types say of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from compiler.ops.layout import aligned_shape, channels_last, in_order, moves, physical_axis, physical_shape
from compiler.tensor import F32, TensorType
from passes._layout_axes import reshaped
from tests.strategies import seeds

NHWC = channels_last(4)


@pytest.mark.parametrize(
    ("shape", "order", "target", "expected"),
    [
        ((2, 3, 4, 5), NHWC, (2, 3, 20), (0, 2, 1)),
        ((2, 3, 20), (0, 2, 1), (2, 3, 4, 5), NHWC),
        ((2, 6, 4, 5), NHWC, (2, 2, 3, 4, 5), (0, 3, 4, 1, 2)),
        ((2, 3, 4), (0, 2, 1), (2, 3, 1, 4), NHWC),
        ((2, 3, 4), (0, 2, 1), (2, 3, 4, 1), NHWC),
        ((1, 3, 4, 5), NHWC, (3, 4, 5), (1, 2, 0)),
        ((2, 3, 4, 5), NHWC, (2, 60), None),
        ((2, 3, 4, 5), NHWC, (6, 20), None),
        ((2, 3, 1, 1), NHWC, (2, 3), (0, 1)),
        (("n", 3, 4, 5), NHWC, ("n", 3, 20), (0, 2, 1)),
        (("n", 3, 4, 5), NHWC, (3, "n", 20), None),
    ],
)
def test_orders_through_reshapes(
    shape: tuple[int | str, ...], order: tuple[int, ...], target: tuple[int | str, ...], expected: object
) -> None:
    assert reshaped(TensorType(F32, shape), order, target) == expected


@given(seed=seeds())
def test_a_reshape_in_memory_gives_the_logical_reshape(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(d) for d in rng.choice([1, 2, 3, 4, 6], int(rng.integers(1, 5))))
    target = [d for d in shape if d != 1 or rng.random() < 0.5]
    for _ in range(int(rng.integers(3))):
        at = int(rng.integers(len(target) + 1))
        target[at : at + 2] = [int(np.prod(target[at : at + 2])), *([1] if rng.random() < 0.5 else [])]
    order = tuple(int(i) for i in rng.permutation(len(shape)))
    found = reshaped(TensorType(F32, shape), order, tuple(target))
    if found is not None:
        x = np.arange(np.prod(shape)).reshape(shape)
        in_memory = x.transpose(order).reshape([target[i] for i in found])
        assert np.array_equal(in_memory, x.reshape(target).transpose(found))


def test_types_in_memory() -> None:
    x, y = in_order(TensorType(F32, (2, 3, 4, 5)), NHWC), TensorType(F32, (2, 4, 5, 3))
    assert physical_shape(x) == (2, 4, 5, 3) and physical_axis(x, 1) == 3
    assert moves(NHWC, x, y) == (0, 1, 2, 3)
    assert moves((0, 1, 2, 3), x, TensorType(F32, (2, 3, 4, 5))) == (0, 3, 1, 2)
    assert aligned_shape(TensorType(F32, (3, 1, 1)), x) == (1, 1, 1, 3)
    assert aligned_shape(in_order(TensorType(F32, (3, 4, 5)), (1, 2, 0)), x) == (1, 4, 5, 3)

"""SubstituteWideKernel: blocks of pixels as channels, in and out."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from passes.substitute_wide_kernel import SubstituteWideKernel
from tests.passes.composed import stays
from tests.passes.windowed import convolution, fires, kernels
from tests.strategies import seeds


@settings(max_examples=40)
@given(seed=seeds())
def test_copies_of_the_kernel_compute_neighbours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = convolution(rng, ((1, 3), (13, 40)), ((1, 2), (1, 3)), ((1, 2), (1, 1)))
    after = fires(SubstituteWideKernel(width=4), graph, rng).after
    assert [wide <= 4 for _, wide in kernels(after)] == [True]


def test_many_weights_stay() -> None:
    rng = np.random.default_rng(0)
    stays(
        SubstituteWideKernel(width=4, weights=100), convolution(rng, ((3, 3), (20, 20)), ((1, 1),) * 2, ((1, 1),) * 2)
    )


def test_blocks_of_a_stride_that_suffice_are_left_to_the_pass_for_them() -> None:
    rng = np.random.default_rng(0)
    stays(SubstituteWideKernel(), convolution(rng, ((3, 3), (30, 30)), ((1, 1), (2, 2)), ((1, 1),) * 2))

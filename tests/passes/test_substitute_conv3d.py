"""SubstituteConv3d: sums of convolutions of slices."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from passes.substitute_conv3d import SubstituteConv3d
from tests.passes.composed import stays
from tests.passes.windowed import convolution, fires, kernels
from tests.strategies import seeds


@settings(max_examples=25)
@given(seed=seeds())
def test_slices_of_the_kernel_sum_to_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = convolution(rng, ((1, 3),) * 3, ((1, 2),) * 3, ((1, 2),) * 3)
    depth = kernels(graph)[0][0]
    after = kernels(fires(SubstituteConv3d(), graph, rng).after)
    assert len(after) == depth and all(len(k) == 2 for k in after)


def test_images_stay() -> None:
    stays(SubstituteConv3d(), convolution(np.random.default_rng(0), ((3, 3),) * 2, ((1, 1),) * 2, ((1, 1),) * 2))

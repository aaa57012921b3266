"""SubstituteLargeDilation: every n-th pixel as a sample of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compiler.ops.conv import Conv
from passes.substitute_large_dilation import SubstituteLargeDilation
from tests.passes.composed import run, stays
from tests.passes.windowed import convolution, fires
from tests.strategies import seeds


@settings(max_examples=40)
@given(seed=seeds())
def test_dilations_become_those_that_are_taken(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = convolution(rng, ((2, 3), (2, 3)), ((1, 1), (1, 1)), ((1, 14), (9, 14)))
    (conv,) = fires(SubstituteLargeDilation(), graph, rng).after.of(Conv)
    assert isinstance(conv.op, Conv)
    assert set(conv.op.dilations) <= {1, 2, 3, 4, 6, 8}


@pytest.mark.parametrize("dilation", [1, 2, 3, 4, 6, 8])
def test_what_is_taken_stays(dilation: int) -> None:
    rng = np.random.default_rng(1)
    stays(SubstituteLargeDilation(), convolution(rng, ((3, 3),) * 2, ((1, 2),) * 2, ((dilation, dilation),) * 2))


def test_a_kernel_of_one_place_has_no_dilation() -> None:
    rng = np.random.default_rng(1)
    stays(SubstituteLargeDilation(), convolution(rng, ((1, 1),) * 2, ((1, 1),) * 2, ((5, 5),) * 2))


def test_strides_beside_them_are_named() -> None:
    rng = np.random.default_rng(1)
    graph = convolution(rng, ((3, 3),) * 2, ((2, 2),) * 2, ((10, 10),) * 2)
    assert run(SubstituteLargeDilation(), graph).skips == ["a dilation of 10 with a stride"]

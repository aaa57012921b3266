"""SubstitutePool3d: within slices, then across them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compiler.ops.pool import AveragePool, MaxPool, Pool
from passes.substitute_pool3d import SubstitutePool3d
from tests.passes.composed import stays
from tests.passes.windowed import fires, pooling
from tests.strategies import seeds


@pytest.mark.parametrize("kind", [MaxPool, AveragePool])
@settings(max_examples=25)
@given(seed=seeds())
def test_two_pools_see_what_one_does(kind: type[Pool], seed: int) -> None:
    rng = np.random.default_rng(seed)
    after = fires(SubstitutePool3d(), pooling(rng, kind, ((1, 3),) * 3, ((1, 3),) * 3), rng).after
    assert [n.inputs[0].type.rank for n in after.of(kind) if n.inputs[0] is not None] == [4, 4]


def test_images_stay() -> None:
    stays(SubstitutePool3d(), pooling(np.random.default_rng(0), MaxPool, ((2, 2),) * 2, ((1, 1),) * 2))

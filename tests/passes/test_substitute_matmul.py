"""SubstituteMatmul: constant matrices side by side."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.matmul import MatMul
from passes.substitute_matmul import SubstituteMatmul
from tests.passes.composed import Net, becomes, stays

RNG = np.random.default_rng(2)


@pytest.mark.parametrize(("x", "w"), [((1, 1, 5, 4), (1, 3, 4, 2)), ((5, 4), (3, 4, 2)), ((1, 5, 4), (2, 3, 4, 2))])
def test_heads(x: tuple[int, ...], w: tuple[int, ...]) -> None:
    net = Net()
    graph = net.returns(net(MatMul(), net.input(*x), RNG.normal(size=w)))
    becomes(SubstituteMatmul(), graph, {"dense": 1, "transpose": 1, "reshape": 1 + (len(x) > 2) + (len(w) > 3)})


def test_one_matrix_batches_of_the_left_and_computed_ones_stay() -> None:
    net = Net()
    x = net.input(1, 1, 5, 4)
    batched = net(MatMul(), net.input(1, 3, 5, 4), RNG.normal(size=(1, 3, 4, 2)))
    one = net(MatMul(), x, RNG.normal(size=(1, 1, 4, 2)))
    stays(SubstituteMatmul(), net.returns(one, batched, net(MatMul(), x, net.input(1, 3, 4, 2))))

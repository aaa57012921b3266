"""SubstituteSoftmax: pairs by logistic functions."""

from __future__ import annotations

import pytest

from compiler.ops.softmax import Softmax
from passes.substitute_softmax import SubstituteSoftmax
from tests.passes.composed import Net, becomes, stays


@pytest.mark.parametrize(("shape", "axis"), [((1, 7, 2), 2), ((2, 3), 0)])
def test_pairs(shape: tuple[int, ...], axis: int) -> None:
    net = Net()
    graph = net.returns(net(Softmax(axis=axis), net.input(*shape)))
    becomes(SubstituteSoftmax(), graph, {"concat": 1, "sigmoid": 2, "slice": 2, "sub": 2})


@pytest.mark.parametrize("shape", [(1, 7, 3), (1, 1, 2)])
def test_more_numbers_and_a_single_row_stay(shape: tuple[int, ...]) -> None:
    net = Net()
    stays(SubstituteSoftmax(), net.returns(net(Softmax(axis=2), net.input(*shape))))

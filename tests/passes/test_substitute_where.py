"""SubstituteWhere: masks in front of a softmax."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.elementwise import Where
from compiler.ops.softmax import Softmax
from passes.substitute_where import SubstituteWhere
from tests.passes.composed import Net, Term, becomes, stays

CAUSAL = np.tri(4, dtype=np.bool_)


def hidden(net: Net, x: Term, mask: np.ndarray = CAUSAL, other: float = -np.inf) -> Term:
    return net(Where(), mask, x, np.array(other, np.float32))


@pytest.mark.parametrize("other", [-np.inf, -1e9, -65504.0])
def test_a_sum_hides_scores(other: float) -> None:
    net = Net()
    graph = net.returns(net(Softmax(axis=3), hidden(net, net.input(2, 3, 4, 4), other=other)))
    becomes(SubstituteWhere(), graph, {"add": 1, "softmax": 1})


def test_rows_without_any_score_numbers_that_count_and_other_readers_stay() -> None:
    net = Net()
    x = net.input(2, 3, 4, 4)
    nothing = CAUSAL & ~np.eye(4, dtype=np.bool_)
    results = [net(Softmax(axis=3), hidden(net, x, nothing)), net(Softmax(axis=3), hidden(net, x, other=-5.0))]
    stays(SubstituteWhere(), net.returns(*results, hidden(net, x)))

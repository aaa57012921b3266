"""SubstituteWhere: masks in front of a softmax."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.evaluate import evaluate
from compiler.ops.elementwise import Where
from compiler.ops.softmax import Softmax
from passes.substitute_where import SubstituteWhere
from tests.passes.composed import Net, Record, Term, becomes, stays

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


@pytest.mark.parametrize(("above", "is_hidden"), [(890.0, True), (896.0, True), (905.0, False), (1100.0, False)])
def test_a_hidden_score_may_be_896_above_those_that_are_shown(above: float, is_hidden: bool) -> None:
    net = Net()
    graph = net.returns(net(Softmax(axis=1), hidden(net, net.input(1, 4), np.array([[True, True, False, True]]))))
    x = np.array([[1.0, 3.0, 3.0 + above, 2.0]], np.float32)
    (name,) = (v.name for v in graph.inputs)
    before = evaluate(graph, {name: x})["y0"]
    assert SubstituteWhere().run(graph, Record()) == 1
    after = evaluate(graph, {name: x})["y0"]
    assert (after[0, 2] == 0) == is_hidden
    assert not is_hidden or np.array_equal(before, after)

"""FloatIntegers: what masks are counted by, as floats."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ops.elementwise import Add, Cast, Less, Max, Mul, Sub
from compiler.ops.index import Gather
from compiler.ops.reduce import CumSum, ReduceSum
from compiler.rewrite import Unobserved
from compiler.tensor import BOOL, I64
from passes.float_integers import FloatIntegers
from tests.passes.composed import Net, Term, becomes, stays
from tests.strategies import seeds

COUNT, BACK = Cast(to="i64"), Cast(to="f32")


def of_integers(graph: Graph) -> list[str]:
    """The layers that compute integers."""
    return [n.op.name for n in graph.nodes if n.output.type.dtype is I64]


def counted(net: Net, mask: Term) -> Term:
    """Positions as RoBERTa has them: how many elements are shown up to each, and 1 for hidden ones."""
    whole = net(COUNT, mask)
    return net(Add(), net(Mul(), net(CumSum(axis=1), whole), whole), np.array(1))


@settings(max_examples=20)
@given(seed=seeds())
def test_positions_become_floats(seed: int) -> None:
    rng, net = np.random.default_rng(seed), Net()
    at = counted(net, net.input(2, 9, dtype=BOOL))
    few = net(Less(), net(Sub(), np.array(4), at), np.array(int(rng.integers(-6, 6))))
    graph = net.returns(net(BACK, net(Max(), at, np.array(2))), few, net(ReduceSum(axes=(0,)), at))
    feeds = {"x0": rng.random((2, 9)) < 0.5}
    before = evaluate(graph, feeds)
    assert FloatIntegers().run(graph, Unobserved()) == 2
    graph.verify()
    assert of_integers(graph) == ["cast", "cumsum", "mul", "add", "reduce_sum"]  # for the output that has to be whole
    assert all(np.array_equal(a, b) for a, b in zip(before.values(), evaluate(graph, feeds).values(), strict=True))
    assert FloatIntegers().run(graph, Unobserved()) == 0


def test_nothing_is_left_of_integers_that_nothing_else_reads() -> None:
    net = Net()
    graph = net.returns(net(BACK, counted(net, net.input(2, 9, dtype=BOOL))))
    becomes(FloatIntegers(), graph, {"cast": 1, "cumsum": 1, "mul": 1, "add": 1})
    assert not of_integers(graph)


def test_what_leads_to_integers_alone_stays() -> None:
    net = Net()
    table = np.random.default_rng(0).normal(size=(11, 3))
    stays(FloatIntegers(), net.returns(net(Gather(axis=0), table, counted(net, net.input(2, 9, dtype=BOOL)))))


def test_large_numbers_stay() -> None:
    net = Net()
    stays(FloatIntegers(), net.returns(net(BACK, counted(net, net.input(1, 2050, dtype=BOOL)))))


def test_integers_of_any_size_stay() -> None:
    net = Net()
    stays(FloatIntegers(), net.returns(net(BACK, net(Add(), net.input(3, dtype=I64), np.array(1)))))

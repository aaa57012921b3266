"""SubstituteLogic: arithmetic on 0 and 1."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.evaluate import evaluate
from compiler.op import Op
from compiler.ops.elementwise import And, Or, Xor
from compiler.rewrite import Unobserved
from compiler.tensor import BOOL
from passes.substitute_logic import SubstituteLogic
from tests.passes.composed import Net, becomes, stays


@pytest.mark.parametrize(
    ("op", "layers"), [(And(), {"mul": 1}), (Or(), {"max": 1}), (Xor(), {"abs": 1, "sub": 1})], ids=str
)
def test_all_cases(op: Op, layers: dict[str, int]) -> None:
    net = Net()
    graph = net.returns(net(op, net.input(2, 1, dtype=BOOL), net.input(2, dtype=BOOL)))
    feeds = {"x0": np.array([[False], [True]]), "x1": np.array([False, True])}
    (before,) = evaluate(graph, feeds).values()
    SubstituteLogic().run(graph, Unobserved())
    assert graph.op_counts == {"cast": 2, "greater": 1, **layers}
    (after,) = evaluate(graph, feeds).values()
    assert after.dtype == bool and np.array_equal(before, after)


def test_only_what_is_named() -> None:
    net = Net()
    a, b = net.input(3, dtype=BOOL), net.input(3, dtype=BOOL)
    graph = net.returns(net(And(), a, b), net(Or(), a, b))
    becomes(SubstituteLogic(layers=("or",)), graph, {"and": 1, "cast": 2, "greater": 1, "max": 1})


def test_nothing_named_stays() -> None:
    net = Net()
    stays(SubstituteLogic(layers=()), net.returns(net(Xor(), net.input(3, dtype=BOOL), net.input(3, dtype=BOOL))))

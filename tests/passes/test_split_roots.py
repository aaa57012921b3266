"""SplitRoots: normalisations whose rows differ a thousandfold in energy get an inverse root of two factors."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.calibrate.fitting import Fitting
from compiler.calibrate.trial import Trial
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.rewrite import Unobserved
from compiler.tensor import Array
from passes._repair import Judge
from passes._roots import roots
from passes.expand_int8 import ExpandInt8
from passes.split_roots import SplitRoots
from targets.tflite.int8_rules import scheme
from tests.passes.composed import Net, Record
from tests.passes.repairing import Sceptic, run

UNLIKE = np.array([0.02, 1.0, 0.5, 0.05])  # how large the numbers of each row are


def normalised(eps: float = 1e-5) -> Graph:
    """A root mean square normalisation in the form that is computed in integers."""
    net = Net()
    scale = np.linspace(0.5, 1.5, 16).astype(np.float32)
    graph = net.returns(net(ops.RmsNorm(axis=1, eps=eps), net.input(4, 16), scale))
    ExpandInt8().run(graph, Unobserved())
    return graph


def rows(sizes: Array, count: int = 8) -> list[dict[str, Array]]:
    rng = np.random.default_rng(1)
    return [{"x0": (rng.normal(size=(4, 16)) * sizes[:, None]).astype(np.float32)} for _ in range(count)]


def judge_of(sizes: Array) -> Judge:
    feeds = rows(sizes)
    return Judge(scheme(), lambda _: Trial(feeds), lambda _: Fitting(feeds))


class Keen(Judge):
    """Finds the larger one of two graphs better."""

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge.scheme, judge.trial, judge.rows)

    def score(self, graph: Graph) -> float:
        """Its layers."""
        return float(len(graph))


def test_rows_of_unlike_energy_keep_their_accuracy() -> None:
    graph, judge = normalised(), judge_of(UNLIKE)
    before = judge.score(graph)
    record = run(SplitRoots(judge=judge), graph)
    (text,) = record.rules
    assert text.startswith("1 roots: ")
    assert judge.score(graph) > before + 3
    small = min(n.op.high for n in graph.of(ops.Clip) if isinstance(n.op, ops.Clip))
    assert 0.1 < small < 8  # between the sums of squares, which are from 0.006 to 16


def test_rows_that_are_alike_are_left_alone() -> None:
    graph = normalised()
    record = Record()
    assert SplitRoots(judge=judge_of(np.ones(4))).run(graph, record) == 0
    assert (record.rules, record.skips) == ([], [])


def test_what_does_not_help_is_declined() -> None:
    graph = normalised()
    sceptic = Sceptic(graph)
    sceptic.trial = lambda _: Trial(rows(UNLIKE))
    layers, record = len(graph), Record()
    assert SplitRoots(judge=sceptic).run(graph, record) == 0
    assert len(graph) == layers
    assert record.skips == ["1 roots -0.50 dB on 8 rows, from 30.00 dB"]


def test_other_powers_are_no_inverse_roots() -> None:
    net = Net()
    x = net.input(4, 16)
    assert roots(net.returns(net(ops.Pow(), net(ops.Mul(), x, x) + 1.0, -0.5))) == []
    assert len(roots(normalised())) == 1


@settings(deadline=None, max_examples=40)
@given(spread=st.floats(0.0, 4.0), eps=st.sampled_from([0.0, 1e-6, 1e-3]), seed=st.integers(0, 999))
def test_the_function_stays(spread: float, eps: float, seed: int) -> None:
    sizes = 10.0 ** np.array([-spread, 0, -spread / 2, -spread / 4])
    graph, judge = normalised(eps), Keen(judge_of(sizes))
    feed = {"x0": (np.random.default_rng(seed).normal(size=(4, 16)) * sizes[:, None]).astype(np.float32)}
    expected = evaluate(graph, feed)["y0"].astype(np.float64)
    SplitRoots(judge=judge).run(graph, Record())
    graph.verify()
    noise = np.square(evaluate(graph, feed)["y0"] - expected).sum()
    assert noise <= 1e-10 * np.square(expected).sum()

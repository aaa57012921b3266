"""ChooseRanges: the observer that leaves the outputs most accurate, if it is clearly better than the usual one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler.graph import Graph
from compiler.quantize import asymmetric
from passes._int8_scheme import Ranges
from passes.choose_ranges import ChooseRanges
from tests.passes.composed import Net, Record
from tests.passes.repairing import convolution, judge_of


class Clipping:
    """The ranges of some rows, and shares of them."""

    def __init__(self, **shares: float) -> None:
        self.shares = shares
        self.chosen: str | None = None

    def candidates(self, graph: Graph) -> Mapping[str, Ranges]:
        seen = judge_of(graph).trial(graph).ranges(graph)
        return {name: {v: (a * k, b * k) for v, (a, b) in seen.items()} for name, k in self.shares.items()}

    def choose(self, name: str) -> None:
        self.chosen = name


def network() -> Graph:
    net, rng = Net(), np.random.default_rng(1)
    return net.returns(convolution(convolution(net.input(1, 3, 8, 8), 6, rng), 4, rng))


def run(observers: Clipping, graph: Graph) -> Record:
    record = Record()
    p = ChooseRanges(judge=judge_of(graph), observers=observers)
    assert p.run(graph, record) == len(record.rules)
    return record


def test_the_best_is_chosen() -> None:
    observers = Clipping(usual=0.1, other=1.0, coarse=20.0)
    record = run(observers, network())
    assert observers.chosen == "other"
    assert record.rules[0].startswith("ranges of other: usual ")
    assert record.rules[0].count(" dB") == 3


def test_the_usual_one_stays_unless_another_is_clearly_better() -> None:
    observers = Clipping(usual=1.0, same=1.001, worse=0.2)
    record = run(observers, network())
    assert observers.chosen is None
    assert record.skips[0].startswith("usual ")


def test_there_must_be_a_choice_and_a_model_without_scales_of_its_own() -> None:
    graph = network()
    assert run(Clipping(usual=0.1), graph).rules == []
    assert ChooseRanges().run(graph, Record()) == 0
    graph.inputs[0].type = graph.inputs[0].type._replace(quant=asymmetric(-1, 1))
    assert run(Clipping(usual=0.1, other=1.0), graph).rules == []

"""Plans of some groups: what is left of the plan of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from compiler.calibrate.fitting import Fitting
from compiler.rewrite import Unobserved
from passes._compression import layer_names, work_of
from passes._fitted import data_of
from passes._prune_choice import Plan
from passes._prune_scores import Elimination
from passes._prune_technique import PrunedChannels, remove
from tests.passes.coupled import FAMILIES, coupled
from tests.passes.repairing import rows_of


@pytest.mark.parametrize("importance", ["reconstruction", "activation", "l2"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_some_groups_are_ranked_as_they_are_among_all(family: str, importance: str) -> None:
    graph = coupled(family, 2, smooth=False)
    rows = None if importance == "l2" else Fitting(rows_of(graph, 6))
    whole = Plan(graph, importance, rows, 0.75)
    nodes = list(dict.fromkeys(g.node for g in whole.groups))
    assert len(nodes) >= 3
    for picked in ([nodes[0]], [nodes[-1]], nodes[1::2]):
        part = Plan(graph, importance, rows, 0.75, picked)
        assert part.groups == [g for g in whole.groups if g.node in picked]
        amounts = dict.fromkeys(picked, 0.5)
        assert whole.chosen(amounts, 1).any()
        assert np.array_equal(part.chosen(amounts, 1), whole.chosen(amounts, 1))


def test_applying_to_one_layer_ranks_no_other_and_gives_what_the_whole_plan_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = coupled("resnet", 2, smooth=False)
    rows = Fitting(rows_of(graph, 6))
    names = {node: name for name, node in layer_names(graph).items()}
    ranked: list[Sequence[int]] = []
    order = Elimination.order

    def counted(self: Elimination, units: Sequence[int], most: int) -> tuple[list[int], list[float]]:
        ranked.append(units)
        return order(self, units, most)

    monkeypatch.setattr(Elimination, "order", counted)
    for node in {g.node: None for g in Plan(graph, "auto", rows, 0.75).groups}:
        plain, twin = graph.clone(), graph.clone()
        whole = Plan(plain, "auto", rows, 0.75)
        mine = dict(zip(graph.nodes, plain.nodes, strict=True))[node]
        remove(plain, whole, whole.chosen({mine: 0.5}, 1), rows, Unobserved())
        ranked.clear()
        PrunedChannels().apply(twin, {names[node]: {"amount": 0.5}}, rows)
        assert len(ranked) <= sum(g.node is mine for g in whole.groups) < len(whole.groups)
        pairs = list(zip(plain.constants, twin.constants, strict=True))
        assert all(np.array_equal(data_of(a), data_of(b)) for a, b in pairs)
        assert work_of(twin.nodes).parameters < work_of(graph.nodes).parameters

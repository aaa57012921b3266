"""The minimum cut that layouts are chosen by: against brute force, in regions, in windows."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes._layout_cut import FIXED, Net, minimum_cut


def cost_of(nets: list[Net], labels: tuple[int, ...]) -> int:
    """What labels cost, from the definition."""
    ends = [[labels[v] if v >= 0 else FIXED.index(v) for v in net.members] for net in nets]
    return sum(net.weight for net, end in zip(nets, ends, strict=True) if len(set(end)) == 2)


@st.composite
def nets(draw: st.DrawFn) -> tuple[int, list[Net]]:
    count = draw(st.integers(1, 8))
    member = st.integers(-2, count - 1)
    net = st.builds(Net, st.integers(0, 9), st.lists(member, min_size=1, max_size=4).map(tuple))
    return count, draw(st.lists(net, max_size=14))


@settings(max_examples=400)
@given(problem=nets())
def test_the_cut_is_the_least_of_all_labellings(problem: tuple[int, list[Net]]) -> None:
    count, given_nets = problem
    cut = minimum_cut(count, given_nets)
    least = min(cost_of(given_nets, labels) for labels in product((0, 1), repeat=count))
    assert (cost_of(given_nets, tuple(cut.labels)), cut.cost, cut.bound) == (least, least, least)


@settings(max_examples=300)
@given(problem=nets(), limit=st.integers(1, 4))
def test_windows_never_claim_too_much(problem: tuple[int, list[Net]], limit: int) -> None:
    count, given_nets = problem
    cut = minimum_cut(count, given_nets, limit)
    least = min(cost_of(given_nets, labels) for labels in product((0, 1), repeat=count))
    assert cost_of(given_nets, tuple(cut.labels)) == cut.cost
    assert cut.bound <= least <= cut.cost


@pytest.mark.parametrize("label", [0, 1])
def test_a_large_region_is_cut_in_windows_at_its_weakest_places(label: int) -> None:
    chain = [Net(1 if i % 10 == 0 else 5, (i, i + 1)) for i in range(99)]
    ends = [Net(100, (FIXED[label], 0)), Net(100, (FIXED[1 - label], 99))]
    whole, parts = minimum_cut(100, [*chain, *ends]), minimum_cut(100, [*chain, *ends], 30)
    assert whole.cost == whole.bound == 1
    assert parts.cost == 1 and parts.bound == 0


def test_regions_that_nothing_ties_are_cut_exactly_however_many_they_are() -> None:
    """Each region takes its cheaper side; together they are far above the limit."""
    nets: list[Net] = []
    for i in range(0, 300, 3):
        weak = i % 5
        nets += [Net(7, (FIXED[0], i)), Net(weak, (i, i + 1, i + 2)), Net(7, (FIXED[1], i + 2))]
    cut = minimum_cut(300, nets, limit=3)
    assert cut.cost == cut.bound == sum(i % 5 for i in range(0, 300, 3))

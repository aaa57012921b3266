"""The choice among layers: what brute force finds at the same saving, and hulls that hold what they should."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passes._allocate import Frontier, Option, lower_hull, thinned
from passes._compression import Candidate, Work

AMOUNTS = st.integers(1, 40)
MENUS = st.lists(st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=4), min_size=1, max_size=4)


def options(menus: list[list[tuple[int, int]]]) -> list[Option]:
    return [
        Option(f"layer{i}", f"technique{j}", {"amount": j}, float(saved), float(noise))
        for i, menu in enumerate(menus)
        for j, (saved, noise) in enumerate(menu)
    ]


@given(MENUS)
@settings(max_examples=200, deadline=None)
def test_no_other_allocation_saves_as_much_with_less_noise(menus: list[list[tuple[int, int]]]) -> None:
    frontier = Frontier(options(menus))
    everything = [
        (sum(o[0] for o in pick), sum(o[1] for o in pick)) for pick in product(*[[(0, 0), *m] for m in menus])
    ]
    for count in range(len(frontier) + 1):
        chosen = frontier.choices(count).values()
        saved, noise = sum(o.saved for o in chosen), sum(o.noise for o in chosen)
        assert frontier.saved(count) == pytest.approx(saved)
        assert noise == min(n for s, n in everything if s >= saved)


@given(MENUS)
@settings(max_examples=50, deadline=None)
def test_the_last_allocation_saves_all_that_can_be_saved(menus: list[list[tuple[int, int]]]) -> None:
    frontier = Frontier(options(menus))
    assert frontier.saved(len(frontier)) == sum(max(saved for saved, _ in menu) for menu in menus)


@given(MENUS, st.integers(0, 170))
@settings(max_examples=50, deadline=None)
def test_least_is_the_first_that_saves_enough(menus: list[list[tuple[int, int]]], wanted: int) -> None:
    frontier = Frontier(options(menus))
    count = frontier.least(wanted)
    assert frontier.saved(count) >= wanted or count == len(frontier)
    assert count == 0 or frontier.saved(count - 1) < wanted


def test_each_layer_takes_one_technique() -> None:
    frontier = Frontier([Option("a", "one", {}, 2.0, 1.0), Option("a", "two", {}, 4.0, 3.0)])
    assert [frontier.choices(k) for k in range(3)] == [
        {},
        {"a": Option("a", "one", {}, 2.0, 1.0)},
        {"a": Option("a", "two", {}, 4.0, 3.0)},
    ]


def test_equal_slopes_do_not_depend_on_the_order() -> None:
    some = [Option("b", "t", {}, 1.0, 1.0), Option("a", "t", {}, 1.0, 1.0)]
    assert list(Frontier(some).choices(1)) == list(Frontier(some[::-1]).choices(1)) == ["a"]


def test_hull() -> None:
    assert lower_hull([(1.0, 1.0), (2.0, 1.5), (3.0, 5.0), (4.0, 6.0)]) == [1, 3]
    assert lower_hull([(-1.0, 0.0), (0.0, 0.0)]) == []


def test_thinned_keeps_both_ends() -> None:
    def candidate(saved: int) -> Candidate:
        return Candidate("a", "t", {"rank": saved}, Work(100, 0, 0.0), Work(100 - saved, 0, 0.0), saved**2 / 1e4)

    kept = thinned(map(candidate, range(-5, 90)), lambda work: work.parameters, 6)
    assert len(kept) == 6
    assert [kept[0].saved.parameters, kept[-1].saved.parameters] == [1, 89]

"""Which processor is chosen: the constants that were published, and the shortest path against all paths."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.apple import engine
from targets.apple.placement.costs import estimate
from targets.apple.placement.operation import Operation
from targets.apple.placement.predict import predict
from targets.apple.placement.segmenter import ORDER, UNITS, Path, segment
from targets.apple.placement.segments import pieces
from tests.targets.apple_operations import chain, conv, operation, tensor

M4 = engine.chip("M4")
EASY = {"ane": 0.0, "cpu": 0.0}


def chosen(*costs: dict[str, float]) -> str:
    """The first letters of the processors."""
    return "".join(u[0] for u in segment(costs).units)


@pytest.mark.parametrize(
    ("saved", "before", "behind", "expected"),
    [
        (0.249, False, False, "c"),
        (0.251, False, False, "a"),
        (0.249, False, True, "cc"),
        (0.251, False, True, "ac"),
        (0.374, True, True, "ccc"),
        (0.376, True, True, "cac"),
        (0.374, True, False, "cc"),
        (0.376, True, False, "ca"),
    ],
)
def test_what_a_segment_must_save(saved: float, before: bool, behind: bool, expected: str) -> None:
    """The whole graph and its head 0.25 ms, the middle 0.375 ms; so does the tail, by the formula."""
    elsewhere = {"cpu": 0.0}
    costs = [elsewhere] * before + [{"ane": 0.0, "cpu": saved}] + [elsewhere] * behind
    assert chosen(*costs) == expected


def test_one_operation_off_the_engine_pulls_a_small_graph_to_the_cpu() -> None:
    """Two convolutions on each side save 0.38 ms in all: enough for one segment, not for two."""
    whole = predict(chain("conv", "conv", "reduce_sum", "conv", "conv"), M4, "cpu-and-ne")
    assert {p.selected for p in whole.placed} == {"ane"}
    broken = predict(chain("conv", "conv", "cumsum", "conv", "conv"), M4, "cpu-and-ne")
    assert {p.selected for p in broken.placed} == {"cpu"}
    assert broken.macs_eligible == 1.0 and broken.macs_in_largest == 0.5 and broken.macs_selected == 0.0
    large = predict(chain(*["conv"] * 6, "cumsum", *["conv"] * 6), M4, "cpu-and-ne")
    assert [p.selected for p in large.placed] == ["ane"] * 6 + ["cpu"] + ["ane"] * 6


def test_four_convolutions_go_to_the_engine_and_one_does_not() -> None:
    """The published example."""
    assert [p.selected for p in predict(chain("conv"), M4, "cpu-and-ne").placed] == ["cpu"]
    assert [p.selected for p in predict(chain(*["conv"] * 4), M4, "cpu-and-ne").placed] == ["ane"] * 4


def _cost(costs: list[dict[str, float]], path: tuple[str, ...]) -> float:
    launch = {"ane": 0.125, "gpu": 0.25, "cpu": 0.0}
    total, previous = 0.0, None
    for here, unit in zip(costs, path, strict=True):
        if unit != previous:
            total += launch[unit] + (0.125 if previous else 0.0)
        total += here[unit]
        previous = unit
    return total + (0.125 if previous == "ane" else 0.0)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(ORDER), st.integers(0, 800).map(lambda n: n / 1000), min_size=1),
        min_size=1,
        max_size=6,
    )
)
def test_the_path_is_the_cheapest_of_all(costs: list[dict[str, float]]) -> None:
    found: Path = segment(costs)
    paths = {path: _cost(costs, path) for path in product(*costs)}
    best = min(paths.values())
    assert found.cost_ms == pytest.approx(best) and paths[found.units] == pytest.approx(best)
    for i, margin in enumerate(found.margins_ms):
        others = [c for path, c in paths.items() if path[i] != found.units[i]]
        assert margin == pytest.approx(min(others) - best if others else float("inf"), abs=1e-9)


def test_ties_are_counted() -> None:
    assert segment([{"ane": 0.0, "cpu": 0.25}]).ties == 1
    assert segment([{"ane": 0.0, "cpu": 0.3}]).ties == 0
    assert segment([]).units == ()


@pytest.mark.parametrize(
    ("op", "ane", "cpu"),
    [
        (conv((3, 3)), 4.67, 100.06),
        (conv((1, 1)), 1.17, 21.62),
        (operation("matmul", tensor("y", 128, 128), tensor("a", 128, 256), tensor("b", 256, 128)), 2.24, 11.12),
        (operation("linear", tensor("y", 128, 512), tensor("x", 128, 256),
                   weight=tensor("w", 512, 256, constant=True)), 3.17, 100.01),
        (operation("softmax", tensor("y", 1, 64, 32, 32), tensor("x", 1, 64, 32, 32)), 3.59, 4.31),
        (operation("relu", tensor("y", 1, 64, 32, 32), tensor("x", 1, 64, 32, 32)), 2.62, 2.62),
        (operation("concat", tensor("y", 1, 128, 32, 32), tensor("x", 1, 64, 32, 32)), 2.62, 22.79),
        (operation("upsample_bilinear", tensor("y", 1, 64, 64, 64), tensor("x", 1, 64, 32, 32)), 3.31, 499.64),
        (operation("transpose", tensor("y", 1, 64, 32, 32), tensor("x", 1, 64, 32, 32)), 3.81, 3.0),
    ],
    ids=lambda v: v.kind if hasattr(v, "kind") else "",
)  # fmt: skip
def test_published_estimates_are_reproduced(op: Operation, ane: float, cpu: float) -> None:
    found = estimate(op, "H16")
    assert found["ane"] == pytest.approx(ane, abs=0.006) and found["cpu"] == pytest.approx(cpu, abs=0.006)


def test_attention_is_bound_by_bytes() -> None:
    """The published 7.18 and 8.62 microseconds of 1x8x128x64."""
    heads: dict[str, Any] = {name: tensor(name, 1, 8, 128, 64) for name in ("query", "key", "value")}
    found = estimate(operation("scaled_dot_product_attention", tensor("y", 1, 8, 128, 64), **heads), "H16")
    assert found["ane"] == pytest.approx(7.18, abs=0.006) and found["cpu"] == pytest.approx(8.62, abs=0.006)


@pytest.mark.parametrize(("family", "us"), [("H13", 6.52), ("H15", 6.52), ("H16", 4.67), ("H17", 8.77), ("H18g", 4.67)])
def test_families_differ_in_convolutions(family: str, us: float) -> None:
    assert estimate(conv((3, 3)), family)["ane"] == pytest.approx(us, abs=0.006)


@pytest.mark.parametrize("units", UNITS)
def test_only_the_units_that_may_be_used_are(units: str) -> None:
    found = predict(chain(*["conv"] * 40, "cumsum"), M4, units)
    assert {p.selected for p in found.placed} <= set(UNITS[units])
    assert ("ane" in {p.selected for p in found.placed}) == (units != "cpu-and-gpu")


# -- the graph in pieces ------------------------------------------------------------------------------------


def test_segments_and_the_bytes_between_them() -> None:
    program = chain("relu", "cumsum", "relu", "relu")
    found = pieces(program, [True, False, True, True])
    assert [(s.on_engine, s.operations) for s in found.segments] == [(True, (0,)), (False, (1,)), (True, (2, 3))]
    assert found.crossing_bytes == 2 * 64 * 32 * 32 * 2
    assert pieces(program, [True] * 4).crossing_bytes == 0


def test_order_in_the_program_makes_no_segments() -> None:
    """Two independent ways, listed in turns, are two segments."""
    x = tensor("x", 8)
    ops = [
        operation("relu", tensor("a", 8), x, number=0),
        operation("cumsum", tensor("b", 8), x, number=1),
        operation("relu", tensor("c", 8), tensor("a", 8), number=2),
        operation("cumsum", tensor("d", 8), tensor("b", 8), number=3),
    ]
    program = chain("relu")._replace(operations=tuple(ops), outputs=(tensor("c", 8), tensor("d", 8)))
    found = pieces(program, [True, False, True, False])
    assert len(found.segments) == 2 and found.crossing_bytes == 0


def test_a_value_that_two_segments_read_is_handed_over_twice() -> None:
    ops = [
        operation("relu", tensor("a", 8), tensor("x", 8), number=0),
        operation("cumsum", tensor("b", 8), tensor("a", 8), number=1),
        operation("add", tensor("c", 8), tensor("a", 8), tensor("b", 8), number=2),
    ]
    program = chain("relu")._replace(operations=tuple(ops), outputs=(tensor("c", 8),))
    assert pieces(program, [True, False, True]).crossing_bytes == 3 * 16

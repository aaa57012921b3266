"""NarrowIntegers: i32 where it is proven, i64 where it is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ops import Add, ArgMax, Cast, Clip, Div, Equal, Gather, Mod, Mul, ReduceSum, SizeOf, Where
from compiler.tensor import F32, I64
from passes import MergeCasts, NarrowIntegers, RemoveDead
from tests.passes.composed import Net, Record, Term, run, stays

SIZE = 40


def cleaned(graph: Graph) -> dict[str, int]:
    """The layers that are left, with the element types of their results."""
    run(NarrowIntegers(), graph)
    for step in (MergeCasts(), RemoveDead()):
        step.run(graph, Record())
    counts: dict[str, int] = {}
    for node in graph.nodes:
        key = f"{node.op.name}:{node.output.type.dtype}"
        counts[key] = counts.get(key, 0) + 1
    return counts


def test_arithmetic_of_indices() -> None:
    net = Net(F32)
    x = net.input(5, SIZE)
    place = net(ArgMax(axis=1), x)
    shifted = net(Mod(), net(Add(), net(Mul(), place, np.array(3)), np.array(7)), np.array(SIZE))
    rows = net(Gather(axis=1), x, shifted)
    assert cleaned(net.returns(rows)) == {
        "argmax:i64": 1, "cast:i32": 1, "mul:i32": 1, "add:i32": 1, "mod:i32": 1, "gather:f32": 1,
    }  # fmt: skip


def test_counts_of_flags_are_outputs_in_64_bits() -> None:
    net = Net(I64)
    x = net.input(4, 6)
    count = net(ReduceSum(axes=(1,)), net(Cast(to="i64"), net(Equal(), x, x)))
    assert cleaned(net.returns(count)) == {"equal:bool": 1, "cast:i32": 1, "reduce_sum:i32": 1, "cast:i64": 1}


def test_a_quotient_is_worth_a_cast() -> None:
    net = Net(I64)
    bounded = net(Clip(low=-1000.0, high=1000.0), net.input(6))
    quotient = net(Div(), bounded, np.array(7))
    assert cleaned(net.returns(quotient)) == {"clip:i64": 1, "cast:i32": 1, "div:i32": 1, "cast:i64": 1}


STAYS: dict[str, Callable[[Net], Term]] = {
    "an input": lambda net: net(Add(), net.input(3), np.array(1)),
    "a bounded input that only one layer reads": lambda net: net(
        Add(), net(Clip(low=0.0, high=9.0), net.input(3)), np.array(1)
    ),
    "a product that leaves 32 bits": lambda net: net(
        Mul(), net(SizeOf(), net.input(1 << 10)), np.array(1 << 22)
    ),
    "a constant that leaves them": lambda net: net(
        Where(), net(Equal(), net.input(3), np.array(0)), np.array(1 << 40), np.array(0)
    ),
    "a float": lambda net: net(Add(), net(Cast(to="i64"), net.input(3, dtype=F32)), np.array(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_what_is_not_proven_or_not_worth_it_stays(name: str) -> None:
    net = Net(I64)
    stays(NarrowIntegers(), net.returns(STAYS[name](net)))


def test_numbers_at_the_ends_of_32_bits() -> None:
    net = Net(I64)
    ends = (1 << 31) - 1
    low = net(Clip(low=float(-ends - 1), high=float(ends)), net.input(4))
    graph = net.returns(net(Div(), low, np.array(3)))
    x = np.array([-ends - 1, ends, 1 << 40, -(1 << 40)])
    before = evaluate(graph, {"x0": x})
    assert "div:i32" in cleaned(graph)
    assert np.array_equal(evaluate(graph, {"x0": x})["y0"], before["y0"])

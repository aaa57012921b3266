"""Intervals of integer values: what is computed lies in them, and they are as narrow as they should be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.errors import ShapeError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.op import Op
from compiler.ranges import RULES, Interval, Ranges, of_type
from compiler.tensor import F32, I32, I64, U8, Array, DType, TensorType, dtype_of
from tests.one_op import layer_inputs, one_layer
from tests.strategies import seeds

SHAPE = (2, 3)
BINARY: tuple[Op, ...] = (
    ops.Add(), ops.Sub(), ops.Mul(), ops.Div(), ops.Mod(), ops.Mod(fmod=1), ops.Max(), ops.Min(), ops.BitwiseAnd(),
    ops.BitwiseOr(), ops.BitShift(direction="RIGHT"), ops.Concat(axis=0),
)  # fmt: skip
UNARY: tuple[Op, ...] = (
    ops.Neg(), ops.Abs(), ops.Sign(), ops.Clip(low=-3.0, high=40.0), ops.ReduceSum(axes=(1,)), ops.ReduceMax(axes=(0,)),
    ops.ReduceMean(axes=(0, 1)), ops.CumSum(axis=1, reverse=True), ops.CumSum(axis=0, exclusive=True),
    ops.ArgMax(axis=1), ops.Trilu(), ops.Cast(to="u8"), ops.Cast(to="i32"), ops.Cast(to="bool"),
    ops.Transpose(perm=(1, 0)), ops.SizeOf(),
    ops.Tile(repeats=(2, 1)), ops.Slice.of(TensorType(I64, SHAPE), [1], [0], [2]), ops.NonZero(dim="n"),
    ops.Pad(pads=(0, 1, 0, 0), value=-7),
)  # fmt: skip


def interval_of(a: Array) -> Interval:
    return Interval(int(a.min()), int(a.max()))


def assert_inside(graph: Graph, feeds: dict[str, Array]) -> int:
    """Every value that is computed lies in its interval; returns how many intervals say more than the element type."""
    values = [v for node in graph.nodes for v in node.outputs]
    ranges = Ranges(graph)
    graph.set_outputs(values, [f"y{i}" for i in range(len(values))])
    told = 0
    for v, array in zip(values, evaluate(graph, feeds).values(), strict=True):
        interval = ranges[v]
        if interval is None or not array.size:
            continue
        assert interval.holds(interval_of(array)), f"{v.node!r} gives {interval_of(array)}, outside {interval}"
        told += interval != of_type(v.type.dtype)
    return told


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_what_random_integer_graphs_compute_is_inside(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(seeds()))
    graph = Graph()
    size = data.draw(st.sampled_from([4, 100, 1 << 31, 1 << 62]))
    given_ = rng.integers(-size, size, SHAPE)
    values: list[Value] = [graph.add_input(TensorType(I64, SHAPE), "x")]
    values += graph.add(ops.Clip(low=-5.0, high=20.0), values[0])
    values.append(graph.const(rng.integers(-9, 10, SHAPE)))
    for _ in range(data.draw(st.integers(1, 8))):
        op = data.draw(st.sampled_from([*UNARY, *BINARY]))
        operands = [data.draw(st.sampled_from(values)) for _ in range(1 + (op in BINARY))]
        try:
            values += graph.add(op, *operands)
        except ShapeError:
            continue
    assert_inside(graph, {"x": given_})


@pytest.mark.parametrize("op", list(RULES), ids=lambda op: op.name)
def test_every_rule_on_random_layers(op: type[Op]) -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        graph = one_layer(op, rng)
        if graph is not None and all(dtype_of(c.data).kind in "fiub" for c in graph.constants if c.data is not None):
            assert_inside(graph, layer_inputs(rng, graph))


X = TensorType(I64, (4, 6))
CASES: dict[str, tuple[Callable[[Graph, Value], tuple[Value, ...]], Interval]] = {
    "argmax": (lambda g, x: g.add(ops.ArgMax(axis=1), x), Interval(0, 5)),
    "places of the best": (lambda g, x: g.add(ops.TopK(k=2, axis=0), x)[1:], Interval(0, 3)),
    "shape": (lambda g, x: g.add(ops.ShapeOf(), x), Interval(4, 6)),
    "size": (lambda g, x: g.add(ops.SizeOf(), x), Interval(24, 24)),
    "remainder": (lambda g, x: g.add(ops.Mod(), x, g.const(np.array(7))), Interval(0, 6)),
    "remainder by negatives": (lambda g, x: g.add(ops.Mod(), x, g.const(np.array(-7))), Interval(-6, 0)),
    "clip": (lambda g, x: g.add(ops.Clip(low=2.0, high=9.0), x), Interval(2, 9)),
    "flags": (lambda g, x: g.add(ops.Cast(to="i64"), *g.add(ops.Equal(), x, x)), Interval(0, 1)),
    "count": (
        lambda g, x: g.add(ops.ReduceSum(axes=(0, 1)), *g.add(ops.Cast(to="i64"), *g.add(ops.Equal(), x, x))),
        Interval(0, 24),
    ),
    "low bits": (lambda g, x: g.add(ops.BitwiseAnd(), x, g.const(np.array(15))), Interval(0, 15)),
    "a sum that may wrap": (lambda g, x: g.add(ops.Add(), x, g.const(np.array(1))), of_type(I64)),
    "a product": (
        lambda g, x: g.add(ops.Mul(), *g.add(ops.ArgMax(axis=1), x), g.const(np.array(-3))),
        Interval(-15, 0),
    ),
    "a quotient": (lambda g, x: g.add(ops.Div(), *g.add(ops.SizeOf(), x), g.const(np.array([2, 5]))), Interval(4, 12)),
    "a choice": (
        lambda g, x: g.add(ops.Where(), *g.add(ops.Equal(), x, x), g.const(np.array(5)), *g.add(ops.SizeOf(), x)),
        Interval(5, 24),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_intervals_are_tight(name: str) -> None:
    make, expected = CASES[name]
    graph = Graph()
    (y,) = make(graph, graph.add_input(X, "x"))
    graph.set_outputs([y], ["y"])
    assert Ranges(graph)[y] == expected


@pytest.mark.parametrize(("source", "to", "proven"), [(U8, "i64", True), (I64, "i32", False), (F32, "i64", False),
                                                      (I32, "u8", False)])  # fmt: skip
def test_casts(source: DType, to: str, proven: bool) -> None:
    """A float may be NaN, of which no integer comes that could be told."""
    graph = Graph()
    (y,) = graph.add(ops.Cast(to=to), graph.add_input(TensorType(source, (3,)), "x"))
    known = Ranges(graph)[y]
    assert known == (of_type(source) if proven else of_type(y.type.dtype))

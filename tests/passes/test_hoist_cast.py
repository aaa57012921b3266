"""HoistCast: floats are moved, not integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from compiler.op import Op
from compiler.ops.elementwise import Cast
from compiler.ops.parts import Slice
from compiler.ops.shape import Expand, Reshape, Transpose
from compiler.tensor import F64, I64
from passes.hoist_cast import HoistCast
from tests.passes.composed import Net, run, stays
from tests.passes.windowed import fires
from tests.strategies import seeds

MOVES: list[Op] = [
    Reshape(shape=(1, 6)),
    Transpose(perm=(1, 0)),
    Slice(starts=(0, 1), ends=(2, 3), steps=(1, 1)),
    Expand(shape=(4, 2, 3)),
]


@pytest.mark.parametrize("move", MOVES, ids=str)
def test_the_cast_comes_first(move: Op) -> None:
    net = Net()
    graph = net.returns(net(Cast(to="f32"), net(move, net.input(2, 3, dtype=I64))))
    after = fires(HoistCast(), graph, np.random.default_rng(0)).after
    assert [n.op.name for n in after.nodes] == ["cast", move.name]


def test_through_several_moves() -> None:
    net = Net()
    graph = net.returns(net(Cast(to="f32"), net(MOVES[1], net(MOVES[2], net.input(2, 3, dtype=I64)))))
    run(HoistCast(), graph)
    assert [n.op.name for n in graph.nodes] == ["cast", "slice", "transpose"]


def test_integers_that_others_read_and_floats_stay() -> None:
    net, wide = Net(), Net(F64)
    moved = net(MOVES[0], net.input(2, 3, dtype=I64))
    stays(HoistCast(), net.returns(net(Cast(to="f32"), moved), moved))
    stays(HoistCast(), wide.returns(wide(Cast(to="f32"), wide(MOVES[0], wide.input(2, 3)))))


@settings(max_examples=50)
@given(seed=seeds())
def test_chains_of_moves(seed: int) -> None:
    rng, net = np.random.default_rng(seed), Net()
    x = net.input(*(int(n) for n in rng.integers(1, 5, 3)), dtype=I64)
    for _ in range(int(rng.integers(1, 5))):
        dims = net.value(x).type.dims
        begins = [int(rng.integers(0, n)) for n in dims]
        moves: list[Op] = [
            Reshape(shape=tuple(int(n) for n in rng.permutation(dims))),
            Transpose(perm=tuple(int(i) for i in rng.permutation(3))),
            Slice(starts=tuple(begins), ends=dims, steps=(1, 1, 1)),
            Expand(shape=(2, *dims[1:]) if dims[0] == 1 else dims),
        ]
        x = net(moves[int(rng.integers(0, 4))], x)
    graph = net.returns(net(Cast(to="f32"), x))
    run(HoistCast(), graph)
    assert next(iter(graph.nodes)).op.name == "cast"

"""RemoveIdentity: layers that do nothing, and those that only look so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.ops.activation import Clip
from compiler.ops.elementwise import Cast, Identity, Max, Pow, Sum
from compiler.ops.parts import Concat, Pad, Slice, Split, Tile
from compiler.ops.pool import GlobalAveragePool
from compiler.ops.shape import Expand, Reshape, Transpose
from compiler.tensor import F16, F32, I32, DType
from passes.remove_identity import RemoveIdentity
from tests.passes.composed import Net, Term, becomes, run, stays

SHAPE = (2, 3, 1, 1)
IDLE: dict[str, Callable[[Term], Term]] = {
    "identity": lambda x: x.net(Identity(), x),
    "cast": lambda x: x.net(Cast(to=x.value.type.dtype.name), x),
    "reshape": lambda x: x.net(Reshape(shape=SHAPE), x),
    "transpose": lambda x: x.net(Transpose(perm=(0, 1, 2, 3)), x),
    "expand": lambda x: x.net(Expand(shape=SHAPE), x),
    "pad": lambda x: x.net(Pad(pads=(0,) * 8, mode="edge"), x),
    "slice": lambda x: x.net(Slice.of(x.value.type, [1], [0], [9]), x),
    "concat of one": lambda x: x.net(Concat(axis=1), x),
    "concat with nothing": lambda x: x.net(Concat(axis=1), np.zeros((2, 0, 1, 1)), x, np.zeros((2, 0, 1, 1))),
    "split": lambda x: x.net.many(Split(axis=1, sizes=(3,)), x)[0],
    "clip": lambda x: x.net(Clip(), x),
    "tile": lambda x: x.net(Tile(repeats=(1, 1, 1, 1)), x),
    "sum": lambda x: x.net(Sum(), x),
    "max": lambda x: x.net(Max(), x),
    "pool of a pixel": lambda x: x.net(GlobalAveragePool(), x),
    "plus zero": lambda x: x + 0,
    "zero plus": lambda x: 0 + x,
    "minus zeros": lambda x: x - np.zeros((3, 1, 1)),
    "times ones": lambda x: np.ones((1, 3, 1, 1)) * x,
    "over one": lambda x: x / 1,
    "to the one": lambda x: x**1,
}


@pytest.mark.parametrize("layer", IDLE.values(), ids=IDLE.keys())
@pytest.mark.parametrize("dtype", [F32, F16])
def test_idle(layer: Callable[[Term], Term], dtype: DType) -> None:
    net = Net(dtype)
    x = net.input(*SHAPE)
    graph = becomes(RemoveIdentity(), net.returns(layer(x), x * layer(x)), {"mul": 1})
    assert graph.outputs[0] is x.value


BUSY: dict[str, Callable[[Term], Term]] = {
    "cast": lambda x: x.net(Cast(to="f64"), x),
    "transpose of a square": lambda x: x.net(Transpose(perm=(1, 0)), x),
    "reversal": lambda x: x.net(Slice.of(x.value.type, [0], [-1], [-9], [-1]), x),
    "zero minus": lambda x: 0 - x,
    "one over": lambda x: 1 / x,
    "one to the": lambda x: x.net(Pow(), np.ones((3, 3)), x),
    "nearly one": lambda x: x * (1 + 2e-7),
    "broadcast": lambda x: x * np.ones((2, 1, 1)),
    "sum of two": lambda x: x.net(Sum(), x, x),
    "concat of two": lambda x: x.net(Concat(axis=0), x, x),
    "clip": lambda x: x.net(Clip(low=0.0), x),
}


@pytest.mark.parametrize("layer", BUSY.values(), ids=BUSY.keys())
def test_busy(layer: Callable[[Term], Term]) -> None:
    net = Net()
    stays(RemoveIdentity(), net.returns(layer(net.input(3, 3))))


def test_integers() -> None:
    net = Net(I32)
    x = net.input(3)
    y = x + np.array(0, np.int32)
    becomes(RemoveIdentity(), net.returns(y * np.ones(3, np.int32) - np.array([0, 0, 1], np.int32)), {"sub": 1})


def test_an_unbound_dimension() -> None:
    net = Net()
    x = net.input("n", 3)
    y = net(Reshape(shape=("n", 3)), net(Expand(shape=("n", 3)), x))
    becomes(RemoveIdentity(), net.returns(net(Slice.of(y.value.type, [1], [0], [3]), y)), {})


def test_an_output_that_is_an_input() -> None:
    net = Net()
    x = net.input(3)
    graph = net.returns(net(Identity(), net(Identity(), x)))
    assert run(RemoveIdentity(), graph).rules == ["idle", "idle"]
    assert graph.output_names == ["y0"]

"""FuseGroupNorm: reshape, normalise, reshape, and what follows per channel."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.norm import GroupNorm, InstanceNorm, LayerNorm
from compiler.ops.shape import Reshape
from compiler.tensor import F16, F32, DType
from passes.fuse_group_norm import FuseGroupNorm
from tests.passes.composed import Net, Term, becomes, stays

GAMMA, BETA = np.linspace(0.5, 2, 6), np.linspace(-1, 1, 6)


def reshape(x: Term, *shape: int | str) -> Term:
    return x.net(Reshape(shape=shape), x)


def grouped(x: Term, groups: int) -> Term:
    n, *rest = x.value.type.shape
    return reshape(x, n, groups, int(np.prod([d for d in rest if isinstance(d, int)])) // groups)


def back(y: Term, x: Term) -> Term:
    return reshape(y, *x.value.type.shape)


@pytest.mark.parametrize("shape", [(2, 6, 10), (2, 6, 4, 5), (1, 6, 2, 2, 5)])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("dtype", [F32, F16])
def test_instance_norm_inside(shape: tuple[int, ...], groups: int, dtype: DType) -> None:
    net = Net(dtype)
    x = net.input(*shape)
    y = back(net(InstanceNorm(eps=1e-3), grouped(x, groups), np.ones(groups), np.zeros(groups)), x)
    column = (6, *[1] * (len(shape) - 2))
    y = y * GAMMA.reshape(column) + BETA.reshape(1, *column)
    graph = becomes(FuseGroupNorm(), net.returns(y), {"group_norm": 1})
    assert [(n.op, n.inputs[0]) for n in graph.nodes] == [(GroupNorm(groups=groups, eps=1e-3), x.value)]


def test_scale_and_bias_per_group() -> None:
    net = Net()
    x = net.input(2, 6, 4, 5)
    y = back(net(InstanceNorm(), grouped(x, 3), np.array([1.0, 2, 3]), np.array([0.0, 1, -1])), x)
    becomes(FuseGroupNorm(), net.returns(y), {"group_norm": 1})


def test_layer_norm_inside() -> None:
    net = Net()
    x = net.input(2, 6, 4, 5)
    y = back(net(LayerNorm(axis=2), grouped(x, 2), np.ones(60)), x)
    becomes(FuseGroupNorm(), net.returns(y * GAMMA.reshape(6, 1, 1)), {"group_norm": 1})


def test_symbolic_batch() -> None:
    net = Net()
    x = net.input("n", 6, 4, 5)
    y = back(net(InstanceNorm(), grouped(x, 3), np.ones(3), np.zeros(3)), x)
    becomes(FuseGroupNorm(), net.returns(y), {"group_norm": 1})


def test_near_misses() -> None:
    net = Net()
    x = net.input(6, 6, 4, 6)
    unit, zero = np.ones(4), np.zeros(4)
    across_batch = net(InstanceNorm(), reshape(x, 4, 6, 36), np.ones(6), np.zeros(6))
    no_groups = net(InstanceNorm(), reshape(x, 6, 4, 36), unit, zero)
    elsewhere = net(InstanceNorm(), grouped(x, 2), np.ones(2), np.zeros(2))
    scaled = net(LayerNorm(axis=2), grouped(x, 2), np.full(72, 2.0))
    stays(
        FuseGroupNorm(),
        net.returns(back(across_batch, x), back(no_groups, x), reshape(elsewhere, 6, 6, 24), back(scaled, x)),
    )


def test_a_result_that_is_read_elsewhere_stays() -> None:
    net = Net()
    x = net.input(2, 6, 4, 5)
    y = net(InstanceNorm(), grouped(x, 2), np.ones(2), np.zeros(2))
    stays(FuseGroupNorm(), net.returns(back(y, x), y))

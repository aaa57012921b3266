"""FusePixelShuffle: both modes, the inverse, and other orders of the axes."""

from __future__ import annotations

from itertools import permutations

import pytest

from compiler.op import Op
from compiler.ops.shape import DepthToSpace, Reshape, SpaceToDepth, Transpose
from compiler.tensor import F32, I32, DType
from passes.fuse_pixel_shuffle import FusePixelShuffle
from tests.passes.composed import Net, Term, becomes, run, stays

Shape = tuple[int, ...]


def moved(x: Term, split: Shape, perm: Shape, merged: Shape) -> Term:
    net = x.net
    return net(Reshape(shape=merged), net(Transpose(perm=perm), net(Reshape(shape=split), x)))


FORMS: dict[str, tuple[Shape, Shape, Shape, Shape, Op]] = {
    "CRD": (
        (2, 12, 3, 5),
        (2, 3, 2, 2, 3, 5),
        (0, 1, 4, 2, 5, 3),
        (2, 3, 6, 10),
        DepthToSpace(blocksize=2, mode="CRD"),
    ),
    "DCR": ((2, 12, 3, 5), (2, 2, 2, 3, 3, 5), (0, 3, 4, 1, 5, 2), (2, 3, 6, 10), DepthToSpace(blocksize=2)),
    "block of 3": (
        (1, 9, 4, 4),
        (1, 1, 3, 3, 4, 4),
        (0, 1, 4, 2, 5, 3),
        (1, 1, 12, 12),
        DepthToSpace(blocksize=3, mode="CRD"),
    ),
    "gather": ((2, 3, 6, 4), (2, 3, 3, 2, 2, 2), (0, 3, 5, 1, 2, 4), (2, 12, 3, 2), SpaceToDepth(blocksize=2)),
    "unshuffle of one channel": (
        (2, 1, 6, 4),
        (2, 1, 3, 2, 2, 2),
        (0, 1, 3, 5, 2, 4),
        (2, 4, 3, 2),
        SpaceToDepth(blocksize=2),
    ),
}


@pytest.mark.parametrize(("shape", "split", "perm", "merged", "op"), FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("dtype", [F32, I32])
def test_forms(shape: Shape, split: Shape, perm: Shape, merged: Shape, op: Op, dtype: DType) -> None:
    net = Net(dtype)
    graph = becomes(FusePixelShuffle(), net.returns(moved(net.input(*shape), split, perm, merged)), {op.name: 1})
    assert [n.op for n in graph.nodes] == [op]


def test_every_other_order_stays_or_is_equal() -> None:
    """All 120 orders that keep the batch; `run` compares the numbers."""
    fired = []
    for rest in permutations(range(1, 6)):
        net = Net()
        x = net.input(2, 8, 2, 2)
        graph = net.returns(moved(x, (2, 2, 2, 2, 2, 2), (0, *rest), (2, 2, 4, 4)))
        if run(FusePixelShuffle(), graph).rules:
            fired.append((0, *rest))
    assert fired == [(0, 1, 4, 2, 5, 3), (0, 3, 4, 1, 5, 2)]


def test_near_misses() -> None:
    net = Net()
    x, y = net.input(2, 12, 3, 5), net.input(2, 3, 6, 4)
    stays(
        FusePixelShuffle(),
        net.returns(
            moved(x, (2, 2, 2, 3, 3, 5), (0, 1, 4, 2, 5, 3), (2, 2, 6, 15)),
            moved(x, (2, 3, 2, 2, 3, 5), (0, 1, 4, 2, 5, 3), (2, 3, 10, 6)),
            moved(x, (2, 3, 4, 1, 3, 5), (0, 1, 4, 2, 5, 3), (2, 3, 12, 5)),
            moved(y, (2, 3, 3, 2, 2, 2), (0, 1, 3, 5, 2, 4), (2, 12, 3, 2)),
        ),
    )


def test_empty_images() -> None:
    net = Net()
    y = moved(net.input(2, 12, 0, 5), (2, 3, 2, 2, 0, 5), (0, 1, 4, 2, 5, 3), (2, 3, 0, 10))
    becomes(FusePixelShuffle(), net.returns(y), {"depth_to_space": 1})
    net = Net()
    stays(
        FusePixelShuffle(),
        net.returns(moved(net.input(2, 0, 3, 5), (2, 0, 0, 0, 3, 5), (0, 1, 4, 2, 5, 3), (2, 0, 3, 5))),
    )


def test_a_middle_that_is_read_elsewhere_stays() -> None:
    net = Net()
    x = net.input(1, 4, 3, 5)
    middle = net(Transpose(perm=(0, 1, 4, 2, 5, 3)), net(Reshape(shape=(1, 1, 2, 2, 3, 5)), x))
    stays(FusePixelShuffle(), net.returns(net(Reshape(shape=(1, 1, 6, 10)), middle), middle))

"""Convolutions and pools with random windows, for the tests of passes that put other windows in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compiler.graph import Graph
from compiler.ops.conv import Conv
from compiler.ops.pool import Pool
from tests.harness import Checked, check
from tests.passes.composed import Net

if TYPE_CHECKING:
    from numpy.random import Generator

    from compiler.pass_base import Pass

Range = tuple[int, int]


def drawn(rng: Generator, *ranges: Range) -> tuple[int, ...]:
    """One number of each range, both ends included."""
    return tuple(int(rng.integers(low, high + 1)) for low, high in ranges)


def convolution(
    rng: Generator, kernel: tuple[Range, ...], strides: tuple[Range, ...], dilations: tuple[Range, ...]
) -> Graph:
    """A convolution of an image in which its kernel fits, with random pads, groups and bias."""
    k, s, d = drawn(rng, *kernel), drawn(rng, *strides), drawn(rng, *dilations)
    groups = int(rng.integers(1, 3))
    pads = drawn(rng, *[(0, v - 1) for v in (*k, *k)])
    spatial = [(a - 1) * b + 1 + int(rng.integers(0, 2 * c + 3)) for a, b, c in zip(k, d, s, strict=True)]
    net = Net()
    x = net.input(int(rng.integers(1, 3)), 2 * groups, *spatial)
    w = rng.normal(size=(3 * groups, 2, *k))
    op = Conv(strides=s, pads=pads, dilations=d, groups=groups)
    return net.returns(net(op, x, w, *([rng.normal(size=3 * groups)] if rng.random() < 0.5 else [])))


def pooling(rng: Generator, kind: type[Pool], kernel: tuple[Range, ...], strides: tuple[Range, ...]) -> Graph:
    """A pool of an image in which its window fits, with random pads, in either way of rounding."""
    k, s = drawn(rng, *kernel), drawn(rng, *strides)
    pads = drawn(rng, *[(0, (v - 1) // 2) for v in (*k, *k)])
    spatial = [a + int(rng.integers(0, 3 * b + 3)) for a, b in zip(k, s, strict=True)]
    net = Net()
    op = kind(kernel=k, strides=s, pads=pads, dilations=(1,) * len(k), ceil_mode=bool(rng.random() < 0.5))
    return net.returns(net(op, net.input(1, 2, *spatial)))


def fires(p: Pass, graph: Graph, rng: Generator) -> Checked:
    """The pass keeps its promises on a graph, and changes it."""
    checked = check(p, graph, rng, nan=False)
    assert checked.fired
    return checked


def kernels(graph: Graph) -> list[tuple[int, ...]]:
    """The windows of all convolutions."""
    found = [n.inputs[1] for n in graph.of(Conv)]
    return [v.type.dims[2:] for v in found if v is not None]

"""Flattened images before products with constant matrices are read as they lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from compiler import ops
from compiler.graph import Graph, Value
from compiler.tensor import F32, TensorType
from tests.targets.neon_layers import TOOLS, check_graph

if TYPE_CHECKING:
    from targets.neon.build import Toolchain

RNG = np.random.default_rng(2)
CHANNELS, SIDE = 6, 5
FLAT = CHANNELS * SIDE * SIDE


def image(g: Graph, n: int) -> Value:
    """Channels last, from a convolution of an image that the graph takes so."""
    x = g.add_input(TensorType(F32, (n, SIDE, SIDE, 3)), "x")
    (x,) = g.add(ops.Transpose(perm=(0, 3, 1, 2)), x)
    w = g.const(RNG.standard_normal((CHANNELS, 3, 3, 3)).astype(np.float32))
    return g.add(ops.Conv(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1)), x, w)[0]


def matrix(g: Graph, *shape: int) -> Value:
    return g.const(RNG.standard_normal(shape).astype(np.float32))


def dense(g: Graph, n: int) -> list[Value]:
    (x,) = g.add(ops.Reshape(shape=(n, FLAT)), image(g, n))
    return [g.add(ops.Dense(), x, matrix(g, FLAT, 7), matrix(g, 7))[0]]


def dense_transposed(g: Graph, n: int) -> list[Value]:
    (x,) = g.add(ops.Reshape(shape=(n, FLAT)), image(g, n))
    return [g.add(ops.Dense(transposed=True), x, matrix(g, 9, FLAT))[0]]


def two_products(g: Graph, n: int) -> list[Value]:
    (x,) = g.add(ops.Reshape(shape=(n, FLAT)), image(g, n))
    return [g.add(ops.MatMul(), x, matrix(g, FLAT, 4))[0], g.add(ops.Dense(), x, matrix(g, FLAT, 7))[0]]


def read_by_another(g: Graph, n: int) -> list[Value]:
    (x,) = g.add(ops.Reshape(shape=(n, FLAT)), image(g, n))
    return [g.add(ops.Dense(), x, matrix(g, FLAT, 7))[0], g.add(ops.CumSum(axis=1), x)[0]]


def second_operand(g: Graph, n: int) -> list[Value]:
    (x,) = g.add(ops.Reshape(shape=(n, FLAT)), image(g, n))
    return [g.add(ops.MatMul(), matrix(g, 3, n), x)[0]]


def image_is_an_output(g: Graph, n: int) -> list[Value]:
    y = image(g, n)
    (x,) = g.add(ops.Reshape(shape=(n, FLAT)), y)
    return [y, g.add(ops.Dense(), x, matrix(g, FLAT, 7))[0]]


@pytest.mark.parametrize("tools", TOOLS[:1], ids=lambda t: t.label)
@pytest.mark.parametrize(
    ("build", "n", "moves"),
    [
        (dense, 3, False),
        (dense_transposed, 3, False),
        (two_products, 1, False),
        (read_by_another, 2, True),
        (second_operand, 2, True),
        (image_is_an_output, 2, True),
    ],
)
def test_images(
    tools: Toolchain, build: Callable[[Graph, int], list[Value]], n: int, moves: bool, tmp_path: Path
) -> None:
    g = Graph("flattened")
    results = build(g, n)
    g.set_outputs(results, [f"y{i}" for i in range(len(results))])
    check_graph(g, tools, tmp_path)
    assert ("transpose" in (tmp_path / "library" / "model.c").read_text()) == moves

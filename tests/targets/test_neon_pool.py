"""Pools on vectors of channels as generated C, against the operations themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.expression import Apply, Expression, Operand
from codegen.neon.tailed import RELU
from compiler import ops
from compiler.errors import CompileError
from compiler.ops.window import Ints
from compiler.tensor import F32, Array, TensorType
from targets.neon.build import Toolchain
from targets.source.lower.pool import chosen
from tests.targets.neon_kernels import Case, run_cases, toolchains
from tests.targets.neon_layers import TOOLS, check_graph, graph_of
from tests.targets.neon_layers import check as check_library

RESIDUAL = Apply("max", (Apply("add", (Operand(0), Operand(1))), RELU.arguments[1]))  # type: ignore[union-attr]  # it is applied
Kind = TypeVar("Kind", bound=ops.Pool)
Layer = tuple[ops.Pool, Ints, Expression]


def window(
    kind: type[Kind],
    kernel: Ints,
    strides: Ints = (1, 1),
    pads: Ints = (0, 0, 0, 0),
    dilations: Ints = (1, 1),
    **more: Any,  # Any: numbers and flags
) -> Kind:
    """A pool; `more` are its other fields."""
    return kind(kernel=kernel, strides=strides, pads=pads, dilations=dilations, **more)


def case(layer: Layer, seed: int) -> tuple[Case, Array]:
    """With x [N,C,H,W]."""
    op, shape, tail = layer
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(np.float32)
    y = np.asarray(op.evaluate(x))
    r = rng.standard_normal(y.shape).astype(np.float32)
    want = {RELU: np.maximum(y, 0), RESIDUAL: np.maximum(y + r, 0)}.get(tail, y)
    kernel, numbers = chosen(op, shape, y.shape, tail)
    x, want, r = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, want, r))
    arguments: list[Array | int] = [x, *[r] * kernel.has_other, np.zeros_like(r), *numbers]
    return Case(kernel, arguments, [1 + kernel.has_other]), want


def check(layers: Sequence[Layer], tools: Toolchain) -> None:
    cases = [case(layer, i) for i, layer in enumerate(layers)]
    if not cases:
        return
    for (made, want), (got,) in zip(cases, run_cases([c for c, _ in cases], tools), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5, err_msg=made.kernel.name)


LAYERS: list[Layer] = [
    (window(ops.MaxPool, (2, 2), (2, 2)), (1, 16, 8, 8), Operand(0)),
    (window(ops.MaxPool, (3, 3), (2, 2), (1, 1, 1, 1)), (2, 21, 9, 8), RELU),
    (window(ops.MaxPool, (2, 3), (1, 2), (1, 0, 0, 1), (2, 1), ceil_mode=True), (1, 5, 7, 6), Operand(0)),
    (window(ops.AveragePool, (3, 3), (1, 1), (1, 1, 1, 1)), (1, 20, 5, 6), RESIDUAL),
    (window(ops.AveragePool, (3, 3), (2, 2), (1, 1, 1, 1), count_include_pad=True), (1, 17, 6, 5), Operand(0)),
    (window(ops.AveragePool, (4, 4), (3, 3), ceil_mode=True, count_include_pad=True), (1, 4, 6, 8), Operand(0)),
    (window(ops.AveragePool, (7, 7)), (1, 24, 7, 7), Operand(0)),
    (window(ops.LpPool, (2, 2), (2, 2), p=2), (1, 18, 6, 6), Operand(0)),
    (window(ops.LpPool, (3, 1), (2, 1), p=1), (1, 3, 6, 6), RELU),
]


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
def test_layers(tools: Toolchain) -> None:
    check(LAYERS, tools)


KINDS: list[Callable[[bool], tuple[type[ops.Pool], dict[str, Any]]]] = [  # Any: numbers and flags
    lambda flag: (ops.MaxPool, {"ceil_mode": flag}),
    lambda flag: (ops.AveragePool, {"count_include_pad": flag}),
    lambda flag: (ops.LpPool, {"p": 1 + flag}),
]


def pool(kind: int, shape: Ints, sizes: Sequence[Ints], pads: Ints, flag: bool, tail: Expression) -> Layer | None:
    """A layer that is legal; None if these numbers make none."""
    cls, more = KINDS[kind](flag)
    op = window(cls, sizes[0], sizes[1], pads, sizes[2], **more)
    try:
        op.infer(TensorType(F32, shape))
    except CompileError:
        return None
    return op, shape, tail


small = st.tuples(st.integers(1, 3), st.integers(1, 3))
LAYER = st.builds(
    pool,
    kind=st.integers(0, 2),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 37), st.integers(1, 9), st.integers(1, 9)),
    sizes=st.tuples(small, small, small),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    flag=st.booleans(),
    tail=st.sampled_from([Operand(0), RELU, RESIDUAL]),
)


@pytest.mark.parametrize("tools", toolchains()[:1], ids=lambda t: t.compiler[0])
@settings(max_examples=5, deadline=None)
@given(layers=st.lists(LAYER, min_size=10, max_size=10))
def test_any_layer(tools: Toolchain, layers: list[Layer | None]) -> None:
    check([layer for layer in layers if layer], tools)


@pytest.mark.parametrize("threads", [1, 2])
def test_libraries(threads: int, tmp_path: Path) -> None:
    layers = [
        *((op, shape, ()) for op, shape, _ in LAYERS[:5]),
        (window(ops.MaxPool, (2, 2), (1, 1), (1, 1, 0, 0)), (1, 5, 1, 1), ()),
        (window(ops.AveragePool, (3,), (2,), (1, 1), (1,)), (1, 5, 9), ()),
        (window(ops.LpPool, (2, 2, 1), (1, 1, 1), (0,) * 6, (1, 1, 1), p=3), (1, 3, 4, 4, 2), ()),
        (ops.GlobalAveragePool(), (2, 19, 5, 3), ()),
        (ops.GlobalMaxPool(), (1, 7, 4), ()),
        (ops.GlobalLpPool(p=2), (1, 4, 2, 3), ()),
        (ops.DepthToSpace(blocksize=2), (1, 8, 3, 2), ()),
    ]
    assert {"pool", "plain"} <= check_library(layers, TOOLS[0], tmp_path, threads)


def test_global_pools_behind_images_are_windows(tmp_path: Path) -> None:
    layers = [(window(ops.MaxPool, (2, 2)), (1, 8, 5, 5), ())]
    graph = graph_of(layers)
    (y,) = graph.add(ops.GlobalAveragePool(), graph.outputs[0], origin=frozenset(("mean",)))
    graph.set_outputs([y], ["y"])
    assert "plain" not in check_graph(graph, TOOLS[0], tmp_path)

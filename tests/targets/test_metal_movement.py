"""Layers that move elements as Metal sources, run with every check: nothing is computed, so all is exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.metal.adapted import adapted
from codegen.metal.copies import PITCH, SIDE
from codegen.neon.transpose import Transposing
from compiler import ops
from compiler.tensor import BF16, BOOL, DTYPES, F16, F32, I8, I32, I64, U8, DType, TensorType
from tests.targets.metal_layers import Layer, agree, beside, layer, run

DTYPES_OF_ALL_WIDTHS = (U8, F16, F32, I64)
WILD = (-7, -3, -1, 0, 1, 2, 9, 2**40, -(2**40))  # indices of three elements: many lead nowhere


def transposes(dtype: DType) -> list[Layer]:
    shapes = [(9, 8), (31, 33), (3, 53), (53, 3), (2, 40), (40, 4), (1, 9), (65, 70)]
    plain = [layer(ops.Transpose(perm=(1, 0)), TensorType(dtype, shape)) for shape in shapes]
    more = [((2, 3, 32, 9), (0, 2, 3, 1)), ((2, 35, 40), (0, 2, 1)), ((3, 4, 5), (2, 1, 0)), ((20, 30, 5), (1, 0, 2))]
    return plain + [layer(ops.Transpose(perm=perm), TensorType(dtype, shape)) for shape, perm in more]


@pytest.mark.parametrize("dtype", DTYPES_OF_ALL_WIDTHS, ids=str)
def test_axes_in_any_order(dtype: DType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("targets.metal.emit.fuse", lambda _: None)  # each of them alone
    kernels = set(agree(transposes(dtype)).kernels)
    bits = dtype.bits
    if bits < 64:
        assert {f"transpose_{bits}bit", f"transpose_{bits}bit_1d", f"join_3_channels_{bits}bit"} <= kernels
        assert {f"split_3_channels_{bits}bit", f"copy_{bits}bit_3d_rows"} <= kernels
    assert f"copy_{bits}bit_3d" in kernels


def test_tiles_are_read_without_bank_conflicts() -> None:
    """The lanes of a simdgroup touch 32 different banks of 4 bytes, along rows of a tile and along columns."""
    (tile,) = adapted(Transposing(size=4)).tiles
    assert tile.length == SIDE * PITCH
    for step in (1, PITCH):
        assert len({lane * step % 32 for lane in range(32)}) == 32


def moves(dtype: DType) -> list[Layer]:
    x = TensorType(dtype, (3, 4, 5))
    reads = np.array([[0, -1, 2], [1, 1, -3]])
    at = np.array([[[0, 2, 1, 3, 0]], [[3, 0, 0, 1, 2]], [[-1, 1, 2, -4, 0]]])
    return [
        layer(ops.Slice(starts=(2, 0, 4), ends=(-1, 4, -1), steps=(-1, 2, -2)), x),
        layer(ops.Split(axis=1, sizes=(1, 3)), x),
        layer(ops.Concat(axis=2), x, TensorType(dtype, (3, 4, 2)), x),
        layer(ops.Expand(shape=(2, 3, 4, 5)), TensorType(dtype, (3, 1, 5))),
        layer(ops.Tile(repeats=(2, 1, 3)), x),
        layer(ops.Pad(pads=(1, 0, 2, 0, 1, 3)), x),
        *(layer(ops.Pad(pads=(1, 0, 2, 0, 2, 3), mode=mode), x) for mode in ("reflect", "edge", "wrap")),
        layer(ops.Pad(pads=(7, 0, 0, 8, 0, 0), mode="wrap"), x),
        layer(ops.Gather(axis=0), x, reads),
        layer(ops.Gather(axis=2), x, reads.astype(np.int32)),
        layer(ops.GatherElements(axis=1), x, at),
        layer(ops.GatherND(batch_dims=1), x, np.array([[[0, 1], [3, -1]], [[1, 1], [2, 0]], [[0, 0], [-4, 4]]])),
        layer(ops.GatherND(), x, np.array([[2], [0], [-1]])),
        layer(ops.ReverseSequence(batch_axis=0, time_axis=1), x, np.array([4, 1, 0])),
        layer(ops.DepthToSpace(blocksize=2), TensorType(dtype, (1, 8, 3, 2))),
        layer(ops.SpaceToDepth(blocksize=2), TensorType(dtype, (1, 3, 4, 6))),
    ]


@pytest.mark.parametrize("dtype", [*DTYPES_OF_ALL_WIDTHS, BOOL], ids=str)
def test_elements_are_moved(dtype: DType) -> None:
    agree(moves(dtype))


REDUCTIONS = ("none", "add", "mul", "max", "min")


@pytest.mark.parametrize("dtype", [F32, F16, BF16, I8, I32, I64, U8, BOOL, DTYPES["u64"]], ids=str)
def test_elements_are_scattered(dtype: DType) -> None:
    """Several go to one place, in their order."""
    x = TensorType(dtype, (3, 4, 5))
    at = np.array([[[0, 2, 1, 3, 0], [0, 2, -1, 3, 0]], [[3, 0, 0, 1, 2], [3, 1, 0, 1, 2]]])
    rows = np.array([[[2, 0], [0, 1]], [[2, 0], [-1, -4]]])
    made = []
    for reduction in REDUCTIONS:
        updates = TensorType(dtype, at.shape)
        made.append(layer(ops.ScatterElements(axis=1, reduction=reduction), x, at, updates))
        made.append(layer(ops.ScatterElements(axis=2, reduction=reduction), x, at, updates))
        made.append(layer(ops.ScatterND(reduction=reduction), x, rows, TensorType(dtype, (2, 2, 5))))
    agree(made, rtol=1e-6)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32), reduction=st.sampled_from(REDUCTIONS))
def test_no_index_leads_outside(seed: int, reduction: str) -> None:
    """Whatever the indices are: the executor stops at an access elsewhere. What is in range is read as it should be,
    what is not as at the nearest border."""
    rng = np.random.default_rng(seed)
    wild, row = TensorType(I64, (2, 3, 3)), TensorType(I64, (3,))
    x = TensorType(F32, (2, 3, 3))
    scatter = layer(ops.ScatterElements(axis=2, reduction=reduction), x, wild, x)
    graph = beside([layer(ops.GatherElements(axis=2), x, wild), layer(ops.Gather(axis=1), x, row), scatter])
    feeds = {v.name: rng.random(v.type.dims).astype(np.float32) for v in graph.inputs}
    near = dict(feeds)
    for v in graph.inputs:
        if v.type.dtype is I64:
            feeds[v.name] = rng.choice(WILD, v.type.dims)
            near[v.name] = np.clip(np.where(feeds[v.name] < 0, feeds[v.name] + 3, feeds[v.name]), 0, 2)
    made = run(graph, feeds, like=near)
    for name, wanted in made.wanted.items():
        np.testing.assert_allclose(made.got[name], wanted, rtol=1e-6)

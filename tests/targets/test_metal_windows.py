"""Pools, resampling and what else is computed one result a thread as Metal sources, run with every check."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from codegen.metal.adapted import adapted
from codegen.neon.plain_attention import PlainAttention
from compiler import ops
from compiler.graph import Graph
from compiler.ops.window import Ints
from compiler.tensor import BF16, F16, F32, I8, U8, Array, DType, TensorType
from tests.strategies import random_array
from tests.targets.metal_graphs import run_kernel
from tests.targets.metal_layers import Layer, agree, beside, expect_same, layer, run


def pool(kind: type[ops.Pool], shape: Ints, kernel: Ints, **more: Any) -> Layer:  # Any: numbers and flags
    """Of floats; `more` are its other fields."""
    n = len(kernel)
    fields = {"strides": (1,) * n, "pads": (0,) * 2 * n, "dilations": (1,) * n, **more}
    return layer(kind(kernel=kernel, **fields), TensorType(F32, shape))


POOLS = [
    pool(ops.MaxPool, (1, 16, 8, 8), (2, 2), strides=(2, 2)),
    pool(ops.MaxPool, (2, 21, 9, 8), (3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
    pool(ops.MaxPool, (1, 5, 7, 6), (2, 3), strides=(1, 2), pads=(1, 0, 0, 1), dilations=(2, 1), ceil_mode=True),
    pool(ops.AveragePool, (1, 20, 5, 6), (3, 3), pads=(1, 1, 1, 1)),
    pool(ops.AveragePool, (1, 17, 6, 5), (3, 3), strides=(2, 2), pads=(1, 1, 1, 1), count_include_pad=True),
    pool(ops.AveragePool, (1, 4, 6, 8), (4, 4), strides=(3, 3), ceil_mode=True, count_include_pad=True),
    pool(ops.AveragePool, (1, 5, 9), (3,), strides=(2,), pads=(1, 1)),
    pool(ops.LpPool, (1, 18, 6, 6), (2, 2), strides=(2, 2), p=2),
    pool(ops.LpPool, (1, 3, 6, 6), (3, 1), strides=(2, 1), p=1),
    pool(ops.LpPool, (1, 3, 4, 4, 2), (2, 2, 1), p=3),
    layer(ops.GlobalAveragePool(), TensorType(F32, (2, 19, 5, 3))),
    layer(ops.GlobalMaxPool(), TensorType(F32, (1, 7, 4))),
    layer(ops.GlobalLpPool(p=2), TensorType(F32, (1, 4, 2, 3, 2))),
]


def images(dtype: DType) -> Graph:
    """The pools, behind a layer that makes images lie channels-last, and with a Relu behind every other one."""
    graph = Graph("pools")
    results = []
    for i, (op, (x, *_)) in enumerate(POOLS):
        assert isinstance(x, TensorType)
        given = graph.add_input(x._replace(dtype=dtype), f"x{i}")
        n, c, *size = x.dims
        last = graph.add(ops.Reshape(shape=(n, *size, c)), given)[0]
        (y,) = graph.add(op, graph.add(ops.Transpose(perm=(0, len(size) + 1, *range(1, len(size) + 1))), last)[0])
        results.append(graph.add(ops.Relu(), y)[0] if i % 2 else y)
    graph.set_outputs(results, [f"y{i}" for i in range(len(results))])
    return graph


@pytest.mark.parametrize("dtype", [F32, F16], ids=str)
def test_pools_of_images(dtype: DType) -> None:
    graph = images(dtype)
    rng = np.random.default_rng(0)
    made = expect_same(graph, {v.name: random_array(rng, v.type) for v in graph.inputs}, rtol=1e-5, atol=1e-6)
    windows = [k for k in made.kernels if "_pool" in k and "plain" not in k]
    assert len(windows) >= 6 and any("relu" in k for k in windows), made.kernels


@pytest.mark.parametrize("dtype", [F32, F16, I8, U8], ids=str)
def test_pools_with_places_and_of_other_types(dtype: DType) -> None:
    rest: dict[str, Any] = {"strides": (2, 1), "pads": (1, 0, 1, 1), "dilations": (1, 2)}
    x = TensorType(dtype, (2, 3, 7, 6))
    layers = [
        layer(ops.MaxPool(kernel=(3, 2), indices=i, storage_order=o, **rest), x)
        for i, o in ((True, 0), (True, 1), (False, 0))
    ]
    agree(layers)


def resize(x: TensorType, sizes: Ints, mode: str, coordinates: str = "half_pixel", **more: Any) -> Layer:  # Any: fields
    """A layer; `more` are its other fields."""
    scales = tuple(b / a for a, b in zip(x.dims, sizes, strict=True))
    return layer(ops.Resize(sizes=sizes, scales=scales, mode=mode, coordinates=coordinates, **more), x)


def test_resampling() -> None:
    x, line, cube = (TensorType(F32, shape) for shape in ((1, 3, 5, 6), (2, 3, 7), (1, 2, 3, 4, 5)))
    outside = {"extrapolation_value": 7.0, "roi": (0.0, 0.0, -0.2, 0.1, 1.0, 1.0, 1.3, 0.8)}
    layers = [
        resize(x, (1, 3, 10, 9), "linear"),
        resize(x, (1, 3, 3, 11), "cubic", "align_corners"),
        resize(x, (1, 3, 2, 2), "cubic", antialias=True),
        resize(x, (1, 3, 9, 7), "nearest", "asymmetric", nearest_mode="floor"),
        resize(x, (1, 3, 9, 7), "linear", "tf_crop_and_resize", **outside),
        resize(x, (1, 5, 5, 6), "linear"),
        resize(line, (2, 3, 12), "linear"),
        resize(cube, (1, 2, 5, 3, 8), "linear"),
    ]
    agree(layers, rtol=1e-5, atol=1e-6)


def test_images_are_resampled_as_they_lie() -> None:
    graph = Graph("images")
    results = []
    for i, (dtype, mode) in enumerate(
        [(F32, "linear"), (F16, "linear"), (F32, "cubic"), (F16, "nearest"), (U8, "nearest")]
    ):
        x = graph.add_input(TensorType(dtype, (2, 5, 6, 9)), f"x{i}")
        op = ops.Resize(sizes=(2, 9, 9, 11), scales=(1, 1, 1.5, 11 / 6), mode=mode)
        (y,) = graph.add(op, graph.add(ops.Transpose(perm=(0, 3, 1, 2)), x)[0])
        results.append(graph.add(ops.Transpose(perm=(0, 2, 3, 1)), y)[0])
    graph.set_outputs(results, [f"y{i}" for i in range(len(results))])
    rng = np.random.default_rng(0)
    feeds = {v.name: random_array(rng, v.type) for v in graph.inputs}
    made = expect_same(graph, feeds, rtol=1e-5, atol=1e-6)
    kernels = {
        "resize_mixed_2x2",
        "resize_mixed_2x2_half",
        "resize_mixed_4x4",
        "resize_nearest_16bit",
        "resize_nearest_8bit",
    }
    assert kernels <= set(made.kernels)


def test_whole_numbers_are_resampled() -> None:
    layers = [resize(TensorType(d, (1, 2, 4, 4)), (1, 2, 8, 8), "linear", "asymmetric") for d in (U8, I8)]
    agree(layers)


def test_transposed_convolutions_of_any_number_of_axes() -> None:
    rng = np.random.default_rng(1)
    layers = []
    for c, m, groups, kernel, size in (
        (2, 3, 1, (3,), (5,)),
        (4, 2, 2, (2, 3), (4, 3)),
        (2, 1, 1, (2, 1, 3), (2, 3, 3)),
    ):
        n = len(kernel)
        op = ops.ConvTranspose(
            strides=(2,) * n, pads=(1, *(0,) * (2 * n - 1)), dilations=(1,) * n, groups=groups, output_padding=(0,) * n
        )
        w, b = (rng.standard_normal(s).astype(np.float32) for s in ((c, m, *kernel), (m * groups,)))
        layers.append(layer(op, TensorType(F32, (2, c, *size)), w, b))
        layers.append(layer(op, TensorType(BF16, (2, c, *size)), w.astype(BF16.numpy)))
    agree(layers, rtol=1e-5, atol=1e-5)


def test_neighbours_normalise_channels_and_the_largest_is_chosen() -> None:
    x, half = TensorType(F32, (2, 7, 3, 4)), TensorType(F16, (2, 7, 3))
    layers = [
        layer(ops.LocalResponseNorm(size=n, alpha=0.3, beta=b, bias=2.0), x) for n, b in ((3, 0.75), (4, 0.5), (5, 0.6))
    ]
    layers += [layer(ops.LocalResponseNorm(size=3, alpha=0.3), half), layer(ops.Hardmax(axis=1), half)]
    layers += [layer(ops.Hardmax(axis=a), x) for a in (0, 1, 3)]
    agree(layers, rtol=2e-5, atol=1e-6)


def test_one_query_at_a_time() -> None:
    """With masks of all kinds: of queries that see nothing, shared by heads, and with few heads of keys."""
    rng = np.random.default_rng(2)
    shape: dict[str, Any] = {"batch": 2, "heads": 4, "shared": 2, "queries": 3, "keys": 5, "depth": 8, "width": 6}
    q, k, v = (rng.standard_normal(s).astype(np.float32) for s in ((2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 5, 6)))
    seen = rng.random((2, 1, 3, 5)) < 0.6
    seen[0, 0, 1] = False
    added = rng.standard_normal((3, 5)).astype(np.float32)
    masks: list[tuple[ops.Attention, Array | None, dict[str, Any]]] = [
        (ops.Attention(scale=0.3), None, {}),
        (ops.Attention(scale=0.3, causal=True, softcap=2.0), None, {"causal": True, "softcap": 2.0}),
        (ops.Attention(scale=0.3), seen, {"mask_type": "uint8_t", "is_choice": True, "mask": (15, 0, 5, 1)}),
        (ops.Attention(scale=0.3), added, {"mask_type": "float", "mask": (0, 0, 5, 1)}),
    ]
    for op, mask, fields in masks:
        kernel = adapted(PlainAttention(ctype="float", scale=0.3, **shape, **fields))
        given = [q, k, v] if mask is None else [q, k, v, mask.astype(np.uint8) if mask.dtype == bool else mask]
        wanted = op.evaluate(*[q, k, v] if mask is None else [q, k, v, mask])
        got = run_kernel(kernel, given, np.zeros_like(wanted), [])
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_halves_end_as_halves() -> None:
    """At the target's default precision tensors lie as halves, and sums are floats."""
    graph = beside(
        [
            POOLS[4],
            resize(TensorType(F32, (1, 3, 5, 6)), (1, 3, 10, 9), "linear"),
            layer(ops.Hardmax(axis=1), TensorType(F32, (3, 9))),
        ]
    )
    rng = np.random.default_rng(3)
    made = run(graph, {v.name: random_array(rng, v.type) for v in graph.inputs}, precision="fp16")
    for name, wanted in made.wanted.items():
        np.testing.assert_allclose(made.got[name], wanted, rtol=2e-3, atol=2e-3)

"""Convolutions as products in Metal sources, of any geometry, against what the operation means."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.expression import Apply, Expression, Number, Operand
from codegen.metal.conv import MOST, Conv, ConvFew, packed_filters
from codegen.metal.gemm import TILES
from codegen.neon.tailed import RELU
from compiler import ops
from compiler.graph import Graph
from compiler.tensor import F32, TensorType
from targets.metal import emit
from targets.metal.families import family
from tests.targets.metal_products import BOUND, NUMPY, Case, decibels, kernels_of, run_cases

RESIDUAL: Expression = Apply("max", (Apply("add", (Operand(0), Operand(1))), Number(0.0)))
Pair = tuple[int, int]


class Layer(NamedTuple):
    """A convolution of images: `spare` lines and columns are more than one window covers."""

    images: int
    groups: int
    depth: int
    many: int
    kernel: Pair
    spare: Pair
    strides: Pair
    dilations: Pair
    begins: Pair
    ends: Pair


def pairs(low: int, high: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


LAYERS = st.builds(
    Layer,
    images=st.integers(1, 2),
    groups=st.sampled_from([1, 1, 2, 3]),
    depth=st.sampled_from([1, 2, 3, 4, 8, 12, 32, 64]),
    many=st.sampled_from([1, 5, 8, 31, 33, 65]),
    kernel=pairs(1, 4),
    spare=pairs(0, 6),
    strides=pairs(1, 3),
    dilations=pairs(1, 2),
    begins=pairs(0, 2),
    ends=pairs(0, 2),
)


def size_of(layer: Layer) -> tuple[int, ...]:
    """Of the image."""
    parts = zip(layer.kernel, layer.dilations, layer.spare, layer.begins, layer.ends, strict=True)
    return tuple(max((k - 1) * d + 1 + s - b - e, 1) for k, d, s, b, e in parts)


def kernel_of(layer: Layer, at: int, ctype: str, *, has_matrices: bool) -> Conv | ConvFew:
    """Tiles, tails and biases take turns."""
    tile = TILES[at % len(TILES)]
    fields: dict[str, Any] = {  # Any: of several types
        "rows": tile.rows,
        "columns": tile.columns,
        "ctype": ctype,
        "has_matrices": has_matrices,
        "kernel": layer.kernel,
        "strides": layer.strides,
        "dilations": layer.dilations,
        "begins": layer.begins,
        "has_border": any((*layer.begins, *layer.ends)),
        "is_grouped": layer.groups > 1,
        "has_bias": bool(at % 2),
        "tail": (Operand(0), RELU, RESIDUAL)[at % 3],
    }
    if layer.depth % 32 == 0:
        return Conv(**fields)
    return ConvFew(**fields, depth=layer.depth, vector=next(v for v in (4, 2, 1) if layer.depth % v == 0))


def case(layer: Layer, at: int, ctype: str, *, has_matrices: bool = True) -> Case:
    """A call, and what it is to give."""
    rng, dtype = np.random.default_rng(at), NUMPY[ctype]
    kernel, size = kernel_of(layer, at, ctype, has_matrices=has_matrices), size_of(layer)
    channels, filters = layer.depth * layer.groups, layer.many * layer.groups
    x = rng.standard_normal((layer.images, channels, *size)).astype(dtype)
    w = rng.standard_normal((filters, layer.depth, *layer.kernel)).astype(dtype)
    b = rng.standard_normal(filters).astype(np.float32)
    pads = (*layer.begins, *layer.ends)
    op = ops.Conv(strides=layer.strides, pads=pads, dilations=layer.dilations, groups=layer.groups)
    wide = (a.astype(np.float64) for a in (x, w, b * np.float32(kernel.has_bias)))
    exact = np.moveaxis(op.evaluate(*wide), 1, -1)
    r = rng.standard_normal(exact.shape).astype(dtype)
    if kernel.has_other:
        exact = exact + r
    if kernel.tail != Operand(0):
        exact = np.maximum(exact, 0)
    given = [np.ascontiguousarray(np.moveaxis(x, 1, -1)), packed_filters(w, layer.groups, kernel)]
    given += [*[b] * kernel.has_bias, *[r] * kernel.has_other]
    values = {"n": layer.many, "depth": layer.depth, "channels": channels, "filters": filters, "groups": layer.groups}
    values |= dict(zip(("height", "width", "out_height", "out_width"), (*size, *exact.shape[1:3]), strict=True))
    values["m"] = layer.images * exact.shape[1] * exact.shape[2]
    return Case(kernel, given, np.ascontiguousarray(exact).astype(dtype), [values[n] for n in kernel.counts])


@pytest.mark.parametrize("ctype", list(NUMPY))
@settings(max_examples=5, deadline=None)
@given(layers=st.lists(LAYERS, min_size=6, max_size=6), seed=st.integers(0, 11))
def test_any_geometry(ctype: str, layers: list[Layer], seed: int) -> None:
    cases = [case(layer, seed + at, ctype, has_matrices=at != 5) for at, layer in enumerate(layers)]
    for layer, made, got in zip(layers, cases, run_cases(cases), strict=True):
        bound = BOUND[ctype] if np.abs(made.exact).max() else -np.inf
        assert decibels(got, made.exact) > bound, layer


SHAPES: list[tuple[tuple[int, ...], int, tuple[int, ...], dict[str, Any], str]] = [  # x, filters, kernel -> its name
    ((2, 3, 19, 17), 24, (7, 7), {"strides": (2, 2), "pads": (3, 3, 3, 3)}, "conv_3_7x7_s2_p3_border"),
    ((1, 32, 9, 11), 40, (3, 3), {"strides": (2, 2), "pads": (1, 1, 1, 1)}, "conv_3x3_s2_p1_border"),
    ((1, 64, 7, 7), 128, (1, 1), {"strides": (2, 2)}, "conv_1x1_s2"),
    ((1, 32, 5, 5), 33, (1, 1), {}, "gemm_"),
    ((1, 40, 1, 1), 33, (1, 1), {}, "gemv_"),
    ((1, 12, 10, 10), 18, (3, 3), {"groups": 3, "pads": (1, 1, 1, 1)}, "conv_4_3x3_p1_border_grouped"),
    ((2, 6, 40), 10, (9,), {"strides": (3,), "pads": (4, 4)}, "conv_6_1x9_s1x3_p0x4_border_32x32_pairs"),
    ((1, 1, 100), 5, (20,), {"strides": (4,)}, "conv_1_1x20_s1x4"),
    ((1, 2, 30), 5, (20,), {"pads": (9, 9)}, "conv_2_1x20_p0x9_border"),  # more taps than a word has bits for
    ((1, 32, 20, 9), 7, (17, 2), {"pads": (9, 0, 3, 1), "dilations": (1, 3)}, "conv_17x2_d1x3_p9x0_border"),
    ((1, 2, 5, 6, 7), 3, (2, 3, 2), {"pads": (1, 0, 1, 0, 1, 1)}, "plain_conv"),
]


def graph_of(shapes: list[tuple[tuple[int, ...], int, tuple[int, ...], dict[str, Any], str]]) -> Graph:
    """Layers beside each other; every other ends with a residual and a maximum."""
    rng, graph, results = np.random.default_rng(3), Graph("t"), []
    for at, (shape, filters, kernel, fields, _) in enumerate(shapes):
        axes = len(kernel)
        op = ops.Conv(
            **{"strides": (1,) * axes, "pads": (0,) * 2 * axes, "dilations": (1,) * axes, "groups": 1, **fields}
        )
        x = graph.add_input(TensorType(F32, shape), f"x{at}")
        w = graph.const(rng.standard_normal((filters, shape[1] // op.groups, *kernel)).astype(np.float32))
        (y,) = graph.add(op, x, w, graph.const(rng.standard_normal(filters).astype(np.float32)))
        (y,) = graph.add(ops.Relu(), y) if at % 2 else (y,)
        results.append(y)
    graph.set_outputs(results, [f"y{at}" for at in range(len(results))])
    return graph


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_layers(precision: str) -> None:
    names = kernels_of(graph_of(SHAPES), precision)
    for *_, name in SHAPES:
        assert any(n.startswith(name) for n in names), name


def test_layers_without_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit, "family_of", lambda _: family()._replace(number=6))
    names = kernels_of(graph_of(SHAPES[:6]), "fp32")
    products = [n for n in names if n.startswith(("conv", "gemm"))]
    assert len(products) == 6
    assert all("_plain" in n for n in products)


def test_a_block_of_a_network_is_one_dispatch_for_each_convolution() -> None:
    rng, graph = np.random.default_rng(3), Graph("t")

    def conv(x: Any, channels: int, stride: int, size: int) -> Any:  # Any: values
        w = graph.const((rng.standard_normal((channels, x.type.dims[1], size, size)) / 9).astype(np.float32))
        b = graph.const(rng.standard_normal(channels).astype(np.float32))
        pads = (size // 2,) * 4
        (y,) = graph.add(ops.Conv(strides=(stride, stride), pads=pads, dilations=(1, 1), groups=1), x, w, b)
        return y

    x = graph.add_input(TensorType(F32, (1, 8, 9, 9)), "x")
    (first,) = graph.add(ops.Relu(), conv(x, 24, 1, 5))
    (second,) = graph.add(ops.Relu(), graph.add(ops.Add(), conv(first, 24, 1, 5), first)[0])
    (third,) = graph.add(ops.Add(), conv(conv(second, 24, 2, 5), 40, 1, 1), conv(second, 40, 2, 1))
    graph.set_outputs(graph.add(ops.Relu(), third), ["y"])
    names = kernels_of(graph, "fp32")
    assert not any(n.startswith(("add", "max", "relu")) for n in names)
    assert sum("_add_max" in n for n in names) == 2


def test_taps_fit_their_bits() -> None:
    assert 2 * MOST <= 31  # a word with all bits stands for no tap

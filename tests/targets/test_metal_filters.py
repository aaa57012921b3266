"""Depthwise and Winograd convolutions as Metal sources, against a plain sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.expression import Apply, Expression, Number, Operand
from codegen.metal.depthwise import Depthwise
from codegen.metal.winograd import Winograd, transformed
from codegen.neon.tailed import RELU
from compiler.graph import Graph
from compiler.ops.conv import Conv
from compiler.tensor import F32, Array, TensorType
from tests.targets import metal_layers
from tests.targets.metal_graphs import run_kernel

RESIDUAL: Expression = Apply("max", (Apply("add", (Operand(0), Operand(1))), Number(0.0)))
KINDS = {"float": (np.float32, 1e-5), "half_t": (np.float16, 4e-3)}


def last(x: Array) -> Array:
    """Channels last."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def close(got: Array, exact: Array, tolerance: float) -> bool:
    return bool(np.abs(got.astype(np.float64) - exact).max() <= tolerance * max(np.abs(exact).max(), 1.0))


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_depthwise_filters_of_any_shape(data: st.DataObject) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    window, strides, dilations, pads, ends = pair(1, 4), pair(1, 2), pair(1, 2), pair(0, 2), pair(0, 2)
    many, ctype = data.draw(st.integers(1, 2)), data.draw(st.sampled_from(list(KINDS)))
    size = tuple((w - 1) * d + 1 + data.draw(st.integers(0, 9)) for w, d in zip(window, dilations, strict=True))
    dtype, tolerance = KINDS[ctype]
    x = rng.standard_normal((2, 5, *size)).astype(dtype)
    w = rng.standard_normal((5 * many, 1, *window)).astype(dtype)
    b = rng.standard_normal(5 * many).astype(np.float32)
    op = Conv(strides=strides, pads=(*pads, *ends), dilations=dilations, groups=5)
    exact = np.maximum(last(op.evaluate(x.astype(np.float64), w.astype(np.float64), b.astype(np.float64))), 0)
    kernel = Depthwise(window=window, strides=strides, dilations=dilations, many=many, tail=RELU, ctype=ctype)
    taps = np.ascontiguousarray(w.reshape(5 * many, -1).T)
    numbers = (2, *size, 5 * many, *exact.shape[1:3], *pads)
    got = run_kernel(kernel, [last(x), taps, b], exact.astype(dtype), numbers)
    assert close(got, exact, tolerance)


@pytest.mark.parametrize("ctype", list(KINDS))
@pytest.mark.parametrize(
    ("images", "channels", "filters", "size", "pads"),
    [(1, 16, 32, (9, 11), (1, 1, 1, 1)), (2, 19, 40, (7, 6), (0, 2, 1, 0)), (1, 8, 3, (3, 2), (1, 1, 1, 1))],
)
def test_winograd(
    images: int, channels: int, filters: int, size: tuple[int, int], pads: tuple[int, ...], ctype: str
) -> None:
    rng = np.random.default_rng(1)
    dtype, tolerance = KINDS[ctype]
    x = rng.standard_normal((images, channels, *size)).astype(dtype)
    w = (rng.standard_normal((filters, channels, 3, 3)) / channels).astype(dtype)
    b = rng.standard_normal(filters).astype(np.float32)
    exact = last(Conv(strides=(1, 1), pads=pads, dilations=(1, 1)).evaluate(*(v.astype(np.float64) for v in (x, w, b))))
    other = rng.standard_normal(exact.shape).astype(dtype)
    numbers = (images, *size, channels, filters, *exact.shape[1:3], *pads[:2])
    kernel = Winograd(tail=RESIDUAL, ctype=ctype)
    given_arrays = [last(x), (transformed(w) * kernel.shrink).astype(dtype), b, other]
    got = run_kernel(kernel, given_arrays, exact.astype(dtype), numbers)
    assert close(got, np.maximum(exact + other, 0), tolerance)


def test_winograd_of_the_largest_halves() -> None:
    """Patches are transformed to sums of four of them."""
    rng = np.random.default_rng(2)
    x = (np.sign(rng.standard_normal((1, 16, 6, 6))) * 65504).astype(np.float32)
    w = (rng.standard_normal((32, 16, 3, 3)) / 1000).astype(np.float32)
    conv = Conv(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
    graph = Graph("large")
    graph.set_outputs(graph.add(conv, graph.add_input(TensorType(F32, x.shape), "x"), graph.const(w, "w")), ["y"])
    made = metal_layers.run(graph, {"x": x}, "fp16")
    assert "winograd_3x3_half" in made.kernels
    assert close(made.got["y"], made.wanted["y"], KINDS["half_t"][1])

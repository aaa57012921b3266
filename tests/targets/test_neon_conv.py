"""Convolutions as generated C: direct ones and Winograd's, with strides, dilations, groups, borders, against numpy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.expression import Apply, Expression, Operand
from codegen.neon.border import Border
from codegen.neon.conv import Geometry, levels
from codegen.neon.tailed import RELU
from codegen.neon.winograd import accuracy
from compiler.ops.conv import convolve
from compiler.tensor import Array
from targets.neon.blocking import Core, core
from targets.neon.build import Toolchain
from targets.neon.lower import winograd
from targets.neon.lower.conv import cut_of, direct, packed_filters
from tests.targets.neon_kernels import Case, run_cases, toolchains

DEFAULT, IN_ORDER = core(), core("cortex-a55")
RESIDUAL = Apply("max", (Apply("add", (Operand(0), Operand(1))), RELU.arguments[1]))  # type: ignore[union-attr]  # it is applied


class Layer(NamedTuple):
    """A layer whose image has its borders."""

    channels: int = 8
    filters: int = 8
    kernel: tuple[int, int] = (3, 3)
    out: tuple[int, int] = (6, 7)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    images: int = 1
    tail: Expression = Operand(0)

    def geometry(self) -> Geometry:
        """With the smallest image that has all pixels, and a bit more."""
        size = [
            (o - 1) * s + (k - 1) * d + 1 + e
            for o, s, k, d, e in zip(self.out, self.strides, self.kernel, self.dilations, (0, 1), strict=True)
        ]
        fields = self._asdict()
        del fields["tail"]
        return Geometry(**fields, height=size[0], width=size[1])


def operands(layer: Layer, seed: int) -> tuple[Geometry, Array, Array, Array, Array, Array]:
    """What the layer reads, and its result."""
    rng = np.random.default_rng(seed)
    g = layer.geometry()
    x = rng.standard_normal((g.images, g.height, g.width, g.channels)).astype(np.float32)
    w = rng.standard_normal((g.filters, g.depth, *g.kernel)).astype(np.float32)
    b = rng.standard_normal(g.filters).astype(np.float32)
    r = rng.standard_normal((g.images, *g.out, g.filters)).astype(np.float32)
    image = np.moveaxis(x, -1, 1)[..., :-1].astype(np.float64)
    y = np.moveaxis(convolve(image, w.astype(np.float64), g.strides, (0,) * 4, g.dilations, g.groups), 1, -1) + b
    if layer.tail != Operand(0):
        y = np.maximum(y + r * (layer.tail is RESIDUAL), 0)
    return g, x, w, b, r, y.astype(np.float32)


def direct_case(layer: Layer, seed: int, of: Core = DEFAULT) -> tuple[Case, Array]:
    g, x, w, b, r, want = operands(layer, seed)
    cut = cut_of(g, of)
    kernel = direct(g, cut, of).with_(tail=layer.tail)
    others = [r] if kernel.has_other else []
    arguments: list[Array | int] = [x, packed_filters(w, b, g.groups, cut), *others, np.zeros_like(r), 0, g.out[0]]
    return Case(kernel, arguments, [2 + len(others)]), want


def check(cases: list[tuple[Case, Array]], tools: Toolchain) -> None:
    for (case, want), (got,) in zip(cases, run_cases([c for c, _ in cases], tools), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3, err_msg=case.kernel.name)


LAYERS = [
    Layer(),
    Layer(channels=3, filters=10, kernel=(7, 7), strides=(2, 2), tail=RELU),
    Layer(channels=5, filters=33, kernel=(1, 1), strides=(2, 3), out=(3, 9)),
    Layer(channels=6, filters=12, groups=3, out=(5, 4), images=2, tail=RESIDUAL),
    Layer(channels=4, filters=6, dilations=(2, 3), tail=RESIDUAL),
    Layer(channels=16, filters=16, kernel=(1, 5), out=(1, 30)),
    Layer(channels=8, filters=24, kernel=(3, 1), out=(9, 3), strides=(2, 1)),
]


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
def test_direct(tools: Toolchain) -> None:
    check([direct_case(layer, i) for i, layer in enumerate(LAYERS)], tools)


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
def test_on_cores_that_issue_in_order(tools: Toolchain) -> None:
    cases = [direct_case(layer, i, IN_ORDER) for i, layer in enumerate(LAYERS)]
    deep = Layer(channels=12, filters=20, out=(13, 10), tail=RESIDUAL)
    check([*cases, winograd_case(deep, 4, 9, 3, IN_ORDER)], tools)


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
def test_transforms_on_cores_that_issue_in_order(tools: Toolchain) -> None:
    """Of whole tiles with all kinds of ends, and of tiles of which some are left out."""
    layers = [Layer(channels=8, filters=12, out=(8, 12), tail=tail) for tail in (Operand(0), RELU, RESIDUAL)]
    layers += [
        Layer(channels=4, filters=4, out=(4, 4), images=2),
        Layer(channels=12, filters=20, out=(5, 7), tail=RELU),
    ]
    check([winograd_case(layer, out, i, 1, IN_ORDER) for i, layer in enumerate(layers) for out in (2, 4)], tools)


small = st.integers(1, 3)
LAYER = st.builds(
    lambda depth, many, groups, **rest: Layer(depth * groups, many * groups, groups=groups, **rest),
    depth=st.integers(1, 18),
    many=st.integers(1, 18),
    groups=small,
    kernel=st.tuples(small, small),
    out=st.tuples(st.integers(1, 4), st.integers(1, 20)),
    strides=st.tuples(small, small),
    dilations=st.tuples(small, small),
    images=st.integers(1, 2),
    tail=st.sampled_from([Operand(0), RELU, RESIDUAL]),
)


@pytest.mark.parametrize("tools", toolchains()[:1], ids=lambda t: t.compiler[0])
@settings(max_examples=5, deadline=None)
@given(layers=st.lists(LAYER, min_size=4, max_size=4))
def test_any_layer(tools: Toolchain, layers: list[Layer]) -> None:
    check([direct_case(layer, i) for i, layer in enumerate(dict.fromkeys(layers))], tools)


def winograd_case(layer: Layer, out: int, seed: int, block: int, of: Core = DEFAULT) -> tuple[Case, Array]:
    extra = winograd.border(layer.geometry(), out)
    g, x, w, b, r, want = operands(layer, seed)
    x = np.pad(x[:, :, :-1], ((0, 0), (0, extra[0]), (0, extra[1]), (0, 0)))
    g = g.with_(height=x.shape[1], width=x.shape[2])
    kernel, cut = winograd.winograd(g, winograd.Choice(out, block, 0.0), of)
    kernel = kernel.with_(tail=layer.tail)
    others = [r] if kernel.has_other else []
    scratch = [np.zeros(kernel.scratch(c), np.uint8) for c in (g.channels, g.filters)]
    arguments: list[Array | int] = [
        x,
        winograd.packed_transformed(w, b, out, cut),
        *others,
        np.zeros_like(r),
        *scratch,
        0,
        kernel.lines,
    ]
    return Case(kernel, arguments, [2 + len(others)]), want


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
def test_winograd(tools: Toolchain) -> None:
    layers = [
        (Layer(), 2, 3),
        (Layer(channels=12, filters=20, out=(13, 10), tail=RESIDUAL), 4, 3),
        (Layer(channels=4, filters=24, out=(8, 8), images=2, tail=RELU), 4, 2),
        (Layer(channels=8, filters=4, out=(5, 9), images=2, tail=RESIDUAL), 2, 2),
    ]
    check([winograd_case(layer, out, i, block) for i, (layer, out, block) in enumerate(layers)], tools)


@pytest.mark.parametrize(("out", "least"), [(2, 125), (4, 110)])
def test_accuracy_of_transforms(out: int, least: float) -> None:
    w = np.random.default_rng(0).standard_normal((32, 64, 3, 3)).astype(np.float32)
    assert least < accuracy(w, out) < 150


def test_filters_that_cancel_are_found_inaccurate() -> None:
    w = np.random.default_rng(0).standard_normal((4, 8, 3, 3)).astype(np.float32) * 1e-6
    w[:, :, 1, 1] += 1e6 * np.resize([1, -1], 8)
    assert accuracy(w, 4) < accuracy(w, 2) + 1 < 160


def test_the_cheaper_way_is_taken() -> None:
    large = Layer(channels=64, filters=64, out=(56, 56)).geometry()
    chosen = winograd.choice(large, cut_of(large, DEFAULT), DEFAULT)
    assert chosen is not None and chosen.out == 4
    for other in (Layer(channels=4, filters=4, out=(2, 2)), Layer(channels=6, filters=8), Layer(strides=(2, 2))):
        assert winograd.choice(other.geometry(), cut_of(other.geometry(), DEFAULT), DEFAULT) is None


@pytest.mark.parametrize("tools", toolchains()[:1], ids=lambda t: t.compiler[0])
def test_border(tools: Toolchain) -> None:
    x = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5) + 1
    want = np.pad(x, ((0, 0), (1, 2), (3, 4)))
    case = Case(Border(), [x, np.ones_like(want), 2, 3, 20, 1, 2, 12, 16, 0], [1])
    np.testing.assert_array_equal(run_cases([case], tools)[0][0], want)


def test_runs_are_as_long_as_memory_allows() -> None:
    whole = Layer(channels=8).geometry()
    assert levels(whole) == [(3, whole.line)]
    spread = Layer(channels=8, dilations=(2, 2)).geometry()
    assert levels(spread) == [(3, 16), (3, 2 * spread.line)]

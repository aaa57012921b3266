"""Depthwise convolutions as generated C: strips that slide along lines, and any filter, against numpy."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.expression import Apply, Expression, Number, Operand
from codegen.neon.depthwise import Depthwise, DepthwiseAny
from codegen.neon.depthwise_schedule import Line
from codegen.neon.tailed import RELU
from compiler import ops
from compiler.ops.conv import convolve
from compiler.tensor import Array
from targets.neon.build import Toolchain
from targets.neon.lower.depthwise import Plane, chosen, groups
from tests.targets.neon_kernels import Case, run_cases, toolchains
from tests.targets.neon_layers import TOOLS
from tests.targets.neon_layers import Layer as Whole
from tests.targets.neon_layers import check as check_library

RELU6 = Apply("min", (RELU, Number(6.0)))
RESIDUAL = Apply("max", (Apply("add", (Operand(0), Operand(1))), Number(0)))
LONG = Apply("div", (Apply("add", (Operand(0), Operand(1))), Apply("add", (Apply("exp", (Operand(0),)), Number(1.0)))))


class Layer(NamedTuple):
    """A layer; `ends` lines and columns of border come last."""

    channels: int = 8
    size: tuple[int, int] = (9, 14)
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    begins: tuple[int, int] = (1, 1)
    ends: tuple[int, int] = (1, 1)
    images: int = 1
    tail: Expression = Operand(0)

    def plane(self) -> Plane | None:
        """None if nothing comes out."""
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        room = [self.size[i] + self.begins[i] + self.ends[i] - reach[i] for i in range(2)]
        if min(room) < 0:
            return None
        fields = self._asdict()
        del fields["ends"], fields["tail"]
        return Plane(**fields, out=(room[0] // self.strides[0] + 1, room[1] // self.strides[1] + 1))


def case(layer: Layer, seed: int, *, in_order: bool = False) -> tuple[Case, Array] | None:
    plane = layer.plane()
    if plane is None:
        return None
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((plane.images, *plane.size, plane.channels)).astype(np.float32)
    filters = rng.standard_normal((*plane.kernel, plane.channels)).astype(np.float32)
    bias = rng.standard_normal(plane.channels).astype(np.float32)
    r = rng.standard_normal((plane.images, *plane.out, plane.channels)).astype(np.float32)
    w = np.moveaxis(filters, -1, 0)[:, None].astype(np.float64)
    image = np.moveaxis(x, -1, 1).astype(np.float64)
    y = convolve(image, w, plane.strides, (*layer.begins, *layer.ends), plane.dilations, plane.channels)
    want = np.moveaxis(y, 1, -1) + bias
    ends: dict[Expression, Array] = {
        RELU6: np.clip(want, 0, 6),
        RESIDUAL: np.maximum(want + r, 0),
        LONG: (want + r) / (np.exp(want) + 1),
    }
    want = ends.get(layer.tail, want)
    kernel, weights, numbers = chosen(plane, filters, bias, layer.tail, in_order=in_order)
    arguments: list[Array | int] = [x, weights, *[r] * kernel.has_other, np.zeros_like(r), *numbers]
    return Case(kernel, arguments, [2 + kernel.has_other]), want.astype(np.float32)


def check(layers: list[Layer], tools: Toolchain, *, in_order: bool = False) -> None:
    cases = [c for i, layer in enumerate(layers) if (c := case(layer, i, in_order=in_order))]
    if not cases:
        return
    for (made, want), (got,) in zip(cases, run_cases([c for c, _ in cases], tools), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4, err_msg=made.kernel.name)


LAYERS = [
    Layer(),
    Layer(channels=20, tail=RELU6),
    Layer(channels=13, size=(7, 7), tail=RESIDUAL, images=2),
    Layer(channels=4, size=(3, 2)),
    Layer(channels=10, size=(1, 1)),
    Layer(channels=6, size=(5, 23), strides=(2, 2), ends=(0, 0)),
    Layer(channels=16, size=(12, 16), strides=(2, 2), begins=(0, 0), tail=RELU6),
    Layer(channels=5, size=(9, 30), kernel=(5, 5), begins=(2, 2), ends=(2, 2)),
    Layer(channels=12, size=(9, 31), kernel=(5, 5), strides=(2, 2), begins=(2, 2), ends=(1, 2), tail=RELU6),
    Layer(channels=8, size=(8, 40), kernel=(7, 7), begins=(3, 3), ends=(3, 3), tail=RESIDUAL),
    Layer(channels=8, size=(1, 40), kernel=(1, 9), begins=(0, 8), ends=(0, 0)),
    Layer(channels=9, size=(8, 12), kernel=(3, 3), dilations=(2, 1), begins=(2, 1), ends=(2, 1)),
    Layer(channels=9, size=(8, 12), kernel=(3, 3), dilations=(2, 2), begins=(2, 2), ends=(2, 2), tail=RESIDUAL),
    Layer(channels=13, size=(5, 12), tail=LONG),
    Layer(channels=8, size=(9, 20), kernel=(5, 5), begins=(2, 2), ends=(2, 2), tail=LONG),
    Layer(channels=3, size=(8, 12)),
]


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
@pytest.mark.parametrize("in_order", [False, True])
def test_layers(tools: Toolchain, in_order: bool) -> None:
    check(LAYERS, tools, in_order=in_order)


def test_common_layers_have_strips() -> None:
    kinds = [type(c[0].kernel) for layer in LAYERS if (c := case(layer, 0))]
    assert kinds == [Depthwise] * 15 + [DepthwiseAny]


small = st.integers(1, 3)
LAYER = st.builds(
    Layer,
    channels=st.integers(1, 22),
    size=st.tuples(st.integers(1, 6), st.integers(1, 30)),
    kernel=st.tuples(small, st.integers(1, 5)),
    strides=st.tuples(small, small),
    dilations=st.tuples(small, st.integers(1, 2)),
    begins=st.tuples(st.integers(0, 2), st.integers(0, 4)),
    ends=st.tuples(st.integers(0, 2), st.integers(0, 4)),
    images=st.integers(1, 2),
    tail=st.sampled_from([Operand(0), RELU6, RESIDUAL]),
)


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
@settings(max_examples=5, deadline=None)
@given(layers=st.lists(LAYER, min_size=8, max_size=8), in_order=st.booleans())
def test_any_layer(tools: Toolchain, layers: list[Layer], in_order: bool) -> None:
    check(list(dict.fromkeys(layers)), tools, in_order=in_order)


def test_lines_of_different_lengths_share_a_schedule() -> None:
    lines = [Line(kernel=3, stride=1, left=1, right=1, out=n) for n in (56, 62, 200)]
    assert len({line.shortened(3) for line in lines}) == 1
    assert lines[0].shortened(3).turns(3) == 1


def test_strips_of_the_last_channels_overlap() -> None:
    assert groups(20, (2, 1)) == [(2, 0), (2, 8), (1, 16)]
    assert groups(13, (2, 1)) == [(2, 0), (2, 5)]
    assert groups(6, (1,)) == [(1, 0), (1, 2)]


def whole(x: tuple[int, ...], many: int, kernel: tuple[int, ...], stride: int, dilation: int = 1) -> Whole:
    """A convolution of x with so many filters for each channel, and biases."""
    axes = len(kernel)
    rng = np.random.default_rng(len(x))
    op = ops.Conv(strides=(stride,) * axes, pads=(1,) * 2 * axes, dilations=(dilation,) * axes, groups=x[1])
    return op, x, [rng.standard_normal(s).astype(np.float32) for s in ((many * x[1], 1, *kernel), (many * x[1],))]


@pytest.mark.parametrize("threads", [1, 2])
def test_libraries(threads: int, tmp_path: Path) -> None:
    layers = [
        whole((2, 12, 7, 9), 1, (3, 3), 1),
        whole((1, 12, 7, 9), 1, (3, 3), 2),
        whole((1, 5, 6, 8), 2, (3, 3), 1),
        whole((1, 9, 20), 1, (3,), 2),
        whole((1, 8, 9, 9), 1, (3, 3), 1, 2),
        whole((1, 2, 9, 9), 1, (3, 3), 1),
    ]
    assert check_library(layers, TOOLS[0], tmp_path, threads) <= {"depthwise", "transposes", "copies", "elementwise"}

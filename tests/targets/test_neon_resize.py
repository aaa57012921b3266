"""Resampling and transposed convolutions as generated C, whole graphs of one layer and a Relu behind it, against what
the operations mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.errors import CompileError
from compiler.ops.resize import COORDINATES, quotient
from compiler.ops.window import Ints
from targets.neon.build import Toolchain
from tests.targets.neon_layers import TOOLS, Layer, check, graph_of

QUICK = settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def transposed(x: Ints, w: Ints, seed: int = 0, **fields: Ints | int) -> Layer:
    """A transposed convolution of x with filters w, and biases."""
    axes = len(x) - 2
    one, none = (1,) * axes, (0,) * axes
    values = {"strides": one, "pads": none * 2, "dilations": one, "output_padding": none, **fields}
    op = ops.ConvTranspose(**values)  # type: ignore[arg-type]  # fields by name
    rng = np.random.default_rng(seed)
    return op, x, [rng.standard_normal(s).astype(np.float32) for s in (w, (w[1] * op.groups,))]


TRANSPOSED = [
    transposed((2, 6, 3, 5), (6, 21, 2, 2), strides=(2, 2)),
    transposed((1, 8, 4, 3), (8, 5, 4, 4), strides=(2, 2), pads=(1, 1, 1, 1)),
    transposed((1, 3, 4, 4), (3, 20, 3, 3), strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 1)),
    transposed((1, 4, 3, 4), (4, 7, 2, 3), dilations=(2, 3)),
    transposed((1, 19, 4, 5), (19, 1, 4, 4), strides=(2, 2), pads=(1, 1, 1, 1), groups=19),
    transposed((1, 6, 7), (6, 9, 3), strides=(3,)),
]


@pytest.mark.parametrize("tools", TOOLS, ids=lambda t: t.compiler[0])
def test_transposed_convolutions(tools: Toolchain, tmp_path: Path) -> None:
    assert {"deconv", "gemm"} <= check(TRANSPOSED, tools, tmp_path) <= {"deconv", "gemm", "transposes", "copies"}


def test_filters_of_any_group(tmp_path: Path) -> None:
    layer = transposed((1, 4, 3, 3), (4, 3, 3, 3), strides=(2, 1), groups=2)
    assert "plain" in check([layer], TOOLS[0], tmp_path)


small = st.integers(1, 3)


def drawn(size: Ints, filters: Ints, steps: Ints, pads: Ints, groups: bool) -> Layer | None:
    """A transposed convolution, if these numbers make one."""
    filters = (1, *filters[1:]) if groups else filters
    shape, many = (size[1], *filters), size[1] if groups else 1
    layer = transposed(size, shape, strides=steps[:2], dilations=steps[2:], pads=pads, groups=many)
    try:
        graph_of([layer])
    except CompileError:
        return None
    return layer


LAYER = st.builds(
    drawn,
    size=st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)),
    filters=st.tuples(st.integers(1, 18), small, small),
    steps=st.tuples(small, small, small, small),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    groups=st.booleans(),
)


@QUICK
@given(layers=st.lists(LAYER, min_size=8, max_size=8))
def test_any_transposed_convolution(tmp_path_factory: pytest.TempPathFactory, layers: list[Layer | None]) -> None:
    if found := [layer for layer in layers if layer]:
        check(found, TOOLS[0], tmp_path_factory.mktemp("layers"))


def resize(x: Ints, size: Ints, mode: str, coordinates: str, *, antialias: bool = False) -> ops.Resize:
    scales = tuple(quotient(n, d) for n, d in zip((*x[:2], *size), x, strict=True))
    return ops.Resize(sizes=(*x[:2], *size), scales=scales, mode=mode, coordinates=coordinates, antialias=antialias)


RESIZED = [
    (resize((2, 21, 3, 4), (6, 8), "nearest", "asymmetric"), (2, 21, 3, 4)),
    (resize((1, 3, 5, 5), (3, 7), "nearest", "half_pixel"), (1, 3, 5, 5)),
    *((resize((1, 20, 4, 5), (7, 3), "linear", c), (1, 20, 4, 5)) for c in COORDINATES[:5]),
    (resize((2, 6, 4, 5), (4, 9), "linear", "half_pixel"), (2, 6, 4, 5)),
    (resize((1, 17, 6, 6), (3, 2), "linear", "half_pixel", antialias=True), (1, 17, 6, 6)),
    (resize((1, 5, 6, 4), (9, 11), "cubic", "half_pixel"), (1, 5, 6, 4)),
]


@pytest.mark.parametrize("tools", TOOLS, ids=lambda t: t.compiler[0])
def test_resampling(tools: Toolchain, tmp_path: Path) -> None:
    layers = [(op, x, ()) for op, x in RESIZED]
    assert check(layers, tools, tmp_path) <= {"resize", "transposes", "copies", "elementwise"}


def test_lines_are_divided_among_threads(tmp_path: Path) -> None:
    check([*TRANSPOSED[:3], *((op, x, ()) for op, x in RESIZED[::4])], TOOLS[0], tmp_path, threads=3)

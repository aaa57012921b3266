"""Depthwise convolutions with large filters: by Fourier transforms where that takes far fewer instructions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from codegen.neon.fft_depthwise import batched
from compiler import ops
from compiler.compare import compare
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.pass_manager import PassManager
from compiler.tensor import F32, TensorType
from targets.neon import TARGET
from targets.neon.lower.fft_depthwise import inside
from tests.targets.neon_layers import TOOLS

if TYPE_CHECKING:
    from targets.neon.build import Toolchain

RNG = np.random.default_rng(6)
Layer = tuple[tuple[int, int, int, int], tuple[int, int], tuple[int, int, int, int]]  # image, filter, border

BY_TRANSFORMS: list[Layer] = [
    ((1, 8, 56, 56), (31, 31), (15, 15, 15, 15)),
    ((2, 4, 28, 28), (29, 29), (14, 14, 14, 14)),
    ((1, 4, 75, 43), (21, 25), (3, 0, 17, 12)),
    ((1, 4, 90, 131), (19, 33), (0, 0, 0, 0)),
    ((1, 12, 40, 33), (17, 23), (16, 22, 2, 1)),
]
DIRECT: list[Layer] = [
    ((1, 4, 14, 14), (27, 27), (13, 13, 13, 13)),
    ((1, 4, 28, 28), (13, 13), (6, 6, 6, 6)),
    ((1, 8, 56, 56), (7, 7), (3, 3, 3, 3)),
    ((1, 6, 56, 56), (31, 31), (15, 15, 15, 15)),
]


def graph_of(layer: Layer) -> Graph:
    """With a bias, a residual of the result's shape, and a clip."""
    shape, taps, pads = layer
    g = Graph("large")
    x = g.add_input(TensorType(F32, shape), "x")
    w = g.const(RNG.standard_normal((shape[1], 1, *taps)).astype(np.float32))
    b = g.const(RNG.standard_normal(shape[1]).astype(np.float32))
    conv = ops.Conv(strides=(1, 1), pads=pads, dilations=(1, 1), groups=shape[1])
    (y,) = g.add(conv, x, w, b, origin=frozenset(("conv",)))
    r = g.add_input(y.type, "r")
    (y,) = g.add(ops.Add(), y, r, origin=frozenset(("add",)))
    (y,) = g.add(ops.Relu(), y, origin=frozenset(("relu",)))
    g.set_outputs([y], ["y"])
    return g


@pytest.mark.parametrize("tools", TOOLS, ids=lambda t: t.label)
@pytest.mark.parametrize(
    ("layer", "is_fast"),
    [*((c, True) for c in BY_TRANSFORMS), *((c, False) for c in DIRECT)],
    ids=lambda v: "x".join(map(str, v[0] + v[1])) if isinstance(v, tuple) else "fft" if v else "direct",
)
def test_layers(tools: Toolchain, layer: Layer, is_fast: bool, tmp_path: Path) -> None:
    graph = graph_of(layer)
    target = TARGET(threads=2)
    prepared = target.prepare(PassManager(target.pipeline()).run(graph.clone()).graph)
    artifact = target.emit(prepared, tmp_path / "library")
    artifact.use(tools)
    x = {v.name: RNG.standard_normal(v.type.dims).astype(np.float32) for v in graph.inputs}
    want, got = evaluate(graph, x, wide=True)["y"], artifact.run(x)["y"]
    assert compare("y", want, got).psnr_db > 130
    assert artifact.run_with(x, ("--threads", "2"))[0]["y"].tobytes() == got.tobytes()
    assert (tmp_path / "library" / "kernels_fft.c").exists() == is_fast


def test_taps_inside_an_image() -> None:
    assert inside(size=5, out=5, taps=3, begin=1) == 13
    assert inside(size=5, out=3, taps=3, begin=0) == 9


@pytest.mark.parametrize("points", [7, 5, 4, 14, 22])
def test_lengths_without_passes(points: int) -> None:
    assert not batched(points, 4)

"""Fourier transforms: fast ones of lengths that split into small factors, and others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from codegen.neon.fft import stages
from compiler import ops
from compiler.compare import compare
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.op import Op
from compiler.pass_manager import PassManager
from compiler.tensor import F32, Array, TensorType
from targets.neon import TARGET
from tests.targets.neon_layers import TOOLS

if TYPE_CHECKING:
    from targets.neon.build import Toolchain

Cases = list[tuple[Op, tuple[int, ...], list[Array]]]
RNG = np.random.default_rng(4)

TRANSFORMS: Cases = [
    *(
        (ops.DFT(axis=1, length=n, onesided=True), (3, n, 1), [])
        for n in (32, 40, 64, 96, 160, 200, 400, 480, 512, 1024)
    ),
    *((ops.DFT(axis=1, length=n), (2, n, 1), []) for n in (32, 80, 256)),
    *((ops.DFT(axis=1, length=n), (2, n, 2), []) for n in (16, 20, 36, 64, 100, 128, 240)),
    *((ops.DFT(axis=1, length=n, inverse=True), (2, n, 2), []) for n in (16, 60, 512)),
    *((ops.DFT(axis=1, length=n, inverse=True, onesided=True), (2, n // 2 + 1, 2), []) for n in (32, 40, 320, 512)),
]
FRAMES: Cases = [
    (ops.STFT(step=10, length=64), (1, 200, 1), [RNG.random(64).astype(np.float32)]),
    (ops.STFT(step=160, length=400), (2, 1600, 1), [np.hanning(400).astype(np.float32)]),
    (ops.STFT(step=7, length=32, onesided=False), (3, 100, 1), []),
    (ops.STFT(step=128, length=512), (1, 2048, 1), [np.hanning(512).astype(np.float32)]),
]
MOVED: Cases = [
    (ops.DFT(axis=1, length=16), (1, 20, 5, 2), []),
    (ops.DFT(axis=2, length=32), (2, 3, 32, 1), []),
    (ops.DFT(axis=1, length=64, onesided=True), (1, 64, 8, 1), []),
    (ops.DFT(axis=0, length=40, inverse=True, onesided=True), (21, 4, 2), []),
]
MATRICES: Cases = [
    (ops.DFT(axis=1, length=15), (2, 15, 2), []),
    (ops.DFT(axis=1, length=44, onesided=True), (2, 44, 1), []),
    (ops.DFT(axis=1, length=64), (2, 32, 2), []),
    (ops.DFT(axis=1, length=64, inverse=True), (2, 64, 1), []),
    (ops.STFT(step=3, length=34), (1, 100, 1), [RNG.random(34).astype(np.float32)]),
]


def graph_of(cases: Cases) -> Graph:
    g, results = Graph("transforms"), []
    for i, (op, shape, constants) in enumerate(cases):
        x = g.add_input(TensorType(F32, shape), f"x{i}")
        results.append(g.add(op, x, *(g.const(c) for c in constants), origin=frozenset((op.name,)))[0])
    g.set_outputs(results, [f"y{i}" for i in range(len(results))])
    return g


@pytest.mark.parametrize("tools", TOOLS, ids=lambda t: t.label)
@pytest.mark.parametrize(
    ("cases", "is_fast", "threads"),
    [(TRANSFORMS, True, 1), (FRAMES, True, 3), (MOVED, True, 1), (MATRICES, False, 1)],
    ids=["transforms", "frames", "moved", "matrices"],
)
def test_transforms(tools: Toolchain, cases: Cases, is_fast: bool, threads: int, tmp_path: Path) -> None:
    """As the operation says, to the last digits of 32 bits."""
    graph = graph_of(cases)
    target = TARGET(threads=threads)
    prepared = target.prepare(PassManager(target.pipeline()).run(graph.clone()).graph)
    artifact = target.emit(prepared, tmp_path / "library")
    artifact.use(tools)
    x = {v.name: RNG.standard_normal(v.type.dims).astype(np.float32) for v in graph.inputs}
    got, want = artifact.run(x), evaluate(graph, x, wide=True)
    found = {name: compare(name, want[name], got[name]).psnr_db for name in want}
    assert min(found.values()) > 130, found
    fast = len([n for n in prepared.nodes if isinstance(n.op, ops.DFT | ops.STFT)])
    assert fast == (len(cases) if is_fast else 0)
    assert (tmp_path / "library" / "kernels_fft.c").exists() == is_fast


@pytest.mark.parametrize("points", [16, 20, 200, 240, 256, 4096])
def test_stages_multiply_to_the_length(points: int) -> None:
    made = stages(points)
    assert made is not None
    step = 1
    for stage in made:
        assert stage.step == step and stage.radix * stage.groups * stage.step == points
        step *= stage.radix
    assert step == points


@pytest.mark.parametrize("points", [8, 12, 18, 44, 250])
def test_lengths_without_a_kernel(points: int) -> None:
    assert stages(points) is None

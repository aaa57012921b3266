"""PoolToMean: one window over the whole image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.api import compile_model
from compiler.onnx_export import export_bytes
from compiler.ops.pool import AveragePool, GlobalAveragePool
from compiler.quantize import represented
from compiler.target import make_target
from passes.pool_to_mean import PoolToMean
from targets import find_target
from targets.tflite.check import check
from tests.passes.composed import Net, Term, becomes, stays


def pool(x: Term, *kernel: int, pads: int = 0, stride: int = 1) -> Term:
    n = len(kernel)
    return x.net(AveragePool(kernel=kernel, strides=(stride,) * n, pads=(pads,) * 2 * n, dilations=(1,) * n), x)


@pytest.mark.parametrize("size", [(9,), (8, 8), (3, 5), (2, 3, 4)])
def test_the_whole_image(size: tuple[int, ...]) -> None:
    net = Net()
    becomes(PoolToMean(), net.returns(pool(net.input(2, 3, *size), *size, stride=2)), {"global_average_pool": 1})


def test_windows_over_parts_and_padding_stay() -> None:
    net = Net()
    x = net.input(1, 3, 6, 6)
    stays(PoolToMean(), net.returns(pool(x, 6, 5), pool(x, 3, 3), pool(x, 6, 6, pads=1), net(GlobalAveragePool(), x)))


@pytest.mark.parametrize("device", ["nnapi", "edgetpu"])
def test_the_mean_has_a_scale_of_its_own(device: str, tmp_path: Path) -> None:
    net = Net()
    graph = net.returns(pool(net.input(1, 4, 8, 8), 8, 8))
    rows = np.random.default_rng(0).normal(0.5, 1, (12, 4, 8, 8)).astype(np.float32)
    means = rows.mean((2, 3))
    path = tmp_path / "m.tflite"
    asked = {"nnapi": "int8"}.get(device)
    source = export_bytes(graph)
    rounded = {"calibrate": {"x0": rows}, "observer": "minmax", "precision": asked}
    compiled = compile_model(source, make_target(find_target(device), rounded), path, verify="off")
    (mean,) = (n.output for n in compiled.graph.nodes if n.op.name == "global_average_pool")
    assert mean.type.quant is not None
    assert represented(mean.type.quant)[1] == pytest.approx(means.max(), rel=0.02)
    report = check(path, device)
    assert [p.code for p in report.placements if p.code == "MEAN"] == ["MEAN"]
    assert not report.errors and all(p.on_device for p in report.placements)
    found = np.stack([next(iter(compiled.run({"x0": row[None]}).values())).reshape(4) for row in rows])
    assert np.abs(found - means).max() < 0.02  # of a step of 0.03 at the scale of the operand

"""Small models for the neon target, and what compiles and runs their libraries."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as h
import onnx.numpy_helper as nh
import pytest

from compiler.api import compile_model
from targets.neon.artifact import NeonArtifact
from targets.neon.build import Toolchain, emulated, native

WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
CROSS = "aarch64-linux-gnu-gcc"


def needs(*commands: str) -> None:
    """Skip the test on a machine without these."""
    missing = [c for c in commands if shutil.which(c.split()[0]) is None]
    if missing:
        pytest.skip(f"this machine lacks {', '.join(missing)}")


def weight(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    """Random numbers, scaled so that results stay near 1."""
    fan = max(int(np.prod(shape[1:])), 1)
    data = np.random.default_rng([seed, *shape]).standard_normal(shape) / np.sqrt(fan)
    return nh.from_array(data.astype(np.float32), name)


def model(nodes: Sequence[onnx.NodeProto], weights: Sequence[onnx.TensorProto], x: tuple[int, ...], y: tuple[int, ...],
          ports: tuple[str, str] = ("image", "scores")) -> onnx.ModelProto:  # fmt: skip
    """Of one input and one output of floats."""
    given = [h.make_tensor_value_info(ports[0], onnx.TensorProto.FLOAT, x)]
    made = [h.make_tensor_value_info(ports[1], onnx.TensorProto.FLOAT, y)]
    graph = h.make_graph(list(nodes), "small CNN", given, made, list(weights))
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)


def small_cnn(side: int = 16) -> onnx.ModelProto:
    """A strided convolution, a block of a depthwise and a pointwise one with a residual connection, a classifier."""
    nodes = [
        h.make_node("Conv", ["image", "stem.w", "stem.b"], ["stem"], "stem", strides=[2, 2], pads=[1, 1, 1, 1]),
        h.make_node("Relu", ["stem"], ["stem.relu"], "stem/relu"),
        h.make_node("Conv", ["stem.relu", "depth.w", "depth.b"], ["depth"], "block/depth", group=8, pads=[1, 1, 1, 1]),
        h.make_node("Clip", ["depth", "zero", "six"], ["depth.relu6"], "block/relu6"),
        h.make_node("Conv", ["depth.relu6", "point.w", "point.b"], ["point"], "block/point"),
        h.make_node("Add", ["point", "stem.relu"], ["block"], "block/add"),
        h.make_node("Flatten", ["block"], ["flat"], "flatten"),
        h.make_node("Gemm", ["flat", "head.w", "head.b"], ["scores"], "head", transB=1),
    ]
    weights = [
        weight("stem.w", 8, 3, 3, 3), weight("stem.b", 8), weight("depth.w", 8, 1, 3, 3), weight("depth.b", 8, seed=1),
        weight("point.w", 8, 8, 1, 1), weight("point.b", 8, seed=2), weight("head.w", 10, 2 * side**2),
        weight("head.b", 10),
        nh.from_array(np.array(0, np.float32), "zero"), nh.from_array(np.array(6, np.float32), "six"),
    ]  # fmt: skip
    return model(nodes, weights, (1, 3, side, side), (1, 10))


def mlp() -> onnx.ModelProto:
    """Two dense layers."""
    nodes = [
        h.make_node("Gemm", ["x", "w1", "b1"], ["h"], "first", transB=1),
        h.make_node("Relu", ["h"], ["r"], "relu"),
        h.make_node("Gemm", ["r", "w2", "b2"], ["y"], "second", transB=1),
    ]
    weights = [weight("w1", 33, 17), weight("b1", 33), weight("w2", 5, 33), weight("b2", 5)]
    return model(nodes, weights, (64, 17), (64, 5), ("x", "y"))


def written(
    source: onnx.ModelProto, folder: Path, verify: str = "off", **options: Any
) -> NeonArtifact:  # Any: of the target
    """The library of a model."""
    made = compile_model(source, "neon", folder, verify=verify, **options)
    assert isinstance(made.artifact, NeonArtifact)
    assert made.report.passed
    return made.artifact


def texts(folder: Path) -> dict[str, bytes]:
    """The files of a library."""
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir())}


def shell(*words: str | Path, cwd: Path | None = None) -> str:
    """What a command prints. AssertionError with what it complains of."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.stderr[:3000]}"
    return done.stdout


def toolchains() -> list[Toolchain]:
    """What the machine has, with every warning an error."""
    found = [native(("-O1", *WARNINGS)), emulated(("-O2", "-static", *WARNINGS), "max")]
    return [t for t in found if t is not None]

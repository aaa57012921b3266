"""What the suite `neon` measures: single layers and models, in floats and in integers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.building import Builder
from benchmarks.catalogue import model_path
from benchmarks.commands import run_module
from compiler.tensor import Array

SEED = 4
LANES = {"float": {"dotprod": 4, "i8mm": 4}, "int8": {"dotprod": 16, "i8mm": 32}}
"""Multiply-accumulates of the widest instruction that a processor has for the numbers."""
IMAGE = (1, 3, 224, 224)
PEERS = {"float": ("ncnn", "LiteRT", "onnxruntime"), "int8": ("LiteRT", "onnxruntime")}


@dataclass(frozen=True, slots=True)
class Case:
    """A model of one input and the numbers that it is computed in.

    shape   of the input, channels first
    bar     what ours may take of the best peer
    limits  millions of instructions that ours may take, by processor
    runs    inferences of which the mean is taken
    """

    model: str
    numbers: str
    shape: tuple[int, ...]
    bar: float = 1.0
    limits: tuple[tuple[str, float], ...] = ()
    runs: int = 1

    @property
    def name(self) -> str:
        return f"{self.model} {self.numbers}"

    @property
    def is_layer(self) -> bool:
        return self.model in LAYERS


PIXELS = (56, 56)
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    "gemm_256": ((256, 256), (256, 256), 1),
    "conv_3x3_64": ((1, 64, *PIXELS), (64, 64, 3, 3), 1),
    "depthwise_3x3_128": ((1, 128, *PIXELS), (128, 1, 3, 3), 128),
    "conv_1x1_128": ((1, 128, *PIXELS), (128, 128, 1, 1), 1),
}
"""Of each single layer the input, the weights and the groups."""
CASES = (
    *(Case(name, "float", shape, runs=4) for name, (shape, _, _) in LAYERS.items()),
    Case("mobilenet_v2", "float", IMAGE, limits=(("dotprod", 95.0),), runs=2),
    Case("resnet18", "float", IMAGE, bar=1.05),
    Case("vit_tiny", "float", IMAGE, bar=1.05),
    *(Case(name, "int8", shape, runs=4) for name, (shape, _, _) in LAYERS.items()),
    Case("mobilenet_v2", "int8", IMAGE, limits=(("dotprod", 42.0), ("i8mm", 34.0)), runs=2),
    Case("resnet18", "int8", IMAGE),
)


def processors(case: Case) -> tuple[str, ...]:
    """Those that compute it in different ways."""
    return ("dotprod",) if case.numbers == "float" else ("dotprod", "i8mm")


def layer(name: str, last: bool = False) -> onnx.ModelProto:
    """One layer with random weights and biases; if `last`, of an image with channels last, and to one."""
    shape, weights, groups = LAYERS[name]
    rng = np.random.default_rng(SEED)
    b = Builder()
    w = b.constant(rng.standard_normal(weights) / np.prod(weights[1:]) ** 0.5)
    bias = b.constant(rng.standard_normal(weights[0]) / 10)
    if len(shape) == 2:
        y = b.add("Gemm", "x", w, bias)
        return b.model(name, {"x": shape}, {y: shape})
    x = b.add("Transpose", "x", perm=[0, 3, 1, 2]) if last else "x"
    y = b.add("Conv", x, w, bias, kernel_shape=list(weights[2:]), pads=[weights[2] // 2] * 4, group=groups)
    y = b.add("Transpose", y, perm=[0, 2, 3, 1]) if last else y
    n, c, *size = shape
    ports = (n, *size, c) if last else shape
    return b.model(name, {"x": ports}, {y: ports})


def source(case: Case, cache: Path, last: bool = False) -> Path:
    """The ONNX file of a case, made unless it is there."""
    if not case.is_layer:
        run_module("benchmarks.models", "--cache", str(cache), case.model)
        return model_path(cache, case.model)
    path = cache / "models" / f"neon_{case.model}{'_last' if last else ''}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(layer(case.model, last), path)
    return path


def values(case: Case) -> Array:
    """The input on which everybody is measured."""
    return np.random.default_rng(SEED).standard_normal(case.shape).astype(np.float32)

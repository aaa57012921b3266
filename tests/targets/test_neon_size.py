"""The source of a library stays small enough to be read, and to be built in a few seconds: of MobileNetV2, in each
precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as h
import onnx.numpy_helper as nh
import pytest

from compiler.api import compile_model
from tests.targets.neon_models import model, weight, written

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST = 200_000  # bytes, of all files but the weights
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Of MobileNetV2 (M. Sandler et al., 2018, table 2): how much wider each is inside, channels, repetitions, stride."""


class Builder:
    """Layers one after the other, named as PyTorch exports them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights = [nh.from_array(np.array(n, np.float32), name) for n, name in ((0, "zero"), (6, "six"))]

    def add(self, kind: str, inputs: list[str], path: str, **attributes: Any) -> str:  # Any: of an operator
        name = f"{path}/{kind}"
        self.nodes.append(h.make_node(kind, inputs, [f"{name}_output_0"], name, **attributes))
        return f"{name}_output_0"

    def conv(self, x: str, path: str, shape: tuple[int, int, int], stride: int, *, limited: bool) -> str:
        """A convolution of [filters, channels of each, size], with Relu6 behind it if it is `limited`."""
        filters, channels, size = shape
        self.weights += [weight(f"{path}.weight", filters, channels, size, size), weight(f"{path}.bias", filters)]
        form = {"group": filters if channels == 1 else 1, "strides": [stride] * 2, "pads": [size // 2] * 4}
        folder = f"{path}/{Path(path).name}"
        made = self.add("Conv", [x, f"{path}.weight", f"{path}.bias"], f"{folder}.0", **form)
        return self.add("Clip", [made, "zero", "six"], f"{folder}.2") if limited else made


def mobilenet_v2(side: int) -> onnx.ModelProto:
    b = Builder()
    x, width, number = b.conv("image", "/features/features.0", (32, 3, 3), 2, limited=True), 32, 0
    for factor, channels, count, first in BLOCKS:
        for i in range(count):
            number += 1
            path, before, inner, at = f"/features/features.{number}", x, factor * width, 0
            if factor > 1:
                x = b.conv(x, f"{path}/conv/conv.0", (inner, width, 1), 1, limited=True)
                at = 1
            x = b.conv(x, f"{path}/conv/conv.{at}", (inner, 1, 3), 1 if i else first, limited=True)
            x = b.conv(x, f"{path}/conv/conv.{at + 1}", (channels, inner, 1), 1, limited=False)
            x = b.add("Add", [before, x], path) if i else x
            width = channels
    x = b.conv(x, f"/features/features.{number + 1}", (1280, width, 1), 1, limited=True)
    x = b.add("Flatten", [b.add("GlobalAveragePool", [x], "")], "")
    b.weights += [weight("classifier.1.weight", 1000, 1280), weight("classifier.1.bias", 1000)]
    b.nodes.append(h.make_node("Gemm", [x, "classifier.1.weight", "classifier.1.bias"], ["scores"], "fc", transB=1))
    return model(b.nodes, b.weights, (1, 3, side, side), (1, 1000))


def source(folder: Path) -> int:
    """Bytes of all files but the weights."""
    return sum(p.stat().st_size for p in folder.iterdir() if p.name != "weights.bin")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_source_of_mobilenet_v2(precision: str, tmp_path: Path) -> None:
    assert source(written(mobilenet_v2(224), tmp_path / "mobilenet_v2", precision=precision).path) <= MOST


@pytest.mark.slow  # since it is calibrated
def test_source_of_mobilenet_v2_in_int8(tmp_path: Path) -> None:
    made = written(mobilenet_v2(96), tmp_path / "mobilenet_v2", precision="int8", calibrate="synthetic")
    assert source(made.path) <= MOST


def test_source_of_a_small_one_in_int8(tmp_path: Path) -> None:
    """Of fewer layers, which takes 5/6 of what MobileNetV2 does."""
    model = EXAMPLES / "mobilenetv2s_cifar10_b1.onnx"
    compile_model(model, "neon", tmp_path / "small", precision="int8", calibrate="synthetic", verify="off")
    assert source(tmp_path / "small") <= MOST * 5 / 6

"""Runs the command in this process or in one of its own, for tests of what it prints and returns."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compiler.cli import main
from compiler.tensor import Array

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parent.parent


class Outcome(NamedTuple):
    """Exit code, and what was printed where."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:  # Any: JSON
        """The one object on standard output."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def sentence(self) -> str:
        """The first line of the error."""
        return self.err.splitlines()[0] if self.err else ""


class Command:
    """The command as a function of its arguments."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *argv: object) -> Outcome:
        """In this process."""
        self.capsys.readouterr()
        code = main([str(a) for a in argv])
        gc.unfreeze()  # this process goes on
        return Outcome(code, *self.capsys.readouterr())


def spawn(*argv: object, module: str = "compiler", **environment: str) -> Outcome:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, argv)],
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        timeout=120,
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def f32(values: object) -> Array:
    """Single-precision numbers."""
    return np.array(values, np.float32)


def node(op_type: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:  # Any: handed to onnx
    """A node that is named after its output; operands are separated by blanks."""
    return helper.make_node(op_type, inputs.split(), output.split(), f"{output.partition(' ')[0]}_node", **attributes)


def info(
    name: str, shape: Sequence[int | str | None] | None = None, kind: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    """The declaration of a tensor."""
    return helper.make_tensor_value_info(name, kind, shape)


def build(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, Any] | None = None,  # Any: what numpy takes
    opset: int = 17,
    **options: Any,  # Any: handed to onnx
) -> onnx.ModelProto:
    """A model of these parts."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **options)


def convolutional() -> onnx.ModelProto:
    """conv -> batch norm -> relu -> conv -> batch norm, on an image."""
    rng = np.random.default_rng(5)
    weights: dict[str, Any] = {}
    nodes = []
    for i, (source, channels) in enumerate((("x", 3), ("r", 4))):
        weights[f"w{i}"] = rng.standard_normal((4, channels, 3, 3)).astype(np.float32)
        for name in ("gamma", "beta", "mean"):
            weights[f"{name}{i}"] = rng.standard_normal(4).astype(np.float32)
        weights[f"var{i}"] = rng.uniform(0.5, 2, 4).astype(np.float32)
        nodes += [
            node("Conv", f"{source} w{i}", f"a{i}", pads=[1, 1, 1, 1]),
            node("BatchNormalization", f"a{i} gamma{i} beta{i} mean{i} var{i}", f"b{i}"),
        ]
    nodes.insert(2, node("Relu", "b0", "r"))
    return build(nodes, [info("x", ["n", 3, 8, 8])], [info("b1", ["n", 4, 8, 8])], weights)

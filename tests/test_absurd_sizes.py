"""Models whose sizes are absurd end with one sentence, in little time and memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from compiler.graph import Graph
from compiler.ops import Mul
from compiler.tensor import F32, TensorType
from tests.command import ROOT, build, f32, info, node

if TYPE_CHECKING:
    import onnx

TARGETS = ("onnx", "ane", "nnapi")
X, Y = info("x", [2, 3]), info("y", [2, 3])
RELU = [node("Relu", "x", "y")]


# ru_maxrss would remember the size of the process that started this one; the high-water mark of its memory does not.
LIMITED = """
import re, sys
sys.path.insert(0, {root!r})
from compiler.cli import main
code = main(sys.argv[1:])
peak = re.search(r"VmHWM:\\s+([0-9]+) kB", open("/proc/self/status").read())
print("peak", int(peak[1]) >> 10, file=sys.stderr)
sys.exit(code)
"""


def absurd_input() -> onnx.ModelProto:
    return build(RELU, [info("x", [1 << 20, 1 << 20, 1 << 20])], [info("y", None)])


def absurd_product() -> onnx.ModelProto:
    return build([node("Add", "a b", "y")], [info("a", [1 << 22, 1]), info("b", [1, 1 << 22])], [info("y", None)])


def absurd_initializer() -> onnx.ModelProto:
    model = build([node("Add", "x w", "y")], [X], [info("y", None)], {"w": np.ones(4, np.float32)})
    model.graph.initializer[0].dims[:] = [1 << 40]
    return model


def absurd_constant(*dims: int) -> Callable[[], onnx.ModelProto]:
    def build_it() -> onnx.ModelProto:
        nodes = [node("ConstantOfShape", "shape", "c"), node("ReduceSum", "c", "s"), node("Add", "x s", "y")]
        return build(nodes, [X], [info("y", None)], {"shape": np.array(dims, np.int64)})

    return build_it


def absurd_expand() -> onnx.ModelProto:
    nodes = [node("Expand", "w shape", "e"), node("ReduceMax", "e", "m"), node("Add", "x m", "y")]
    return build(nodes, [X], [info("y", None)], {"w": f32([1]), "shape": np.array([1 << 36], np.int64)})


def absurd_range() -> onnx.ModelProto:
    ends = {"low": np.int64(0), "high": np.int64(1 << 40), "step": np.int64(1)}
    nodes = [node("Range", "low high step", "r"), node("Cast", "r", "f", to=1), node("ReduceMax", "f", "m")]
    return build([*nodes, node("Add", "x m", "y")], [X], [info("y", None)], ends)


def absurd_tile() -> onnx.ModelProto:
    return build(
        [node("Tile", "x n", "t"), node("Relu", "t", "y")], [X], [info("y", None)], {"n": np.array([1 << 31] * 2)}
    )


def absurd_pad() -> onnx.ModelProto:
    pads = np.array([0, 0, 1 << 40, 0], np.int64)
    return build([node("Pad", "x pads", "y")], [X], [info("y", None)], {"pads": pads})


ABSURD = [
    absurd_input,
    absurd_product,
    absurd_initializer,
    absurd_constant(1 << 40),
    absurd_constant(1 << 32, 1 << 32),
    absurd_expand,
    absurd_range,
    absurd_tile,
    absurd_pad,
]


@pytest.mark.parametrize("verify", ["final", "off"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", ABSURD, ids=lambda f: getattr(f, "__name__", ""))
def test_absurd_sizes_take_little_memory(
    make: Callable[[], onnx.ModelProto], target: str, verify: str, tmp_path: Path
) -> None:
    """In a process of its own, so that its peak memory can be read."""
    path = tmp_path / "m.onnx"
    path.write_bytes(make().SerializeToString())
    program = LIMITED.format(root=str(ROOT))
    argv = [sys.executable, "-c", program, str(path), "-t", target, "-o", str(tmp_path / "out"), "--verify", verify]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    peak = int(done.stderr.split()[-1])
    assert peak < 400, f"{peak} MiB"
    assert done.returncode == 1 or (verify == "off" and done.returncode == 0), done.stderr
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr, done.stderr
    assert {p.name for p in tmp_path.iterdir()} - {"m.onnx"} == ({"out"} if done.returncode == 0 else set())


def test_a_constant_that_very_many_layers_read_costs_no_more_than_theirs() -> None:
    graph = Graph()
    shared = graph.const(f32(2))
    value = graph.add_input(TensorType(F32, (1,)), "x")
    for _ in range(20_000):
        (value,) = graph.add(Mul(), value, shared)
    graph.set_outputs([value], ["y"])
    started = time.process_time()
    graph.verify()
    assert time.process_time() - started < 5

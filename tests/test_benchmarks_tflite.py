"""The benchmark suite on TFLite files: what they hold, how they are run and timed, and the bars for them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import latency, scores
from benchmarks.check import check_tflite
from benchmarks.measure import Cost
from benchmarks.tflite_file import arranged, executed, invoker, operators
from compiler.api import compile_model
from tests.test_benchmarks import result, session


def image_model(tmp_path: Path) -> tuple[Path, Path]:
    """A model of an image and its .tflite file: two pools around a rectifier, channels last in the file."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x) => (float[1, 3, 2, 2] y) {
            a = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
            b = Neg(a)
            y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
        }"""
    source = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), source)
    compile_model(source, "nnapi", tmp_path / "m.tflite", verify="off")
    return source, tmp_path / "m.tflite"


def test_check_of_a_tflite_file(tmp_path: Path) -> None:
    source, artifact = image_model(tmp_path)
    assert sorted(operators(artifact)) == ["MAX_POOL_2D", "MAX_POOL_2D", "NEG"]
    found = check_tflite(source, artifact)
    assert (found.nodes_in, found.nodes, found.max_abs, found.error) == (3, 3, 0.0, None)
    wrong = onnx.load(source)
    wrong.graph.node[1].op_type = "Exp"
    onnx.save(wrong, source)
    other = check_tflite(source, artifact)
    assert other.psnr_db is not None
    assert other.psnr_db < 20
    wrong.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
    wrong.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    onnx.save(wrong, source)
    assert "(1, 5, 8, 8)" in (check_tflite(source, artifact).error or "")


def test_inputs_of_tflite_files_are_turned_to_lie_as_the_file_says(tmp_path: Path) -> None:
    _, artifact = image_model(tmp_path)
    x = np.arange(192, dtype=np.float32).reshape(1, 3, 8, 8)
    (y,) = executed(artifact, {"x": x})
    assert y.shape == (1, 2, 2, 3)
    assert y[0, 0, 0].tolist() == [-9, -73, -137]
    assert arranged(y, (1, 3, 2, 2)).tolist() == y.transpose(0, 3, 1, 2).tolist()
    assert arranged(np.ones((1, 5, 1, 1)), (1, 5)).shape == (1, 5)
    with pytest.raises(ValueError, match="where the file has"):
        arranged(y, (3, 2, 2, 1))


class Clock:
    """A clock that only moves when something takes time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def takes(self, name: str, seconds: float) -> latency.Invoke:
        def invoke() -> None:
            self.order.append(name)
            self.now += seconds

        return invoke


def test_files_are_timed_in_turn() -> None:
    clock = Clock()
    rounds = latency.timed([clock.takes("a", 0.5), clock.takes("b", 2.0)], seconds=10, clock=clock)
    assert rounds == [(0.5, 2.0)] * latency.LEAST_ROUNDS
    assert "".join(clock.order[4:]) == "abbaabbaab"  # after the first call, and the one that says how long it takes
    ours, theirs = latency.summary([(1.0, 2.0), (3.0, 3.0), (1.0, 4.0)])
    assert (ours.ratio, ours.median_ms, ours.least_ms, ours.rounds) == (0.5, 1000.0, 1000.0, 3)
    assert (theirs.ratio, theirs.median_ms) == (1.0, 3000.0)


def test_short_invocations_are_timed_together() -> None:
    clock = Clock()
    rounds = latency.timed([clock.takes("a", latency.LEAST_S / 4)], seconds=0, clock=clock)
    assert len(rounds) == latency.LEAST_ROUNDS
    assert len(clock.order) == 2 + 4 * latency.LEAST_ROUNDS
    assert all(math.isclose(a, latency.LEAST_S / 4) for (a,) in rounds)


def test_a_file_is_invoked(tmp_path: Path) -> None:
    _, artifact = image_model(tmp_path)
    assert len(latency.timed([invoker(str(artifact))], seconds=0)) == latency.LEAST_ROUNDS


def test_tflite_memory_has_room_for_the_file_and_the_runtime() -> None:
    ours, peer = result("cincel", 0.5, suite="tflite"), result("onnx2tf", 2.0, suite="tflite")
    (memory,) = scores.allowed_memory_verdicts(session(ours, peer), "tflite")
    assert (memory.value, memory.bar, memory.holds) == (30_000_000, 163_000_000, True)
    large = replace(ours, runs=[Cost(0, 1.0, 1.0, 163_000_001)])
    assert scores.allowed_memory_verdicts(session(large), "tflite")[0].holds is False
    assert scores.allowed_memory_verdicts(session(replace(ours, error="no")), "tflite")[0].holds is False
    (cpu,) = scores.cpu_verdicts(session(ours, peer), "tflite")
    assert (cpu.value, cpu.bar, cpu.holds) == (0.25, 0.5, True)


def test_latency_counts_where_the_file_of_the_peer_runs() -> None:
    peer = result("onnx2tf", 1.0, suite="latency", ratio=1.0)
    faster, slower = (result("cincel", 1.0, suite="latency", ratio=r) for r in (0.6, 1.001))
    assert [v.holds for v in scores.latency_verdicts(session(faster, peer))] == [True]
    assert [v.holds for v in scores.latency_verdicts(session(slower, peer))] == [False]
    broken = replace(faster, latency=None, error="LiteRT does not run it")
    assert [v.holds for v in scores.latency_verdicts(session(broken, peer))] == [False]
    assert [v.holds for v in scores.latency_verdicts(session(faster, replace(peer, latency=None)))] == [None]

"""The file: where its constants lie, which of them have 16 bits, and that it appears complete or not at all."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.api import compile_model
from compiler.errors import EmitError, LegalityError
from compiler.graph import Graph, Value
from compiler.ops import Add, Gather, MatMul, Relu
from compiler.tensor import F32, I64, Array, TensorType
from targets.tflite import model as tflite_model
from targets.tflite import writer
from targets.tflite.artifact import TfLiteArtifact
from targets.tflite.schema import schema
from targets.tflite.target import TfLiteTarget
from tests.command import build, info, node
from tests.real_models import real_model
from tests.targets.tflite_harness import emitted

MODELS = ("mlperf_tiny_vww", "vit_fashion_b1", "silero_vad_16k_static")


def read(path: Path) -> Any:  # Any: the generated schema classes have no types
    return schema().ModelT.InitFromPackedBuf(path.read_bytes())


# -- files above 2 GiB ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", MODELS)
def test_constants_behind_the_flatbuffer(
    name: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form of large files, on a small one: the same constants, which LiteRT reads from there."""
    model = real_model(name)
    within = compile_model(model.path, "nnapi", tmp_path / "a.tflite", inputs=model.bind, precision=precision)
    monkeypatch.setattr(writer, "LIMIT", 20_000)
    behind = compile_model(model.path, "nnapi", tmp_path / "b.tflite", inputs=model.bind, precision=precision)
    assert behind.report.verification == within.report.verification and behind.report.passed
    data, first, second = behind.path.read_bytes(), read(within.path).buffers, read(behind.path).buffers
    assert len(first) == len(second)
    ends = 0
    for a, b in zip(first[2:], second[2:], strict=True):
        assert b.data is None and b.offset % writer.ALIGN == 0 and b.offset >= ends
        ends = b.offset + b.size
        assert data[b.offset : ends] == bytes(a.data if a.data is not None else b"")
    assert ends == len(data)
    metadata = bytes(second[1].data).rstrip(b"\0").decode()
    assert tuple(map(int, metadata.split("."))) >= (2, 15, 0)


@pytest.mark.parametrize("limit", [writer.LIMIT, 0])
def test_constants_without_elements(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shape of a scalar is one; it lies in the FlatBuffer in either form."""
    monkeypatch.setattr(writer, "LIMIT", limit)
    graph = Graph()
    x = graph.add_input(TensorType(F32, ()), "x")
    graph.set_outputs([x, *graph.add(Relu(), x)], ["same", "y"])
    results = emitted(graph, tmp_path / "m.tflite").run({"x": np.array(3, np.float32)})
    assert {k: (v.shape, float(v)) for k, v in results.items()} == {"same": ((), 3.0), "y": ((), 3.0)}


@pytest.mark.slow
def test_a_file_above_2_gib(tmp_path: Path) -> None:
    """Three tables of 768 MiB, from which rows are read."""
    graph = Graph()
    x = graph.add_input(TensorType(I64, (2,)), "x")
    rows, columns = 1 << 20, 192
    parts: list[Value] = []
    for i in range(3):
        row = np.arange(columns, dtype=np.float32) + 1000 * (i + 1)
        parts += graph.add(Gather(axis=0), graph.const(np.broadcast_to(row, (rows, columns)), f"table{i}"), x)
    (y,) = graph.add(Add(), *graph.add(Add(), *parts[:2]), parts[2])
    graph.set_outputs([y], ["y"])
    artifact = emitted(graph, tmp_path / "m.tflite")
    assert artifact.size > 2**31
    expected = np.broadcast_to(3 * np.arange(columns, dtype=np.float32) + 6000, (2, columns))
    np.testing.assert_array_equal(artifact.run({"x": np.array([0, rows - 1])})["y"], expected)


# -- 16 bits ----------------------------------------------------------------------------------------------------------


def perceptron(*widths: int) -> tuple[Graph, list[Array]]:
    """Dense layers between which there are rectifiers."""
    rng = np.random.default_rng(0)
    graph = Graph()
    value = graph.add_input(TensorType(F32, (4, widths[0])), "x")
    weights = []
    for rows, columns in pairwise(widths):
        weights.append((rng.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32))
        (value,) = graph.add(MatMul(), value, graph.const(weights[-1], f"w{len(weights)}"))
        (value,) = graph.add(Relu(), value)
    graph.set_outputs([value], ["y"])
    return graph, weights


def widths_in(artifact: TfLiteArtifact) -> list[int]:
    """Sizes of the float16 constants."""
    (graph,) = read(artifact.path).subgraphs
    return sorted(int(np.prod(t.shape)) for t in graph.tensors if t.type == schema().TensorType.FLOAT16)


def test_the_smallest_kernels_stay_in_32_bits(tmp_path: Path) -> None:
    graph, weights = perceptron(64, 32, 512, 512)
    artifact = emitted(graph, tmp_path / "m.tflite", "fp16")
    assert [w.size for w in weights] == [2048, 16384, 262144]
    assert widths_in(artifact) == [16384, 262144]  # the first has less than 2 % of the elements
    assert artifact.operators["DEQUANTIZE"] == 2
    assert not artifact.warnings


@pytest.mark.parametrize(("wanted", "left"), [(1, [16384, 262144]), (2, [262144]), (3, [])])
def test_as_many_kernels_as_needed_stay_in_32_bits(wanted: int, left: list[int], tmp_path: Path) -> None:
    graph, _ = perceptron(64, 32, 512, 512)
    artifact = emitted(graph, tmp_path / "m.tflite", "fp16")
    asked = []

    def good() -> bool:
        asked.append(widths_in(artifact))
        return len(asked[-1]) <= 3 - wanted

    refined = wanted > 1 and artifact.refine(good)
    assert refined == (wanted > 1) and widths_in(artifact) == left
    if refined:
        assert asked[-1] == left and artifact.size == artifact.path.stat().st_size
        (warning,) = artifact.warnings
        assert warning.startswith(f"{wanted} of 3 weights stay in 32 bits") and f"'w{wanted}'" in warning
    x = np.ones((4, 64), np.float32)
    full = emitted(perceptron(64, 32, 512, 512)[0], tmp_path / "full.tflite")
    assert np.allclose(artifact.run({"x": x})["y"], full.run({"x": x})["y"], atol=1e-2)
    if not left:
        assert artifact.path.read_bytes() == full.path.read_bytes()


def test_nothing_changes_where_more_bits_do_not_help(tmp_path: Path) -> None:
    artifact = emitted(perceptron(64, 32, 512, 512)[0], tmp_path / "m.tflite", "fp16")
    before = artifact.path.read_bytes()
    assert artifact.refine(lambda: False) is False
    assert artifact.path.read_bytes() == before and not artifact.warnings
    assert not emitted(perceptron(64, 32)[0], tmp_path / "m.tflite").refine(lambda: True)  # fp32


def test_a_measurement_below_tolerance_asks_for_more_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = real_model("mlperf_tiny_vww")
    plain = compile_model(model.path, "nnapi", tmp_path / "a.tflite", precision="fp16").report
    assert plain.verification is not None and plain.passed and not plain.warnings
    wanted = plain.verification[0].psnr_db + 3
    monkeypatch.setattr(TfLiteTarget, "tolerance_db", wanted)
    refined = compile_model(model.path, "nnapi", tmp_path / "b.tflite", precision="fp16").report
    assert refined.verification is not None and refined.verification[0].psnr_db >= wanted
    assert plain.size < refined.size == (tmp_path / "b.tflite").stat().st_size
    assert any("stay in 32 bits for accuracy" in w for w in refined.warnings)


@pytest.mark.parametrize(
    ("factor", "bits"),
    [(1.0, 16), (1e-5, 32), (1e38, 32), (0.0, 16), (np.inf, 16), (np.nan, 16)],
    ids=["ordinary", "subnormal", "beyond", "zero", "infinite", "no numbers"],
)
def test_weights_that_16_bits_hold(factor: float, bits: int, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).uniform(0.5, 1, (64, 64)).astype(np.float32)
    weight[0] *= np.float32(factor) if not factor or not np.isfinite(factor) else 1
    weight *= np.float32(factor) if factor and np.isfinite(factor) else 1
    graph = Graph()
    x = graph.add_input(TensorType(F32, (2, 64)), "x")
    graph.set_outputs(graph.add(MatMul(), x, graph.const(weight, "w")), ["y"])
    assert widths_in(emitted(graph, tmp_path / "m.tflite", "fp16")) == [4096] * (bits == 16)


def test_one_buffer_for_one_array_under_two_shapes(tmp_path: Path) -> None:
    """A table that is read by rows, and transposed as the matrix of a dense layer, as language models have it."""
    table = np.random.default_rng(0).standard_normal((512, 64)).astype(np.float32)
    graph = Graph()
    x = graph.add_input(TensorType(I64, (3,)), "x")
    (rows,) = graph.add(Gather(axis=0), graph.const(table, "table"), x)
    graph.set_outputs(graph.add(MatMul(), rows, graph.const(table.T, "transposed")), ["y"])
    artifact = emitted(graph, tmp_path / "m.tflite")
    assert artifact.size < 1.1 * table.nbytes
    picked = np.array([5, 0, 511])
    assert np.allclose(artifact.run({"x": picked})["y"], table[picked] @ table.T, atol=1e-4)


# -- writing ----------------------------------------------------------------------------------------------------------


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = perceptron(64, 64)
    path = tmp_path / "m.tflite"
    path.write_bytes(b"older")

    reason: list[BaseException] = [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]

    def fail(_: tflite_model.Constant) -> Any:
        raise reason.pop(0)

    monkeypatch.setattr(tflite_model.Constant, "pieces", fail)
    with pytest.raises(EmitError, match=r'cannot be written to ".*m\.tflite": no space left'):
        emitted(graph, path)
    with pytest.raises(KeyboardInterrupt):
        emitted(graph, path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"] and path.read_bytes() == b"older"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EmitError, match="something else than a file"):
        emitted(perceptron(8, 8)[0], tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 1
    assert emitted(perceptron(8, 8)[0], tmp_path / ("x" * 255)).size > 256  # no name of another file is too long


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_what_is_no_name_of_a_file(name: str) -> None:
    with pytest.raises(EmitError, match="this is not the name of a file"):
        emitted(perceptron(8, 8)[0], Path(name))


def test_too_many_elements_are_refused(tmp_path: Path) -> None:
    model = build([node("Relu", "x", "y")], [info("x", [1 << 16, 1 << 15])], [info("y", None)])
    with pytest.raises(LegalityError, match=r"needs fewer than 2\^31 elements"):
        compile_model(model, "nnapi", tmp_path / "m.tflite", verify="off")
    assert not list(tmp_path.iterdir())


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "x" * 70_000, "const", "self", "é\u2028'\"\\"], ids=["empty", "long", "taken", "self", "odd"]
)
def test_names_of_inputs_and_outputs(name: str, tmp_path: Path) -> None:
    """An input that is an output too, and outputs that are constants, under any name."""
    graph = Graph(name)
    x = graph.add_input(TensorType(F32, (2,)), name or "x")
    constant = graph.const(np.ones(2, np.float32), "const")
    graph.set_outputs([x, constant, constant], [name + "out", name + "0", name + "1"])
    artifact = emitted(graph, tmp_path / "m.tflite")
    results = artifact.run({name or "x": np.array([3, 4], np.float32)})
    assert {k: v.tolist() for k, v in results.items()} == {
        name + "out": [3, 4],
        name + "0": [1, 1],
        name + "1": [1, 1],
    }

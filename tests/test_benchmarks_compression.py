"""The suite of compression: cases, counts, the cut of dense layers, times, tables, and a tiny run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import (
    compression,
    compression_cases,
    compression_file,
    compression_latency,
    compression_own,
    compression_report,
    compression_rows,
    int8,
    peers,
    report,
)
from benchmarks.catalogue import COMPRESSED, COMPRESSION
from benchmarks.compression_cases import ALEXNET, API, COMMAND, DENSE, EQUAL, MOBILENET, PARTS, PEER, PRUNING, cases
from benchmarks.latency import Rounds
from benchmarks.measure import Cost
from benchmarks.results import Counts, Machine, Paired, Quality, Result, Session, Shrunk, parse, write_line

MACHINE = Machine("2026-01-02", "Linux", "Some CPU", 2, 8_000_000_000, "3.11.0", {"onnx": "1.0"}, 0.5, 20_000_000)
WHOLE = Counts(1000, 800, 4000)
MODEL = "alexnet32_cifar10_dyn"  # a name that rows are known for


def net(path: Path, seed: int = 0) -> Path:
    """A convolution, a pool to 4x4 and two dense layers of 64 and 10 on images of 32x32."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        fan = int(np.prod(shape[1:])) or 1
        return numpy_helper.from_array((rng.standard_normal(shape) / fan**0.5).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["input", "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("AveragePool", ["r"], ["p"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "v"], ["logits"], transB=1),
    ]
    weights = [weight("k", 8, 3, 3, 3), weight("w", 64, 128), weight("v", 10, 64)]
    ports = [
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
    ]
    graph = helper.make_graph(nodes, "net", ports[0], ports[1], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def images(folder: Path, model: Path, train: int = 96, test: int = 24) -> None:
    """Sets by the names that are known, labelled by the model."""
    session = onnxruntime.InferenceSession(model)
    means, deviations = np.array([0.4914, 0.4822, 0.4465]), np.array([0.247, 0.2435, 0.2616])
    for seed, (name, count) in enumerate((("train", train), ("test", test))):
        pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
        rows = ((pixels / 255 - means) / deviations).transpose(0, 3, 1, 2).astype(np.float32)
        labels = session.run(None, {"input": rows})[0].argmax(1).astype(np.uint8)
        np.savez(folder / f"cifar10_{name}.npz", images=pixels, labels=labels)


def result(
    tool: str, after: Counts | None, top1: float, *, part: str = DENSE, model: str = ALEXNET, left: float = 0.0,
    dense: float | None = None,
) -> Result:  # fmt: skip
    timed = {} if dense is None else {"LiteRT dense": Paired(30, 2.0, 1.0, 2.1, dense, 1.0, 3.0)}
    shrunk = Shrunk(part, left, WHOLE, after, timed)
    quality = Quality(100, 20.0, 20.0, top1, 78.0)
    return Result(COMPRESSION, model, tool, [Cost(0, 2.0, 2.0, 1)], 4000, 1000, quality=quality, shrunk=shrunk)


def session(*results: Result) -> Session:
    return Session(MACHINE, {(r.suite, r.model, r.tool): r for r in results})


# Cases


def test_every_case_has_a_name_of_its_own_and_a_known_way() -> None:
    found = list(cases(compression_cases.RECOVERIES, PARTS, peers=True))
    assert len({(c.model, c.tool) for c in found}) == len(found)
    assert {c.model for c in found} == set(COMPRESSED) and {c.part for c in found} == set(PARTS)
    assert {c.how for c in found} == {COMMAND, API, PEER}
    assert all(c.left > 0 for c in found if c.part in (EQUAL, PRUNING))


def test_cases_are_narrowed_down() -> None:
    plain = list(cases(["none"], [DENSE], peers=True))
    assert [c.words[-2:] for c in plain] == [("--recover", "none")] * len(plain)
    both = list(cases(["none", "train"], [DENSE], peers=True))
    assert [c.words[-2:] for c in both[1::2]] == [("--recover", "train")] * len(plain)
    assert not any(c.how == PEER for c in cases(["none"], PARTS, peers=False))


def test_peers_have_an_environment_and_every_method_a_driver() -> None:
    assert compression_cases.ENVIRONMENT in peers.ENVIRONMENTS
    driver = (peers.HERE / "foreign" / "torch_compress.py").read_text()
    for how, method in (*compression_cases.SPLITS.values(), *compression_cases.PRUNERS.values()):
        assert how != PEER or all(f'"{word}"' in driver for word in _words(method)), method


def _words(method: str) -> list[str]:
    return [w for w in method.split("-") if w != "pruning"] if method.startswith("pruning") else [method]


# Rows, counts, cut


def test_rows_are_prepared_and_have_labels(tmp_path: Path) -> None:
    model = net(tmp_path / f"{MODEL}.onnx")
    images(tmp_path, model, 20, 8)
    rows = compression_rows.write_rows(model, tmp_path, tmp_path, fitted=12, held=5)
    assert (rows.calibrate, rows.held, rows.bound) == (12, 5, {"input": [1, 3, 32, 32]})
    with np.load(tmp_path / "fit.npz") as fit, np.load(tmp_path / "cifar10_train.npz") as given:
        assert fit["input"].shape == (12, 3, 32, 32) and fit["input"].dtype == np.float32
        assert fit["labels"].tolist() == given["labels"][:12].tolist()
        expected = (given["images"][3, 4, 5, 1] / 255 - 0.4822) / 0.2435
        assert fit["input"][3, 1, 4, 5] == pytest.approx(expected, rel=1e-5)


def test_without_rows_there_is_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no training and test rows"):
        compression_rows.write_rows(net(tmp_path / f"{MODEL}.onnx"), tmp_path, tmp_path)


def test_counts_and_cut_of_the_dense_layers(tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx")
    model = onnx.load(path)
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, path)
    found = compression_file.counts(path)
    dense = 64 * 128 + 10 * 64
    assert (found.parameters, found.dense) == (8 * 27 + dense, dense)
    assert found.macs >= 8 * 27 * 32 * 32 + dense
    compression_file.cut_dense(path, tmp_path / "d.onnx")
    cut = onnxruntime.InferenceSession(tmp_path / "d.onnx")
    (port,) = cut.get_inputs()
    assert port.shape == [1, 128]
    x = np.random.default_rng(1).standard_normal((1, 128)).astype(np.float32)
    w, v = (numpy_helper.to_array(t) for t in model.graph.initializer[1:])
    assert np.allclose(cut.run(None, {port.name: x})[0], np.maximum(x @ w.T, 0) @ v.T, atol=1e-5)
    assert compression_file.counts(tmp_path / "d.onnx").parameters == dense


def test_a_net_without_dense_layers_is_not_cut(tmp_path: Path) -> None:
    path = net(tmp_path / "m.onnx")
    model = onnx.load(path)
    del model.graph.node[3:], model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["batch", 8, 4, 4]))
    onnx.save(model, path)
    with pytest.raises(ValueError, match="no dense layer"):
        compression_file.cut_dense(path, tmp_path / "d.onnx")


# Single techniques


@pytest.mark.parametrize("method", ["plain", "same-ranks", "data", "prune-l2", "prune-auto"])
def test_single_techniques_keep_to_their_share(tmp_path: Path, method: str) -> None:
    path = net(tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    feeds = [{"input": rng.standard_normal((1, 3, 32, 32)).astype(np.float32)} for _ in range(24)]
    out = tmp_path / "out.onnx"
    compression_own.compress(path, feeds, out, method, 0.6, {"input": [1, 3, 32, 32]})
    found = compression_file.counts(out)
    if method.startswith("prune"):
        assert 0 < found.macs <= 0.6 * compression_file.counts(path_of_one(path)).macs
    else:
        assert 0 < found.parameters <= 0.75 * (8 * 27 + 64 * 128 + 10 * 64)  # what is too small to be split stays


def path_of_one(path: Path) -> Path:
    model = onnx.load(path)
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 1
    out = path.with_stem("one")
    onnx.save(model, out)
    return out


# Times


def test_the_speed_up_is_in_cpu_time_and_wall_medians_are_beside_it() -> None:
    wall: Rounds = [(0.004, 0.001), (0.002, 0.001), (0.009, 0.003)]
    cpu: Rounds = [(2.0, 1.0), (3.0, 1.0), (4.0, 1.0), (5.0, 1.0), (6.0, 1.0)]
    found = compression_latency.paired(wall, cpu)
    assert (found.rounds, found.before_ms, found.after_ms) == (8, 4.0, 1.0)
    assert found.wall == pytest.approx(3.0)
    assert (found.low, found.speedup, found.high) == (2.5, 4.0, 5.5)


def test_two_files_are_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = path_of_one(net(tmp_path / "m.onnx"))
    compression_latency.main([str(path), str(path), "--loads", "1", "--seconds", "0.02"])
    found = Paired(**json.loads(capsys.readouterr().out))
    assert found.rounds >= 10 and found.low <= found.speedup <= found.high


# A run


def test_a_tiny_run_counts_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    images(tmp_path, net(folder / f"{MODEL}.onnx"))
    monkeypatch.setitem(compression_cases._BUDGETS, ALEXNET, (("--compress", "1.5x"), ("--compress", "no number")))
    monkeypatch.setattr(compression_cases, "_LIMITED", {})
    asked = compression.Asked([MODEL], ["none"], [DENSE], peers=False, latency=False)
    good, bad = compression.results(int8.Folders(tmp_path, (folder,), tmp_path), asked)
    assert bad.error and "no number" in bad.error and bad.quality is None
    assert good.done and good.shrunk and good.shrunk.after and good.quality
    before, after = good.shrunk.before, good.shrunk.after
    assert before.dense == 64 * 128 + 10 * 64
    assert after.parameters <= before.parameters / 1.5 and after.dense < before.dense
    assert (good.quality.rows, good.quality.top1_float) == (24, 100.0)
    assert good.quality.top1 is not None and good.quality.top1 < 101
    text = report.render(session(good, bad))
    assert f"| cincel --compress 1.5x --recover none | {after.parameters:,} (" in text
    assert "- alexnet32_cifar10_dyn, cincel --compress no number --recover none: `" in text


# Tables


def test_results_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    written = result("cincel --compress 2x", Counts(500, 400, 3000), 77.6, dense=2.0)
    for record in (MACHINE, written, replace(written, tool="none", error="failed", shrunk=Shrunk(DENSE, 0.0, WHOLE))):
        write_line(path, record)
    found = parse(path.read_text().splitlines())
    assert found.results[COMPRESSION, ALEXNET, "cincel --compress 2x"] == written
    assert found.results[COMPRESSION, ALEXNET, "none"].shrunk == Shrunk(DENSE, 0.0, WHOLE)


def test_standing_says_what_is_met_and_by_how_much() -> None:
    text = compression_report.section(
        session(
            result("cincel --compress 2x --recover none", Counts(500, 480, 3000), 77.6, dense=1.5),
            result("cincel --compress 5x --recover none", Counts(100, 80, 3000), 70.0, dense=4.0),
            result("cincel --compress 5x --recover train", Counts(100, 80, 3000), 77.5),
            result(
                "cincel --macs 2x --recover none", Counts(500, 400, 1900), 70.0, part="convolutions", model=MOBILENET
            ),
        )
    )
    gone = "of the parameters in dense layers gone for 0.5 points"
    best = {"no": "40% for 0.40 points (cincel --compress 2x --recover none)"}
    best["with"] = "90% for 0.50 points (cincel --compress 5x --recover train)"
    assert f"| 40% {gone}, no recovery | yes | {best['no']} |" in text
    assert f"| 60% {gone}, with recovery | yes | {best['with']} |" in text
    assert (
        "| LiteRT dense layers 1.6 x as fast, all lines | **no** | 1.50 x (cincel --compress 2x --recover none) |"
        in text
    )
    assert f"| {MOBILENET}: 2 x fewer multiply-accumulates for 1 point, with recovery | not measured |  |" in text


def test_peers_are_held_against_the_best_of_ours() -> None:
    text = compression_report.section(
        session(
            result("cincel, plain at 50%", Counts(500, 480, 3000), 60.0, part=EQUAL, left=0.5),
            result("cincel, data, same ranks at 50%", Counts(500, 480, 3000), 70.0, part=EQUAL, left=0.5),
            result("AIMET weight SVD at 50%", Counts(500, 480, 3000), 71.5, part=EQUAL, left=0.5),
        )
    )
    assert f"| same ranks: data loses less than plain SVD | 1 of 1 | +10.00 ({ALEXNET}) |" in text
    told = "70.00 (cincel, data, same ranks, 50.0% left), 71.50 (AIMET weight SVD, 50.0% left)"
    assert f"| low rank, {ALEXNET} at 50%: top-1 no less than the best peer's | **no** | {told} |" in text
    assert f"| {ALEXNET} | AIMET weight SVD at 50% | 50.0% | 75.0% | 71.50 | -6.50 | 2 |" in text


def test_what_is_larger_than_the_peers_is_not_held_against_it() -> None:
    text = compression_report.section(
        session(
            result("cincel, data at 50%", Counts(500, 480, 3000), 78.0, part=EQUAL, left=0.5),
            result("AIMET weight SVD at 50%", Counts(200, 180, 3000), 60.0, part=EQUAL, left=0.5),
        )
    )
    assert "| - | 60.00 (AIMET weight SVD, 20.0% left); none of ours is as small |" in text

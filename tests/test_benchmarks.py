"""The benchmark suite's own parts: generators, accounting of a command, arithmetic of the bars, tables."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import catalogue, decoder, light_models, peers, report, scores, synthetic
from benchmarks.check import check_asset, check_onnx
from benchmarks.measure import Cost, measure
from benchmarks.prepare import prepare
from benchmarks.results import Check, Latency, Machine, Result, Session, parse, write_line
from benchmarks.run import main as run_main
from benchmarks.scores import Verdict

MACHINE = Machine("2026-01-02", "Linux", "Some CPU", 2, 8_000_000_000, "3.11.0", {"onnx": "1.0"}, 0.5, 20_000_000)


def run(model: onnx.ModelProto | Path, **inputs: np.ndarray) -> list[np.ndarray]:
    source = model if isinstance(model, Path) else model.SerializeToString()
    outputs: list[np.ndarray] = onnxruntime.InferenceSession(source).run(None, inputs)
    return outputs


def result(
    tool: str,
    cpu_s: float,
    nodes: int | None = None,
    suite: str = "onnx",
    model: str = "m",
    prepared: bool = False,
    error: str | None = None,
    ratio: float | None = None,
) -> Result:
    check = Check(nodes_in=20, nodes=nodes, psnr_db=120.0)
    runs = [Cost(0, cpu_s, cpu_s, 30_000_000)]
    figures = None if ratio is None else Latency(rounds=40, median_ms=2.5, least_ms=2.0, ratio=ratio)
    return Result(suite, model, tool, runs, 10_000_000, 9_000_000, prepared, error, check, figures)


def session(*results: Result) -> Session:
    return Session(MACHINE, {(r.suite, r.model, r.tool): r for r in results})


# Generators


@pytest.mark.parametrize("form", catalogue.FORMS)
@pytest.mark.parametrize("kind", catalogue.KINDS)
def test_scaling_graphs_have_the_size_they_are_named_for(form: str, kind: str) -> None:
    model = synthetic.build(form, kind, 1000)
    onnx.checker.check_model(model, full_check=True)
    assert abs(len(model.graph.node) - 1000) <= 10
    weights = {(t.data_type, tuple(t.dims), t.raw_data) for t in model.graph.initializer}
    assert len(weights) == len(model.graph.initializer), "equal constants would let blocks collapse"


@pytest.mark.parametrize(("kind", "reads"), [("elementwise", "Mul"), ("conv", "Conv"), ("shapes", "Mul")])
def test_chain_depends_on_all_blocks_and_wide_on_the_input(kind: str, reads: str) -> None:
    def direct_readers(form: str) -> int:
        nodes = synthetic.build(form, kind, 200).graph.node
        return sum(n.op_type == reads and n.input[0] == "x" for n in nodes)

    assert direct_readers("chain") == 1
    assert direct_readers("wide") == round(200 / (synthetic.BLOCK_NODES[kind] + 1 / 15))


@pytest.mark.parametrize("kind", catalogue.KINDS)
def test_scaling_graphs_stay_finite(kind: str, rng: np.random.Generator) -> None:
    shape = synthetic.IMAGE if kind == "conv" else synthetic.VECTOR
    (y,) = run(synthetic.build("chain", kind, 1000), x=rng.standard_normal(shape).astype(np.float32))
    assert np.isfinite(y).all()
    assert 1e-3 < float(np.abs(y).max()) < 1e5


def test_decoder(tmp_path: Path) -> None:
    config = decoder.Config(layers=2, width=32, hidden=48, vocabulary=96, heads=4, tokens=5)
    parameters = decoder.write(tmp_path / "model.onnx", config)
    assert parameters == 2 * 96 * 32 + 32 + 2 * (4 * 32 * 32 + 3 * 32 * 48 + 2 * 32)
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    external = [t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    offsets = [int(next(e.value for e in t.external_data if e.key == "offset")) for t in external]
    assert all(offset % 4096 == 0 for offset in offsets)
    big = [numpy_helper.to_array(t, str(tmp_path)).tobytes() for t in external if len(t.dims) == 2]
    assert len(big) == len(set(big)) == 2 + 2 * 7
    (logits,) = run(tmp_path / "model.onnx", ids=np.arange(5)[None])
    assert logits.shape == (1, 5, 96)
    assert 0.1 < float(logits.astype(np.float32).std()) < 100


def test_decoder_is_causal(tmp_path: Path) -> None:
    config = decoder.Config(layers=1, width=32, hidden=48, vocabulary=96, heads=4, tokens=5)
    decoder.write(tmp_path / "model.onnx", config)
    (first,) = run(tmp_path / "model.onnx", ids=np.array([[1, 2, 3, 4, 5]]))
    (second,) = run(tmp_path / "model.onnx", ids=np.array([[1, 2, 3, 4, 9]]))
    assert np.array_equal(first[:, :4], second[:, :4])
    assert not np.array_equal(first[:, 4], second[:, 4])


def test_full_decoder_has_the_advertised_parameters() -> None:
    c = decoder.Config()
    assert c.head_width == 64
    per_layer = 4 * c.width**2 + 3 * c.width * c.hidden + 2 * c.width
    assert 2 * c.vocabulary * c.width + c.layers * per_layer + c.width == 1_261_529_088


def conv_norm_model() -> onnx.ModelProto:
    """Two convolutions with a normalisation after each, weights by ConstantOfShape as in onnx's light models."""
    text = """
        <ir_version: 8, opset_import: ["" : 9]>
        light (float[1, 3, 9, 9] x) => (float[1, 4, 9, 9] y)
        <int64[4] s0 = {4, 3, 3, 3}, int64[4] s1 = {4, 4, 3, 3}, int64[1] s2 = {4}> {
            w0 = ConstantOfShape(s0)
            w1 = ConstantOfShape(s1)
            a0 = ConstantOfShape(s2)  b0 = ConstantOfShape(s2)  m0 = ConstantOfShape(s2)  v0 = ConstantOfShape(s2)
            a1 = ConstantOfShape(s2)  b1 = ConstantOfShape(s2)  m1 = ConstantOfShape(s2)  v1 = ConstantOfShape(s2)
            c0 = Conv<pads=[1, 1, 1, 1]>(x, w0)
            n0 = BatchNormalization(c0, a0, b0, m0, v0)
            r0 = Relu(n0)
            c1 = Conv<pads=[1, 1, 1, 1]>(r0, w1)
            y = BatchNormalization(c1, a1, b1, m1, v1)
        }"""
    return onnx.parser.parse_model(text)


def test_light_models_get_weights_and_statistics() -> None:
    model = light_models.materialise(conv_norm_model(), seed=3)
    assert [n.op_type for n in model.graph.node] == ["Conv", "BatchNormalization", "Relu", "Conv", "BatchNormalization"]
    assert {t.name for t in model.graph.initializer} == {"w0", "w1", *(f"{p}{i}" for p in "abmv" for i in (0, 1))}
    light_models.calibrate(model, seed=3)
    onnx.checker.check_model(model, full_check=True)
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    x = np.random.default_rng(3).standard_normal((1, 3, 9, 9)).astype(np.float32)
    (y,) = run(model, x=x)
    np.testing.assert_allclose(y.mean((0, 2, 3)), values["b1"], atol=1e-4)
    np.testing.assert_allclose(y.std((0, 2, 3)), np.abs(values["a1"]), rtol=0.01)


def test_light_models_are_the_same_every_time() -> None:
    first, second = (light_models.materialise(conv_norm_model(), seed=5) for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()
    assert first.SerializeToString() != light_models.materialise(conv_norm_model(), seed=6).SerializeToString()


@pytest.mark.parametrize("name", catalogue.LIGHT)
def test_onnx_package_has_the_light_models(name: str) -> None:
    assert light_models.source(name).is_file()


def test_prepared_copy_computes_the_same() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 9]>
        m (float[2, 3] x) => (float[2, 3] z) <float[3] w = {1, 2, 3}> {
            u = Unsqueeze<axes=[0]>(w)
            c = Constant<value = float {0.5}>()
            a = Sum(x, u)
            d = Dropout(a)
            s = Sum(d, c, x)
            z = Dropout(s)
        }"""
    model = onnx.parser.parse_model(text)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (before,) = run(model, x=x)
    prepare(model)
    assert [n.op_type for n in model.graph.node] == ["Add", "Sum"]
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(run(model, x=x)[0], before)


# Accounting


def test_cost_counts_children_and_memory(tmp_path: Path) -> None:
    burn = "import time; b = bytearray(80_000_000)\nwhile time.process_time() < 0.3: pass"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        "from pathlib import Path\nfrom benchmarks.measure import measure\n"
        f"cost = measure([sys.executable, '-c', {nested!r}], Path({str(tmp_path / 'log.txt')!r}), 60)\n"
        "print(cost.exit_code, cost.cpu_s, cost.peak_rss)"
    )  # from a small process, as the benchmarks do: a child's peak includes the size of the process that started it
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    exit_code, cpu_s, peak_rss = (float(word) for word in printed.split())
    assert exit_code == 0
    assert 0.3 <= cpu_s < 3
    assert 80_000_000 < peak_rss < 200_000_000


def test_cost_of_failure_and_of_time_out(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert measure([sys.executable, "-c", "print('why'); raise SystemExit(7)"], log, 60).exit_code == 7
    assert log.read_text().strip() == "why"
    stopped = measure([sys.executable, "-c", "import time; time.sleep(60)"], log, 0.3)
    assert stopped.exit_code is None
    assert stopped.wall_s < 10


def test_check_counts_nested_nodes_and_compares(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["t"]), helper.make_node("Relu", ["t"], ["r"])],
        "then",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, [3])],
    )
    value = numpy_helper.from_array(np.array(True))
    nodes = [
        helper.make_node("Constant", [], ["c"], value=value),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in "xy")
    opset = [helper.make_opsetid("", 17)]
    original = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=opset, ir_version=8)
    onnx.save(original, tmp_path / "a.onnx")
    simple = [helper.make_node("Neg", ["x"], ["t"]), helper.make_node("Relu", ["t"], ["renamed"])]
    renamed = helper.make_tensor_value_info("renamed", TensorProto.FLOAT, [3])
    same = helper.make_model(helper.make_graph(simple, "g", [x], [renamed]), opset_imports=opset, ir_version=8)
    onnx.save(same, tmp_path / "b.onnx")
    found = check_onnx(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert (found.nodes_in, found.nodes, found.constants, found.max_abs, found.error) == (5, 2, 0, 0.0, None)
    del same.graph.node[1]
    same.graph.node[0].output[0] = "renamed"
    onnx.save(same, tmp_path / "b.onnx")
    wrong = check_onnx(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert wrong.psnr_db is not None
    assert wrong.psnr_db < 20


# Bars


def test_catalogue() -> None:
    assert len(catalogue.SUITES["onnx"]) == len(set(catalogue.SUITES["onnx"])) == 17
    assert len(catalogue.SCALING) == 18
    assert catalogue.model_path(Path("c"), catalogue.DECODER) == Path("c/models/decoder_1b_fp16/model.onnx")
    assert all(pin.count("==") == 1 for pins in peers.ENVIRONMENTS.values() for pin in pins)


def test_commands_name_no_placeholder(tmp_path: Path) -> None:
    for suite, tools in peers.TOOLS.items():
        assert [tool.is_ours for tool in tools] == [True] + [False] * (len(tools) - 1), suite
        for tool in tools:
            command = tool.command(Path("in.onnx"), tmp_path, Path("cache"))
            assert not [part for part in command if "{" in part]
            assert str(tmp_path) in " ".join(command)
            artifact = tool.produced(Path("models/in.onnx"), tmp_path)
            assert "{" not in artifact.name
            assert str(artifact) in command or tool.name == "onnx2tf", "the command decides on the name"


def test_only_small_scaling_graphs_go_to_the_peers() -> None:
    ours, peer = peers.TOOLS["scaling"][:2]
    assert peers.applies(peer, "scaling", "chain_conv_1000")
    assert not peers.applies(peer, "scaling", "chain_conv_10000")
    assert peers.applies(ours, "scaling", "chain_conv_100000")


def test_geomean() -> None:
    assert math.isclose(scores.geomean([0.25, 1.0]), 0.5)
    with pytest.raises(ValueError, match="positive"):
        scores.geomean([])


def test_best_peer_is_chosen_among_those_that_did_the_job() -> None:
    failed = result("onnxsim", 0.1, 1, error="no")
    results = [result("cincel", 0.3, 5), failed, result("onnxslim", 2.0, 6), result("onnxscript", 1.0, 7)]
    fastest, fewest = scores.fastest_peer(results), scores.fewest_nodes(results)
    assert fastest is not None
    assert fewest is not None
    assert (fastest.tool, fewest.tool) == ("onnxscript", "onnxslim")
    assert scores.fastest_peer([failed]) is None


def test_verdicts() -> None:
    s = session(result("cincel", 0.6, 5), result("onnxslim", 1.0, 5), result("onnxscript", 3.0, 4))
    (cpu,), (nodes,), (memory,) = scores.cpu_verdicts(s, "onnx"), scores.node_verdicts(s), scores.memory_verdicts(s)
    assert (cpu.value, cpu.bar, cpu.holds) == (0.6, 0.7, True)
    assert (nodes.value, nodes.bar, nodes.holds) == (5, 4, False)
    assert [v.holds for v in scores.quality_verdicts(s, "onnx")] == [True]
    assert (memory.value, memory.bar, memory.holds) == (3.0, 2.0, False)
    assert scores.memory_verdicts(s, above=MACHINE.floor_rss)[0].holds


def test_our_failure_misses_the_bar_and_their_failure_removes_it() -> None:
    ours_fails = session(result("cincel", 0.6, error="no"), result("onnxslim", 1.0, 5))
    assert scores.cpu_verdicts(ours_fails, "onnx")[0].holds is False
    assert scores.node_verdicts(ours_fails)[0].holds is False
    theirs_fails = session(result("cincel", 0.6, 5), result("onnxslim", 1.0, 5, error="no"))
    assert scores.cpu_verdicts(theirs_fails, "onnx")[0].holds is None


def test_an_output_that_does_not_run_misses_the_bars() -> None:
    broken = replace(result("cincel", 0.3, 4), check=Check(nodes=4, error="does not load"))
    s = session(broken, result("onnxslim", 1.0, 5))
    assert scores.node_verdicts(s)[0].holds is False
    assert scores.quality_verdicts(s, "onnx")[0].holds is False


def test_bars_from_below() -> None:
    assert Verdict("m", 120.0, 100.0, at_least=True).holds
    assert not Verdict("m", 80.0, 100.0, at_least=True).holds
    assert Verdict("m", 80.0, 100.0, at_least=True).strain == 1.25
    assert Verdict("m", 0.5, 2.0).strain == 0.25


def test_scaling_growth() -> None:
    times = {"chain_conv_1000": 0.4, "chain_conv_10000": 1.0, "chain_conv_100000": 12.0}
    s = session(*(result("cincel", t, suite="scaling", model=m) for m, t in times.items()))
    seconds, growth = scores.scaling_verdicts(s)
    assert [v.holds for v in seconds] == [True, True, True]
    assert [(v.model, v.value, v.holds) for v in growth] == [
        ("chain_conv_10000", 2.5, True),
        ("chain_conv_100000", 12.0, False),
    ]


def test_median_of_the_runs() -> None:
    r = result("cincel", 1.0)
    r.runs.extend([Cost(0, 9.0, 9.0, 50_000_000), Cost(0, 2.0, 2.0, 40_000_000)])
    assert (r.cpu_s, r.peak_rss) == (2.0, 40_000_000)


# Results and tables


def test_results_survive_the_file_and_the_later_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    old, new = result("cincel", 3.0, 9), result("cincel", 1.0, 4, prepared=True)
    timed = result("cincel", 1.0, suite="latency", ratio=0.6)
    for record in (MACHINE, old, new, timed):
        write_line(path, record)
    found = parse(path.read_text().splitlines())
    assert found == session(new, timed)
    before = path.read_text().replace(', "latency": null', "").splitlines()  # as earlier results are written
    assert parse(before) == found
    with pytest.raises(ValueError, match="machine"):
        parse(path.read_text().splitlines()[1:])


def test_report() -> None:
    decoded = result("cincel", 5.0, 100, suite="decoder", model=catalogue.DECODER)
    coreml = result("onnx2coreml", 4.0, 8, suite="coreml", prepared=True)
    ours = result("cincel", 1.0, 8, suite="coreml")
    scaled = result("cincel", 0.6, 9, suite="scaling", model="wide_conv_1000")
    emitted = [result(tool, t, 8, suite="tflite") for tool, t in (("cincel", 0.2), ("onnx2tf", 1.0))]
    timed = [result(t, 1.0, suite="latency", model="lstm", ratio=r) for t, r in (("cincel", 0.6), ("onnx2tf", 1.0))]
    assets = [result(tool, t, suite="coreai") for tool, t in (("cincel", 1.5), ("coreai-onnx", 2.0))]
    others = (result("onnxslim", 1.0, 4), ours, coreml, *assets, scaled, decoded, *emitted, *timed)
    text = report.render(session(result("cincel", 0.3, 5), *others))
    lines = text.splitlines()
    assert "| ONNX: CPU at most 0.7 x the fastest peer | 1 of 1 | 0.30 x (m) |  |" in lines
    assert "| ONNX: nodes no more than the best peer | 0 of 1 | 5 nodes, the peer 4 (m) | m |" in lines
    assert "| Core ML: CPU at most 0.5 x the better peer | 1 of 1 | 0.25 x (m) |  |" in lines
    assert "| m | 0.30 |  | 1.00 |  | 0.30 | yes |" in lines
    assert "| m | 20 | 5 |  | 4 |  | **no** | 120 |  | 120 |  |" in lines
    assert "| Core ML: peak memory at most 1.3 x the file + 300 MB | 1 of 1 | 30 MB (m) |  |" in lines
    assert "| m | 1.00 | 4.00&dagger; |  | 0.25 | yes | 30 | 30&dagger; |  | 313 | yes |" in lines
    assert "| m | 8, 120, 9.0, 1.00 | 8, 120, 9.0, 4.00&dagger; |  |" in lines
    assert "| Core AI: CPU at most 0.5 x coreai-onnx | 0 of 1 | 0.75 x (m) | m |" in lines
    assert "| Core AI: outputs in fp32 within 90 dB of the original's | 1 of 1 | 120 dB (m) |  |" in lines
    assert "| m | 1.50 | 2.00 | 0.75 | **no** | 30 | 30 | 313 | yes |" in lines
    assert "| m | 120, 9.0, 1.50 | 120, 9.0, 2.00 |" in lines
    assert "| wide_conv_1000 | 0.60 |  |  |  | 20 | 9 | 30 | **no** |  | - |" in lines
    assert "| cincel | 5.00 | 30 | 100 | 9 | 120 |" in lines
    assert "| TFLite: CPU at most 0.5 x onnx2tf | 1 of 1 | 0.20 x (m) |  |" in lines
    assert "| TFLite: peak memory at most 1.3 x the file + 150 MB | 1 of 1 | 30 MB (m) |  |" in lines
    assert "| m | 0.20 | 1.00 | 0.20 | yes | 30 | 30 | 163 | yes |" in lines
    assert "| m | 8 (0) | 8 (0) | 120 | 120 |" in lines
    assert "| Latency: at most 1.00 x that of onnx2tf's file | 1 of 1 | 0.600 x (lstm) |  |" in lines
    assert "| Latency: the LSTM at least 8 times faster | 0 of 1 | 0.600 x (lstm) | lstm |" in lines
    assert "| lstm | 2.50 | 2.50 | 0.600 | yes | 40 |" in lines
    assert "Some CPU" in text


def test_command_line_needs_a_suite(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run_main([])
    assert stop.value.code == 2
    assert "--all or --suite" in capsys.readouterr().err


def test_outputs_of_an_asset_are_matched_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from targets.coreai import runtime

    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("ReduceSum", ["x"], ["b"])]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("a", [4]), ("b", [1]))]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], ports), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    onnx.save(model, tmp_path / "m.onnx")

    def execute(_path: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"b": feeds["x"].sum(keepdims=True), "a": -feeds["x"]}

    monkeypatch.setattr(runtime, "execute", execute)
    assert (check_asset(tmp_path / "m.onnx", tmp_path / "m.aimodel").psnr_db or 0) > 120

"""The placement report: memory, rooflines, a device's plan, and the command."""

from __future__ import annotations

import importlib.util
import json
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from compiler.api import compile_model, dry_run
from compiler.errors import UsageError
from targets.apple import engine
from targets.apple.placement.memory import memory
from targets.apple.placement.plan import read_plan, score
from targets.apple.placement.predict import predict
from targets.apple.placement.report import report
from targets.apple.placement.roofline import ceiling, estimate, estimates, work
from targets.apple.placement.systems import System
from targets.coreml.proto import messages
from tests.command import ROOT, Command
from tests.targets.apple_operations import chain, conv, operation, tensor

ENGINE_MODELS = ROOT / "tests" / "models" / "engine"
M4 = engine.chip("M4")

# -- memory and rooflines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "real", "padded"),
    [
        ((1, 64, 32, 32), "fp16", 131072, 131072),
        ((1, 64, 32, 1), "fp16", 4096, 131072),
        ((1, 64, 32, 1), "int8", 2048, 131072),
        ((2, 3, 33), "fp16", 396, 768),
        ((5,), "fp32", 20, 64),
        ((), "fp16", 2, 64),
    ],
)
def test_rows_are_padded_to_64_bytes(shape: tuple[int, ...], dtype: str, real: int, padded: int) -> None:
    t = tensor("t", *shape, dtype=dtype)
    assert (t.nbytes, t.padded) == (real, padded)


def test_memory_names_what_is_large_and_what_is_padded() -> None:
    found = memory(chain("relu", "relu", shape=(1, 512, 2048, 1)))
    assert [(e.role, e.name) for e in found.extents] == [("input", "x"), ("output", "y1"), ("between", "y0")]
    assert all(e.factor == 32 and e.as_json()["factor"] == 32 for e in found.extents)
    assert found.beyond_chip == ("x", "y1", "y0")
    assert [w.name for w in found.warnings] == ["singleton_last_axis"] * 2
    assert not memory(chain("relu", shape=(1, 64, 32, 32))).warnings


def test_weights_count_once_and_beyond_a_gigabyte_there_is_a_warning() -> None:
    program = chain("conv", "conv")
    assert memory(program).weights == 64 * 64 * 9 * 2
    large = conv((1, 1), weight=tensor("w", 64, 64, 1, 1, constant=True)._replace(stored=1_000_000_001))
    found = memory(program._replace(operations=(large,)))
    assert found.warnings[0].name == "model_size" and "1.00 GB" in found.warnings[0].says


def test_rates_say_where_they_are_from() -> None:
    own = ceiling(M4)
    assert own.knows_bandwidth and not ceiling(engine.chip("A18")).knows_bandwidth
    assert (own.fp16.value, own.int8.value, own.bandwidth.value, own.inferred) == (18.6, 36.0, 120.0, ())
    a14 = ceiling(engine.chip("A14"))
    assert (a14.fp16.value, a14.fp16.of, a14.fp16.confidence) == (4.8, "M1", "inferred")
    assert a14.bandwidth.of == "A14" and a14.bandwidth.value == 34.1
    assert a14.int8.value == a14.fp16.value
    a17 = ceiling(engine.chip("A17 Pro"))
    assert a17.fp16.value == pytest.approx(18.6 * 35 / 38) and a17.fp16.of == "M4" and a17.bandwidth.of == "A16"
    assert ceiling(engine.chip("A15")).fp16.value == 7.9
    for chip in engine.chips().values():
        figures = ceiling(chip)
        assert min(figures.fp16.value, figures.int8.value, figures.bandwidth.value) > 0
        assert all(f.source and f.confidence for f in figures[1:])


def test_a_roofline_is_the_larger_of_both_times() -> None:
    """3x3 on 64 channels of 32x32: 75.5 MFLOP and 2 x 131,072 + 73,728 bytes; M4: 18.6 TFLOP/s and 120 GB/s."""
    done = work([conv((3, 3))])
    assert done.flops.tolist() == [2 * 64 * 64 * 9 * 1024] and done.moved.tolist() == [2 * 131072 + 73728]
    found = estimate(done, ceiling(M4))
    assert found.fp16_ms == pytest.approx(75_497_472 / 18.6e12 * 1e3 + 0.09) and found.memory_share == 0.0
    moved = estimate(work([operation("relu", tensor("y", 1 << 20), tensor("x", 1 << 20))]), ceiling(M4))
    assert moved.fp16_ms == pytest.approx((4 << 20) / 120e9 * 1e3 + 0.09) and moved.memory_share == 1.0
    names = [e.ceiling.chip for e in estimates(done)]
    assert names[0] == "A14" and "M6" in names and "A12" not in names and len(names) == len(set(names))


def test_a_prediction_that_re_authoring_worsens_is_told() -> None:
    """Convolutions that are worth a segment, and the same layers as so little that they are not."""
    large = chain(*["conv"] * 8, shape=(1, 64, 64, 64))
    system = System.of("iOS17")
    lost = report(chain("relu", "conv"), large, M4, system, "cpu-and-ne", None)
    assert lost.before is not None and lost.before.macs_selected == 1 and lost.after.macs_selected == 0
    assert any("fewer multiply-accumulates are selected for the engine (100 % -> 0 %)" in w.says for w in lost.warnings)
    kept = report(large, large, M4, system, "cpu-and-ne", None)
    assert [w.name for w in kept.warnings] == ["segmenter"]


# -- a device's plan ----------------------------------------------------------------------------------------

PLAN: dict[str, Any] = {
    "format": "compute-plan",
    "version": 1,
    "device": "Mac16,12",
    "system": "macOS 27.0",
    "units": "cpu-and-ne",
    "operations": [
        {"operator": "const", "outputs": ["w"], "preferred": None, "supported": [], "cost": None},
        {"operator": "ios17.conv", "outputs": ["y0"], "preferred": "ane", "supported": ["ane", "cpu"], "cost": 0.6},
        {"operator": "ios17.conv", "outputs": ["y1"], "preferred": "cpu", "supported": ["ane", "cpu"], "cost": 0.3},
        {"operator": "cumsum", "outputs": ["y2"], "preferred": "cpu", "supported": ["ane", "cpu"], "cost": 0.1},
        {"operator": "relu", "outputs": ["other"], "preferred": "cpu"},
    ],
}


def written(path: Path, content: object) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def test_a_plan_scores_the_prediction(tmp_path: Path) -> None:
    program = chain("conv", "conv", "cumsum", "relu")
    prediction = predict(program, M4, "cpu-and-ne")
    assert {p.selected for p in prediction.placed} == {"cpu"}
    found = score(prediction, read_plan(written(tmp_path / "plan.json", PLAN)))
    assert (found.matched, found.right) == (3, 2)
    assert found.right_by_operations == pytest.approx(2 / 3) and found.right_by_cost == pytest.approx(0.4)
    assert found.confusion == {("cpu", "ane"): 1, ("cpu", "cpu"): 2}
    assert [m.placed.operation.name for m in found.mismatches] == ["y0"]
    assert (found.eligible_right, found.eligible_known) == (2, 3)
    assert [m.placed.operation.kind for m in found.ineligible] == ["cumsum"]
    assert found.unplanned == ("relu y3",) and found.unpredicted == ("relu other",)
    told = found.as_json()
    assert told["confusion"][0] == {"predicted": "cpu", "planned": "ane", "operations": 1}
    text = report(program, None, M4, System.of("macOS27"), "cpu-and-ne", found.plan).text()
    assert "compute plan of Mac16,12, macOS 27.0, cpu-and-ne: 2 of 3 operations predicted right" in text
    assert "conv y0: predicted CPU, planned Neural Engine" in text


def _with(**change: object) -> dict[str, object]:
    return {**PLAN, "operations": [{**PLAN["operations"][1], **change}]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON file"),
        ("[" * 100_000, "is no JSON file"),
        ([], "is no compute plan"),
        ({"format": "x"}, "is no compute plan"),
        ({**PLAN, "version": 2}, "has version 2, and 1 is known"),
        ({**PLAN, "operations": {}}, "has no list of operations"),
        ({**PLAN, "operations": [1]}, "operation 0 is no object"),
        (_with(outputs="y"), "operation 0 needs an operator and a list of outputs"),
        (_with(operator=None), "operation 0 needs an operator and a list of outputs"),
        (_with(preferred="tpu"), "operation 0 has the processor 'tpu'"),
        (_with(preferred=[1]), "operation 0 has the processor [1]"),
        (_with(supported=["ane", 3]), "operation 0 has the processor 3"),
        (_with(supported="ane"), "operation 0 has no list of supported processors"),
        (_with(cost=-1), "operation 0 has the cost -1"),
        (_with(cost="1"), "operation 0 has the cost '1'"),
    ],
)
def test_bad_plans_are_refused(content: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--compute-plan") as e:
        read_plan(written(tmp_path / "plan.json", content))
    assert said in str(e.value)


def test_a_missing_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_plan(str(tmp_path / "none.json"))


# -- the whole report ---------------------------------------------------------------------------------------


def placement(path: Path, **options: Any) -> dict[str, Any]:
    found = dry_run(path, "ane", explain=True, **options).as_json()["placement"]
    assert isinstance(found, dict)
    json.dumps(found, allow_nan=False)
    return found


@pytest.mark.parametrize("name", ["bert_encoder", "conformer_block", "gpt_block", "vit"])
def test_networks_run_in_one_segment_once_they_are_re_authored(name: str) -> None:
    found = placement(ENGINE_MODELS / f"{name}.onnx")
    assert found["after"]["macs_in_largest_segment"] >= 0.99
    assert found["after"]["macs_in_largest_segment"] >= found["before"]["macs_in_largest_segment"]
    assert found["before"]["macs"] > 0
    for op in found["operations"]:
        assert op["selected"] in op["eligible"] and op["rule"]["source"] and op["rule"]["says"]


def test_what_leaves_the_engine_is_named_with_its_origin() -> None:
    found = placement(ENGINE_MODELS / "lstm_classifier.onnx")
    assert all("ane" in op["eligible"] for op in found["operations"])
    off = found["off_engine_before"]
    assert {op["operator"] for op in off} == {"lstm"}
    assert {op["onnx"] for op in off} == {"LSTM"} and all(op["origin"] and op["layer"] for op in off)
    assert off[0]["rule"]["fix"] == "unroll_recurrent" and off[0]["rule"]["pass_name"] == "substitute-recurrent"
    assert (
        off[0]["rule"]["source"].startswith("github.com/") and off[0]["rule"]["confidence"] == "measured-by-third-party"
    )


def test_floats_of_32_bits_stay_off_the_engine() -> None:
    found = placement(ENGINE_MODELS / "vit.onnx", precision="fp32")
    assert found["after"]["macs_eligible"] == 0.0 and found["after"]["operations_selected"] == 0
    assert {op["rule"]["name"] for op in found["operations"]} == {"fp32"}


def test_blocks_of_weights_leave_the_engine_and_channels_do_not(tmp_path: Path) -> None:
    path = ROOT / "examples" / "mlperf_tiny_kws_dscnn.onnx"
    blocks = placement(path, weights="int4", deployment_target="iOS18")["after"]["macs_eligible"]
    channels = placement(path, weights="int4", block_size=0, deployment_target="iOS18")["after"]["macs_eligible"]
    assert blocks < 0.5 and channels == 1.0
    assert placement(path, weights="int8")["after"]["macs_eligible"] == 1.0


def test_every_operation_has_a_roofline() -> None:
    found = placement(ENGINE_MODELS / "vit.onnx", chip="M4")
    for op in found["operations"]:
        times = op["bytes"] / 120e9 * 1e6, op["flops"] / 18.6e12 * 1e6
        assert op["roofline_us"] == pytest.approx(max(times), abs=1e-4)
        assert op["bound"] == ("memory" if times[0] > times[1] else "compute")
    total = sum(op["roofline_us"] for op in found["operations"]) / 1e3 + 0.09
    own = next(e for e in found["roofline"]["chips"] if e["chip"] == "M4")
    assert own["fp16_ms"] == pytest.approx(total, abs=1e-4)


def test_long_chains_are_warned_of() -> None:
    def warned(count: int) -> bool:
        made = report(chain(*["relu"] * count), None, M4, System.of("macOS27"), "all", None)
        return "graph_depth" in [w.name for w in made.warnings]

    assert not warned(383) and warned(384)


def test_a_package_that_the_system_does_not_load_is_named() -> None:
    found = placement(ENGINE_MODELS / "vit.onnx", os="iOS16")
    assert "the package needs iOS17 and does not load on iOS16" in [w["says"] for w in found["warnings"]]


def thousand(path: Path) -> Path:
    """1,000 nodes."""
    rng = np.random.default_rng(0)
    nodes, weights, x = [], [], "x"
    for i in range(200):
        weights.append(numpy_helper.from_array(rng.standard_normal((16, 16, 1, 1)).astype(np.float32) / 4, f"w{i}"))
        nodes.append(helper.make_node("Conv", [x, f"w{i}"], [f"c{i}"]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        nodes.append(helper.make_node("Add", [f"r{i}", x], [f"a{i}"]))
        nodes.append(helper.make_node("Sigmoid", [f"a{i}"], [f"s{i}"]))
        nodes.append(helper.make_node("Softmax", [f"s{i}"], [f"o{i}"], axis=1))
        x = f"o{i}"
    ports = [helper.make_tensor_value_info(name, 1, [1, 16, 8, 8]) for name in ("x", x)]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_a_thousand_nodes_take_less_than_two_seconds_without_coremltools(tmp_path: Path) -> None:
    """Of the processor, so that what else runs on the machine does not count."""
    path = thousand(tmp_path / "m.onnx")
    program = "import sys; from compiler.cli import main; code = main(sys.argv[1:]);"
    program += " print(code, 'coremltools' in sys.modules, file=sys.stderr)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), "--dry-run", "--explain"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stderr.splitlines()[-1] == "0 False"
    assert "1,002" in done.stdout and "no artifact is written" in done.stdout
    assert list(tmp_path.iterdir()) == [path]
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert took < 2.0, took


@pytest.mark.parametrize("name", ["vit", "gpt_block", "bert_encoder"])
def test_operations_have_the_names_that_the_package_has(name: str, tmp_path: Path) -> None:
    """By which a plan is matched."""
    pytest.importorskip("coremltools")
    compiled = compile_model(
        ENGINE_MODELS / f"{name}.onnx", "ane", tmp_path / "m.mlpackage", verify="off", explain=True
    )
    assert compiled.report.placement is not None
    told = compiled.report.placement.as_json()["operations"]
    model = messages().model.Model()
    model.ParseFromString((compiled.path / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes())
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    saved = [(op.type, op.outputs[0].name) for op in block.operations]
    assert [(op["operator"], op["output"]) for op in told] == [
        (kind, output) for kind, output in saved if kind != "const" and not kind.startswith("constexpr")
    ]


def test_the_command_compiles_and_says_where_it_runs(command: Command) -> None:
    path = ENGINE_MODELS / "vit.onnx"
    done = command(path, "--verify", "off", "--explain", "--chip", "m4", "--os", "macos27", "--units", "cpu-and-ne")
    assert done.code == 0, done.err
    assert "placement on M4 (engine family H16), macOS 27, units cpu-and-ne: predicted, not measured" in done.out
    assert "in the largest eligible segment" in done.out and "wrote vit.mlpackage" in done.out
    told = command(path, "--dry-run", "--explain", "--json").report
    assert told["artifact"] is None and told["placement"]["chip"] == "A14"
    assert command(path, "--dry-run", "--json").report["placement"] is None
    untold = command(path, "--target", "onnx", "--dry-run", "--explain")
    assert untold.code == 0 and "note: nothing is known of where layers run on onnx" in untold.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--explain", "--chip", "M7"), "there is no chip 'M7'"),
        (("--explain", "--os", "iOS19"), "there is no system 'iOS19'"),
        (("--explain", "--units", "gpu"), "there is no set of compute units 'gpu'"),
        (("--explain", "--compute-plan", "none.json"), "no such file"),
        (("--os", "iOS18"), "what --explain tells is not asked for: it has no use for --os"),
        (
            ("--dry-run", "-o", "m.mlpackage"),
            "--dry-run writes nothing and compares nothing: it has no use for --output",
        ),
        (("--dry-run", "--verify", "each"), "it has no use for --verify"),
        (("--explain", "--target", "onnx", "--os", "iOS18"), "target onnx does not take --os"),
    ],
)
def test_wrong_words_are_refused(words: tuple[str, ...], said: str, command: Command) -> None:
    done = command(ENGINE_MODELS / "vit.onnx", *words)
    assert done.code == 2 and said in done.err
    assert not list(Path.cwd().iterdir())


# -- the pages ----------------------------------------------------------------------------------------------


def module_of(name: str) -> Any:  # Any: a script beside the pages
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_rules_is_current() -> None:
    page = (ROOT / "docs" / "placement-rules.md").read_text(encoding="utf-8")
    assert page.partition("\n")[2] == module_of("placement_page").page()


class MLNeuralEngineComputeDevice: ...


class MLCPUComputeDevice: ...


class Plan:
    """As coremltools gives it, of one operation with a constant before it and a block inside."""

    def __init__(self) -> None:
        inner = SimpleNamespace(operator_name="relu", outputs=[SimpleNamespace(name="r")], blocks=[])
        const = SimpleNamespace(operator_name="const", outputs=[SimpleNamespace(name="w")], blocks=[])
        block = SimpleNamespace(operations=[inner])
        conv_ = SimpleNamespace(operator_name="ios17.conv", outputs=[SimpleNamespace(name="y")], blocks=[block])
        main = SimpleNamespace(block=SimpleNamespace(operations=[const, conv_]))
        self.model_structure = SimpleNamespace(program=SimpleNamespace(functions={"main": main}))

    def get_compute_device_usage_for_mlprogram_operation(self, op: Any) -> Any:
        if op.operator_name == "const":
            return None
        both = [MLNeuralEngineComputeDevice(), MLCPUComputeDevice()]
        return SimpleNamespace(preferred_compute_device=both[0], supported_compute_devices=both)

    def get_estimated_cost_for_mlprogram_operation(self, op: Any) -> Any:
        return None if op.operator_name == "const" else SimpleNamespace(weight=0.5)


def test_the_script_for_a_mac_writes_what_is_read(tmp_path: Path) -> None:
    content = module_of("compute_plan").described(Plan(), "cpu-and-ne", "Apple M4")
    found = read_plan(written(tmp_path / "plan.json", content))
    assert (found.units, found.device) == ("cpu-and-ne", "Apple M4")
    assert set(found.operations) == {("relu", "r"), ("conv", "y")}
    entry = found.operations[("conv", "y")]
    assert (entry.preferred, entry.supported, entry.cost) == ("ane", ("ane", "cpu"), 0.5)

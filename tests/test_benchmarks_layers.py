"""Tables of layers: measured on this machine, or read from what TFLite's benchmark tool wrote on another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.layers import alone, chain, imported, layers_of, middle, ranks, table_of
from benchmarks.layers_profile import main, profile_of, rows_of
from compiler.api import compile_model
from compiler.evaluate import evaluate
from compiler.layer_table import EXACT, NOTHING, Measured, Shape, read_table, shape_of
from tests.command import ROOT

MLP = ROOT / "examples" / "fault_mlp_ai4i.onnx"
DSCNN = ROOT / "examples" / "mlperf_tiny_kws_dscnn.onnx"

# The layout of TensorFlow's tensorflow/core/util/stats_calculator.cc, of older versions with a column more.
OLD = """Number of nodes executed: 2
============================== Run Order ==============================
node type, start, first, avg_ms, %, cdf%, mem KB, times called, name
{lines}

============================== Top by Computation Time ==============================
node type, start, first, avg_ms, %, cdf%, mem KB, times called, name
CONV_2D, 0.001, 0.5, 99.0, 50.000%, 50.000%, 0.000, 1, [late]:0
"""
NEW = OLD.replace(", start", "").replace(" 0.001,", "").replace(", ", ",")


def test_ranks_of_an_octave() -> None:
    assert ranks(40) == [4, 8, 12, 16, 20, 24, 32, 36, 40]
    assert ranks(3) == [3]


def test_interrupted_runs_do_not_count() -> None:
    assert middle([3.0, 1.0, 2.0, 2.0, 900.0, 2.0, 2.0, 0.0]) == 2.0


def test_layers_are_those_of_the_model_and_of_its_splits() -> None:
    graph = imported(str(MLP), ["input=1x8"])
    own, all_ = (layers_of(graph, "fp32", candidates) for candidates in (False, True))
    assert own.keys() == {shape_of(n, "fp32") for n in graph.nodes}
    assert own.keys() < all_.keys()
    thin = Shape("dense", "fp32", ((1, 64), (8, 64)), ((1, 8),))
    wide = Shape("dense", "fp32", ((1, 8), (64, 8)), ((1, 64),))
    assert {thin, wide} <= all_.keys()


def test_a_layer_alone_computes_what_it_does() -> None:
    found = evaluate(chain(2), {"x0": np.zeros((1, 1), np.float32)})
    assert found["y0"] == pytest.approx(1 / (1 + np.exp(-0.5)))
    node = next(n for n in imported(str(MLP), ["input=1x8"]).nodes if n.macs)
    single = alone(node)
    assert [n.op for n in single.nodes] == [node.op]
    assert shape_of(next(iter(single.nodes)), "fp32") == shape_of(node, "fp32")


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_tables_of_this_machine(runtime: str, tmp_path: Path) -> None:
    graph = imported(str(MLP), ["input=1x8"])
    table = table_of(graph, runtime, "fp32", candidates=False, rounds=3)
    path = tmp_path / "table.json"
    path.write_text(table.text())
    clock = Measured(read_table(path, "fp32"), "fp32")
    assert {clock.table.seconds(shape_of(n, "fp32"))[1] for n in graph.nodes} == {EXACT}
    assert 0 < sum(map(clock.of, graph.nodes)) < 0.1
    assert 0 <= clock.call < 0.1


@pytest.mark.parametrize("layout", [OLD, NEW], ids=["old", "new"])
def test_profiles_of_a_phone(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, profile, table = (tmp_path / name for name in ("m.tflite", "p.csv", "t.json"))
    compile_model(DSCNN, "nnapi", model, verify="off", inputs={"input_1": (1, 49, 10, 1)})
    start = ", 0.001" if layout is OLD else ""
    lines = [f"OP{start}, 0.5, {n + 1}.5, 9.1%, 9.1%, 0.000, 1, [a, b]:{n}" for n in range(6)]
    text = layout.format(lines="\n".join(lines if layout is OLD else [line.replace(", ", ",") for line in lines]))
    assert profile_of(text) == [(n, (n + 1.5) / 1e3) for n in range(6)]
    found = list(rows_of(model.read_bytes(), profile_of(text)))
    convs = [r for r in found if r.shape.op == "conv"]
    assert {r.shape.groups for r in convs} == {1, 64}
    assert all(r.shape.inputs[0][1] == r.shape.inputs[1][1] * r.shape.groups for r in convs)
    profile.write_text(text)
    main([str(model), str(profile), "-o", str(table), "--device", "a phone"])
    assert "of 6 operators" in capsys.readouterr().out
    clock = Measured(read_table(table, "fp32"), "fp32")
    assert clock.chip.startswith("a phone")
    graph = imported(str(DSCNN), ["input_1=1x49x10x1"])
    layers = [n for n in graph.nodes if n.op.name == "conv"][:2]
    known = {r.shape: r.seconds for r in convs}
    assert [clock.of(n) for n in layers] == [pytest.approx(known[shape_of(n, "fp32")], rel=1e-3) for n in layers]
    assert NOTHING in {r.seconds for r in found}  # rectifiers that convolutions compute


def test_profiles_of_delegates_are_refused() -> None:
    line = "DelegateOpInvoke, 0.001, 0.5, 0.5, 9.1%, 9.1%, 0.000, 1, Delegate/Convolution (NHWC, F32) IGEMM:0"
    with pytest.raises(ValueError, match="use_xnnpack=false"):
        profile_of(OLD.format(lines=line))
    with pytest.raises(ValueError, match="no lines"):
        profile_of("nothing")

"""Quantized models keep their scales: LiteRT computes what ONNX Runtime computes, to some steps of the result."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.api import Compiled, compile_model
from compiler.compare import compare
from compiler.errors import UsageError
from compiler.oracle import open_session, run_session
from compiler.quantize import quantized, represented
from compiler.tensor import Array
from targets.tflite.check import check
from targets.tflite.schema import open_interpreter
from tests.qdq_models import KINDS, Chain
from tests.real_models import RealModel, real_model
from tests.strategies import seeds

# A classifier's step of a logit is up to log(256) / 256 of a probability; ONNX Runtime with and without its own fusions
# differs by 4 to 16 steps of one.
MODELS = {
    "mobilenet_v1_025_128_qdq": 45.0,
    "mlperf_tiny_resnet8_int8": 35.0,
    "mlperf_tiny_streaming_ww_int8": 60.0,
}


def compiled(model: RealModel, folder: Path, precision: str | None = None) -> Compiled:
    return compile_model(model.path, "nnapi", folder / "m.tflite", inputs=model.bind, precision=precision)


def run(model: Path | bytes, feeds: dict[str, Array]) -> Array:
    """The only result by ONNX Runtime."""
    (result,) = run_session(open_session(model if isinstance(model, bytes) else str(model)), feeds).values()
    return result


@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_is_lowered_as_it_is(name: str, tmp_path: Path) -> None:
    model = real_model(name)
    result = compiled(model, tmp_path)
    assert result.report.precision == "int8" and result.report.passed
    assert result.report.warnings == []
    assert check(result.path, "nnapi", strict=True).errors == ()
    for seed in range(4):
        feeds = model.random_inputs(np.random.default_rng(seed))
        expected = run(model.path, feeds)
        (found,) = result.run(feeds).values()
        assert found.dtype == expected.dtype
        assert compare("y", expected, found).psnr_db >= MODELS[name]


def test_the_scales_in_the_file_are_those_of_the_model(tmp_path: Path) -> None:
    model = real_model("mlperf_tiny_resnet8_int8")
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(model.path).graph.initializer}
    given_scales = {float(a) for n, a in tensors.items() if n.startswith("scale") and a.shape == ()}
    graph = compiled(model, tmp_path).graph
    held = {v.type.quant.scale[0] for n in graph.nodes for v in n.outputs if v.type.quant is not None}
    assert held <= given_scales and len(held) > 10


def test_weights_are_the_integers_of_the_model(tmp_path: Path) -> None:
    """All symmetric ones, exactly."""
    model = real_model("mlperf_tiny_resnet8_int8")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(model.path).graph.initializer}
    kernels = {
        v.name.removesuffix("_dequant"): v for v in compiled(model, tmp_path).graph.constants if v.type.rank == 4
    }
    checked = 0
    for name, v in kernels.items():
        if name in stored and v.data is not None and v.type.quant is not None:
            np.testing.assert_array_equal(quantized(np.asarray(v.data), v.type.quant, narrow=True), stored[name])
            checked += 1
    assert checked >= 9


def test_another_precision_is_as_before(tmp_path: Path) -> None:
    result = compiled(real_model("mlperf_tiny_resnet8_int8"), tmp_path, precision="fp32")
    assert result.report.precision == "fp32"
    assert not any(v.type.quant for n in result.graph.nodes for v in n.outputs)


@pytest.mark.parametrize(("io", "kinds"), [(None, "f"), ("int8", "i"), ("uint8", "u")])
def test_ports_of_floats_are_as_asked(io: str | None, kinds: str, tmp_path: Path) -> None:
    chain = Chain(np.random.default_rng(3))
    chain.add("relu conv")
    result = compile_model(chain.model(), "nnapi", tmp_path / "m.tflite", verify="off", io_dtype=io)
    interpreter = open_interpreter(str(result.path), 1)
    ports = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    assert {np.dtype(p["dtype"]).kind for p in ports} == set(kinds)


def test_a_model_of_floats_needs_data_for_int8(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs data that shows what numbers occur"):
        compile_model(real_model("mlperf_tiny_resnet8").path, "nnapi", tmp_path / "m.tflite", precision="int8")
    with pytest.raises(UsageError, match="a model that is quantized"):
        compile_model(real_model("mlperf_tiny_resnet8").path, "nnapi", tmp_path / "m.tflite", io_dtype="uint8")


def test_data_fills_in_what_the_model_leaves_open(tmp_path: Path) -> None:
    """A last layer without a scale is an island of floats, or int8 with calibration; given scales are kept."""
    chain = Chain(np.random.default_rng(5))
    chain.add("conv")
    w, _ = chain.weight((4, chain.shape[1], 1, 1), 0)
    chain.value, chain.shape = chain.node("Conv", chain.value, w), (1, 4, *chain.shape[2:])
    model = chain.model()
    alone = compile_model(model, "nnapi", tmp_path / "a.tflite", verify="off")
    assert any("NOT FULL INTEGER: 1 operators" in w for w in alone.report.warnings)
    rows = [{"x": np.random.default_rng(i).normal(size=chain.given).astype(np.float32)} for i in range(4)]
    full = compile_model(
        model, "nnapi", tmp_path / "b.tflite", verify="off", precision="int8", calibrate=rows, observer="minmax"
    )
    assert not any("INTEGER" in w for w in full.report.warnings)
    for a, b in zip(alone.graph.nodes, full.graph.nodes, strict=True):
        assert a.output.type.quant in (None, b.output.type.quant)


@settings(max_examples=25)
@given(seed=seeds(), kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
def test_random_chains_differ_by_a_few_steps(seed: int, kinds: list[str]) -> None:
    rng = np.random.default_rng(seed)
    chain = Chain(rng)
    for kind in ("conv", *kinds):  # a product makes it a quantized model
        chain.add(kind)
    model = chain.model()
    x = rng.normal(size=chain.given).astype(np.float32) * 2
    expected = run(model.SerializeToString(), {"x": x})
    with TemporaryDirectory() as folder:
        result = compile_model(model, "nnapi", Path(folder) / "m.tflite", verify="off")
        found = result.run({"x": x})["y"]
        unlike = [e for e in check(result.path, "nnapi", strict=True).errors if e.code != "quantize-island"]
    assert result.report.precision == "int8" and not result.report.warnings and not unlike
    assert np.abs(found - expected).max() <= chain.error + 1e-5, np.abs(found - expected).max() / chain.step
    assert all(represented(v.type.quant) for n in result.graph.nodes for v in n.outputs if v.type.quant)

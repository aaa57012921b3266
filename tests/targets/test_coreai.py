"""The Core AI target: models, files, options, kernels; assets are executed by Apple's runtime."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from compiler import ops
from compiler.api import compile_model
from compiler.errors import EmitError, LegalityError, UsageError
from compiler.graph import Graph, Node
from compiler.tensor import F32, F64, I32, I64, TensorType
from targets.coreai import kernels, program
from targets.coreai.kernels import Kernel
from targets.coreai.target import CoreAITarget
from tests.real_models import RealModel, real_models
from tests.targets.coreai_harness import compiled

ROOT = Path(__file__).parents[2]
ENGINE = sorted((ROOT / "tests" / "models" / "engine").glob("*.onnx"))
HALF_DB = {  # a real number on the edge between two of 256 steps may fall into the other one
    "mlperf_tiny_resnet8_int8": 20.0,
    "mlperf_tiny_streaming_ww_int8": 20.0,
    "mobilenet_v1_025_128_qdq": 20.0,
}
SLOW = ("dnsmos_p835",)  # Apple's runtime takes half a minute for its convolutions
MODELS = [pytest.param(m, marks=pytest.mark.slow if m.name in SLOW else (), id=m.name) for m in real_models()]
SMALL = ROOT / "examples" / "mnist_cnn_opset8.onnx"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_asset_gives_what_onnx_runtime_gives(model: RealModel, precision: str, tmp_path: Path) -> None:
    limit = HALF_DB.get(model.name, 50.0) if precision == "fp16" else 90.0
    data = model.random_inputs(np.random.default_rng(5))
    path = tmp_path / "m.aimodel"
    result = compile_model(model.path, "coreai", path, precision=precision, inputs=model.bind, verify_data=data)
    assert result.report.verification
    assert min(v.psnr_db for v in result.report.verification) > limit


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("path", ENGINE, ids=lambda p: p.stem)
def test_models_written_for_the_engine(path: Path, precision: str, tmp_path: Path) -> None:
    result = compile_model(path, "coreai", tmp_path / "m.aimodel", precision=precision)
    assert result.report.verification
    assert min(v.psnr_db for v in result.report.verification) > (50.0 if precision == "fp16" else 90.0)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that are written, in the dialect's notation."""
    seen: list[str] = []
    close = program.Program.close

    def closed(self: program.Program) -> None:
        close(self)
        seen.append(self.text())

    monkeypatch.setattr(program.Program, "close", closed)
    return seen


@pytest.mark.parametrize("path", [*ENGINE, SMALL], ids=lambda p: p.stem)
def test_no_fp32_inside_of_an_fp16_program(path: Path, texts: list[str], tmp_path: Path) -> None:
    compile_model(path, "coreai", tmp_path / "m.aimodel", verify="off")
    inside = [line for line in texts[0].splitlines() if "f32" in line]
    others = [line for line in inside if not any(f"coreai.{kind}" in line for kind in ("graph", "cast", "output"))]
    assert inside
    assert others == []


def test_equal_models_give_equal_bytes_and_apple_accepts_their_hash(tmp_path: Path) -> None:
    first, second = (
        compile_model(SMALL, "coreai", tmp_path / name, verify="off").artifact.path
        for name in ("a.aimodel", "b.aimodel")
    )
    for name in ("main.mlirb", "main.hash", "metadata.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert (first / "main.hash").read_bytes() == hashlib.sha256((first / "main.mlirb").read_bytes()).digest()
    assert json.loads((first / "metadata.json").read_text())["assetVersion"] == "2.0"
    from coreai.authoring import AIModelAsset
    from coreai.runtime import _AIModelAsset

    assert AIModelAsset.is_valid(first)
    assert _AIModelAsset._dialect_version_for_os("v27") == program.DIALECT


def test_an_asset_is_replaced_and_anything_else_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.aimodel"
    compile_model(SMALL, "coreai", path, precision="fp32", verify="off")
    large = sum(f.stat().st_size for f in path.iterdir())
    assert compile_model(SMALL, "coreai", path, verify="off").artifact.size < large
    other = tmp_path / "other.aimodel"
    other.mkdir()
    (other / "letter.txt").write_text("kept")
    with pytest.raises(EmitError, match=r"is not an \.aimodel"):
        compile_model(SMALL, "coreai", other, verify="off")
    assert [f.name for f in tmp_path.rglob("*.txt")] == ["letter.txt"]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["m.aimodel", "other.aimodel"]


def test_nothing_of_apples_is_imported_before_an_asset_is_written() -> None:
    code = (
        "import sys; from targets import find_target; find_target('coreai')(); "
        "sys.exit(any(m.partition('.')[0] == 'coreai' for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_the_suffix_chooses_the_target(tmp_path: Path) -> None:
    from compiler.cli import main

    assert main([str(SMALL), "-o", str(tmp_path / "m.aimodel"), "--quiet"]) == 0
    assert (tmp_path / "m.aimodel" / "main.mlirb").is_file()


@pytest.mark.parametrize(("weights", "db"), [("int8", 30.0), ("int4", 15.0), ("palette6", 25.0), ("palette3", 6.0)])
def test_weights_in_fewer_bits(weights: str, db: float, tmp_path: Path) -> None:
    model = ROOT / "examples" / "vit_fashion_b1.onnx"
    whole = compile_model(model, "coreai", tmp_path / "a.aimodel", verify="off").artifact.size
    result = compile_model(model, "coreai", tmp_path / "b.aimodel", weights=weights)
    assert result.artifact.size < 0.65 * whole
    assert result.report.verification
    assert result.report.verification[0].psnr_db > db
    assert "16 weights, 94 %" in result.artifact.warnings[0]
    assert any("Neural Engine does not take" in w for w in result.artifact.warnings) == (weights == "int4")


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="no precision 'int8' for coreai"):
        CoreAITarget(precision="int8")
    with pytest.raises(UsageError, match="--block-size is for --weights"):
        CoreAITarget(block_size=32)
    with pytest.raises(UsageError, match="there is no chip 'A1'"):
        CoreAITarget(chip="A1")
    with pytest.raises(UsageError, match="--calibrate shows what fp16 must hold"):
        CoreAITarget(precision="fp32", calibrate="synthetic")
    with pytest.raises(UsageError, match="there is no system 'iOS3'"):
        CoreAITarget(os="iOS3")


def test_64_bit_inputs_are_held_in_32_bits(tmp_path: Path) -> None:
    graph = Graph("g")
    x, i = graph.add_input(TensorType(F64, (2,)), "x"), graph.add_input(TensorType(I64, (2,)), "i")
    graph.set_outputs([graph.add(ops.Add(), v, v, origin=frozenset(("a",)))[0] for v in (x, i)], ["y", "j"])
    artifact = compiled(graph, tmp_path)
    results = artifact.run({"x": np.array([0.5, 2.0]), "i": np.array([-3, 2**30 - 1])})
    assert results["y"].dtype == np.float64 and results["y"].tolist() == [1.0, 4.0]
    assert results["j"].dtype == np.int64 and results["j"].tolist() == [-6, 2**31 - 2]
    with pytest.raises(UsageError, match="'i' holds integers that 32 bits cannot"):
        artifact.run({"x": np.zeros(2), "i": np.array([0, 2**31])})


@pytest.fixture
def bits_kernel() -> Iterator[None]:
    """BitCast of floats, which has no lowering, as a kernel."""

    def bits(node: Node) -> Kernel | None:
        count = node.output.type.size
        body = "y0[position.x] = as_type<int>(x0[position.x]);"
        return Kernel("bits", body, (count, 1, 1)) if node.output.type.dtype is I32 else None

    kernels.supplies(ops.BitCast)(bits)
    yield
    del kernels.KERNELS[ops.BitCast]


def bits(to: str) -> Graph:
    graph = Graph("g")
    x = graph.add_input(TensorType(F32, (6,)), "x")
    (y,) = graph.add(ops.BitCast(to=to), x, origin=frozenset(("bits",)))
    graph.set_outputs(graph.add(ops.Add(), y, y, origin=frozenset(("sum",))), ["y"])
    return graph


@pytest.mark.usefixtures("bits_kernel")
def test_a_layer_without_lowering_becomes_a_kernel(texts: list[str], tmp_path: Path) -> None:
    artifact = compiled(bits("i32"), tmp_path)
    assert "coreai.metal4_kernel" in texts[0]
    assert "as_type<int>(x0[position.x])" in texts[0]
    assert "device int, metal::dextents<int, 1>, tensor_handle> y0 [[buffer(1)]]" in texts[0]
    if sys.platform != "darwin":
        with pytest.raises(UsageError, match="holds Metal kernels, for Apple's systems alone: bits_"):
            artifact.run({"x": np.zeros(6, np.float32)})


@pytest.mark.usefixtures("bits_kernel")
def test_a_kernel_can_decline(tmp_path: Path) -> None:
    with pytest.raises(LegalityError, match="reading the bits of floats"):
        compiled(bits("u32"), tmp_path)


def test_without_a_kernel_the_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LegalityError, match="reading the bits of floats"):
        compiled(bits("i32"), tmp_path)

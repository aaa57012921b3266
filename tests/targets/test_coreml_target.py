"""Options of the target `ane`: what it refuses, names, element types, images, metadata, deployment targets."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler import ops
from compiler.api import compile_model
from compiler.errors import LegalityError, UsageError
from compiler.graph import Graph
from compiler.op import Op
from compiler.rewrite import Unobserved
from compiler.tensor import BOOL, DTYPES, F16, F32, F64, I8, I32, I64, STRING, U8, Array, DType, TensorType
from passes.drop_empty import DropEmpty
from targets.coreml.artifact import CoreMLArtifact
from targets.coreml.image import ImageInput, parse_image
from targets.coreml.macos import as_image
from targets.coreml.package import read_package
from targets.coreml.target import CoreMLTarget
from tests.real_models import real_model
from tests.targets.coreml_layers import compiled

X = TensorType(F32, (1, 3, 4, 5))


def graph_of(op: Op, x: TensorType = X, name: str = "x", output: str = "y") -> Graph:
    graph = Graph()
    graph.set_outputs(graph.add(op, graph.add_input(x, name)), [output])
    return graph


def features(artifact: CoreMLArtifact) -> tuple[list[str], list[str]]:
    description = read_package(artifact.path).spec.description
    return [f.name for f in description.input], [f.name for f in description.output]


def feature_types(artifact: CoreMLArtifact) -> list[str]:
    description = read_package(artifact.path).spec.description
    codes = [f.type.multiArrayType.dataType for f in (*description.input, *description.output)]
    return [{0x10000 | 16: "fp16", 0x10000 | 32: "fp32", 0x20000 | 32: "int32"}[code] for code in codes]


class TestOptions:
    @pytest.mark.parametrize(
        "options", [{"precision": "fp8"}, {"deployment_target": "iOS14"}, {"image": ["x:color=CMYK"]}]
    )
    def test_unknown_values_are_usage_errors(self, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            CoreMLTarget(**options)

    def test_tolerance_follows_the_precision(self) -> None:
        assert [CoreMLTarget(precision=p).tolerance_db for p in ("fp32", "fp16")] == [60.0, 45.0]

    @pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17", "iOS18", "iOS26"])
    @pytest.mark.parametrize(
        "name", ["vit_fashion_b1", "mobilenetv2s_cifar10_b1", "gtcrn_simple", "mobilenet_v1_025_128_qdq"]
    )
    def test_every_deployment_target(self, name: str, target: str, tmp_path: Path) -> None:
        model = real_model(name)
        data = model.random_inputs(np.random.default_rng(1))
        result = compile_model(model.path, "ane", tmp_path / "m.mlpackage", precision="fp32", deployment_target=target,
                               verify_data=data, inputs=model.bind)  # fmt: skip
        assert result.report.passed
        versions = {"iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9, "iOS26": 10}
        assert read_package(result.path).spec.specificationVersion == versions[target]

    def test_what_an_older_system_lacks_is_an_objection(self, tmp_path: Path) -> None:
        x, i = TensorType(F32, (2, 3)), np.array([[[1]], [[0]]])
        graph = Graph()
        v = graph.add_input(x, "x")
        first = graph.add(ops.GatherND(batch_dims=1), v, graph.const(i), names=["first"])
        second = graph.add(ops.GatherND(batch_dims=1), v, graph.const(i), names=["second"])
        graph.set_outputs([*first, *second], ["a", "b"])
        with pytest.raises(LegalityError, match="2 layers cannot run") as caught:
            compiled(graph, tmp_path, target="iOS15")
        assert caught.value.message.count("--deployment-target iOS16") == 2
        assert "%first" in caught.value.message and "%second" in caught.value.message
        data = np.arange(6, dtype=np.float32).reshape(2, 3)
        assert compiled(graph, tmp_path, target="iOS16").run({"x": data})["a"].ravel().tolist() == [1, 3]


class TestNames:
    def test_names_that_core_ml_takes_are_kept_and_others_mapped(self, tmp_path: Path) -> None:
        artifact = compiled(graph_of(ops.Relu(), name="images:0", output="a/b c"), tmp_path)
        assert features(artifact) == (["images_0"], ["a_b_c"])
        assert list(artifact.run({"images:0": np.ones(X.dims, np.float32)})) == ["a/b c"]
        assert features(compiled(graph_of(ops.Relu(), name="data", output="scores"), tmp_path)) == (
            ["data"],
            ["scores"],
        )

    def test_names_that_become_equal_are_told_apart(self, tmp_path: Path) -> None:
        graph = Graph()
        a, b = graph.add_input(X, "a.b"), graph.add_input(X, "a:b")
        graph.set_outputs([*graph.add(ops.Sub(), a, b), *graph.add(ops.Sub(), b, a)], ["a b", "a/b"])
        artifact = compiled(graph, tmp_path)
        assert features(artifact) == (["a_b", "a_b_1"], ["a_b_2", "a_b_3"])
        one, two = np.full(X.dims, 1, np.float32), np.full(X.dims, 3, np.float32)
        results = artifact.run({"a.b": one, "a:b": two})
        assert results["a b"].max() == -2 and results["a/b"].min() == 2

    def test_outputs_that_are_inputs_constants_or_the_same(self, tmp_path: Path) -> None:
        graph = Graph()
        x = graph.add_input(X, "x")
        (y,) = graph.add(ops.Neg(), x)
        c = graph.const(np.arange(3, dtype=np.int64), "c")
        graph.set_outputs([x, y, y, c], ["x", "y", "again", "c"])
        data = np.random.default_rng(0).standard_normal(X.dims).astype(np.float32)
        results = compiled(graph, tmp_path).run({"x": data})
        assert list(results) == ["x", "y", "again", "c"]
        assert np.array_equal(results["x"], data) and np.array_equal(results["again"], -data)
        assert results["c"].dtype == np.int64 and results["c"].tolist() == [0, 1, 2]

    def test_metadata_is_kept(self, tmp_path: Path) -> None:
        graph = graph_of(ops.Relu())
        graph.metadata.update({"author": "someone", "license": "MIT", "labels": "cat,dog"})
        metadata = read_package(compiled(graph, tmp_path).path).spec.description.metadata
        assert (metadata.author, metadata.license, metadata.userDefined["labels"]) == ("someone", "MIT", "cat,dog")


class TestElementTypes:
    @pytest.mark.parametrize(
        "case",
        [(F32, "fp32"), (F16, "fp16"), (F64, "fp32"), (I64, "int32"), (I32, "int32"), (U8, "int32"), (I8, "int32"),
         (BOOL, "int32"), (DTYPES["bf16"], "fp32"), (DTYPES["u4"], "int32")],
        ids=lambda case: str(case[0]),
    )  # fmt: skip
    @pytest.mark.parametrize("shape", [(), (1,), (2, 3)], ids=str)
    def test_inputs_and_outputs_come_back_as_in_onnx(
        self, case: tuple[DType, str], shape: tuple[int, ...], tmp_path: Path
    ) -> None:
        dtype, feature = case
        artifact = compiled(graph_of(ops.Identity(), TensorType(dtype, shape)), tmp_path)
        assert feature_types(artifact) == [feature, feature]
        data = np.ones(shape).astype(dtype.numpy)
        result = artifact.run({"x": data})["y"]
        assert (result.dtype, result.shape) == (data.dtype, shape)
        assert np.array_equal(result, data)

    def test_half_floats_are_single_ones_on_ios_15(self, tmp_path: Path) -> None:
        assert feature_types(compiled(graph_of(ops.Relu(), TensorType(F16, (2,))), tmp_path, target="iOS15")) == [
            "fp32", "fp32"
        ]  # fmt: skip

    def test_integers_beyond_32_bits_are_not_cut(self, tmp_path: Path) -> None:
        artifact = compiled(graph_of(ops.Identity(), TensorType(I64, (1,))), tmp_path)
        assert artifact.run({"x": np.array([2**31 - 1])})["y"].tolist() == [2**31 - 1]
        with pytest.raises(UsageError, match="'x' holds integers"):
            artifact.run({"x": np.array([2**31])})

    def test_numbers_beyond_fp16_are_reported(self, tmp_path: Path) -> None:
        graph = Graph()
        mask = graph.const(np.full(5, -1e9, np.float32), "mask")
        graph.set_outputs(graph.add(ops.Add(), graph.add_input(TensorType(F32, (5,)), "x"), mask), ["y"])
        artifact = compiled(graph, tmp_path, "fp16")
        assert artifact.warnings == ["constant 'mask' holds finite numbers beyond fp16; they became +-65504"]
        assert artifact.run({"x": np.zeros(5, np.float32)})["y"].tolist() == [-65504.0] * 5


class TestRefusals:
    @pytest.mark.parametrize(
        "case",
        [(TensorType(F32, (2, 0)), "an output that has elements"), (TensorType(STRING, (2,)), "integers or booleans"),
         (TensorType(DTYPES["f8e5m2"], (2,)), "floats of at least 16 bits"), (TensorType(F32, ("n", 2)), "known size")],
        ids=lambda case: str(case[0]),
    )  # fmt: skip
    def test_inputs_that_core_ml_cannot_have(self, case: tuple[TensorType, str], tmp_path: Path) -> None:
        t, need = case
        with pytest.raises(LegalityError, match="x") as caught:
            compiled(graph_of(ops.Identity(), t), tmp_path)
        assert need in caught.value.message
        assert not list(tmp_path.iterdir())

    def test_inputs_and_outputs_of_many_axes_or_no_elements(self, tmp_path: Path) -> None:
        graph = Graph()
        x = graph.add_input(TensorType(F32, (1, 2, 1, 3, 2, 2, 2)), "x")
        none = graph.add_input(TensorType(F32, (0, 2)), "none")
        outputs = [*graph.add(ops.Exp(), x), *graph.add(ops.ReduceSum(axes=(0,)), none), none]
        graph.set_outputs(outputs, ["y", "sum", "nothing"])
        DropEmpty().run(graph, Unobserved())
        data = np.random.default_rng(0).standard_normal(x.type.dims).astype(np.float32)
        results = compiled(graph, tmp_path).run({"x": data, "none": np.zeros((0, 2), np.float32)})
        assert np.allclose(results["y"], np.exp(data))
        assert results["sum"].tolist() == [[0, 0]] and results["nothing"].shape == (0, 2)

    def test_an_impossible_input_that_nothing_reads_is_left_out(self, tmp_path: Path) -> None:
        graph = graph_of(ops.Neg())
        graph.add_input(TensorType(F32, (0,)), "like")
        artifact = compiled(graph, tmp_path)
        assert features(artifact)[0] == ["x"]
        results = artifact.run({"x": np.ones(X.dims, np.float32), "like": np.zeros(0, np.float32)})
        assert results["y"].max() == -1

    def test_all_layers_are_listed(self, tmp_path: Path) -> None:
        graph = Graph()
        x = graph.add_input(TensorType(F32, (5, 5)), "x")
        outputs = [*graph.add(ops.Det(), x, names=["d"]), *graph.add(ops.BitCast(to="i32"), x, names=["b"])]
        graph.set_outputs(outputs, ["d", "b"])
        with pytest.raises(LegalityError, match="2 layers cannot run") as caught:
            compiled(graph, tmp_path)
        assert "%d = det(" in caught.value.message and "%b = bitcast(" in caught.value.message
        assert caught.value.hint is not None and "docs/targets/ane.md" in caught.value.hint


class TestImages:
    def test_options_are_read(self) -> None:
        assert parse_image("a:b") == ("a:b", ImageInput())
        assert parse_image("x:0:scale=0.5,bias=-1/0/1,color=bgr") == ("x:0", ImageInput("BGR", 0.5, (-1.0, 0.0, 1.0)))

    @pytest.mark.parametrize("text", ["x:scale=big", "x:size=3", ":scale=1", "x:scale=0", "x:bias=nan"])
    def test_wrong_options(self, text: str) -> None:
        with pytest.raises(UsageError):
            parse_image(text)

    @pytest.mark.parametrize(
        "case",
        [("z", X, "no input 'z'"), ("x", TensorType(F32, (1, 4, 4, 5)), "cannot take RGB images"),
         ("x", TensorType(F32, (2, 3, 4, 5)), "cannot take RGB"), ("x", TensorType(U8, X.shape), "cannot take RGB"),
         ("x:color=GRAYSCALE", X, "shape \\[1,1,height,width\\]"), ("x:bias=1/2", X, "2 biases")],
        ids=lambda case: f"{case[0]}-{case[1]}",
    )  # fmt: skip
    def test_inputs_that_take_no_image(self, case: tuple[str, TensorType, str]) -> None:
        text, t, message = case
        with pytest.raises(UsageError, match=message):
            CoreMLTarget(image=[text]).prepare(graph_of(ops.Identity(), t))

    def test_half_float_images_need_ios_16(self) -> None:
        graph = graph_of(ops.Relu(), TensorType(F32, (1, 1, 4, 5)))
        for target, fails in (("iOS15", True), ("iOS16", False)):
            chosen = CoreMLTarget(image=["x:color=GRAYSCALE_FLOAT16"], deployment_target=target)
            if fails:
                with pytest.raises(UsageError, match="iOS 16"):
                    chosen.prepare(graph)
            else:
                chosen.prepare(graph)

    @pytest.mark.parametrize("color", ["RGB", "BGR", "GRAYSCALE"])
    def test_run_takes_the_array_of_the_onnx_model(self, color: str, tmp_path: Path) -> None:
        channels = 1 if color == "GRAYSCALE" else 3
        t = TensorType(F32, (1, channels, 4, 5))
        bias = "/".join(str(-0.5 - i / 8) for i in range(channels))
        target = CoreMLTarget(precision="fp32", image=[f"x:scale=0.00390625,bias={bias},color={color}"])
        artifact = target.emit(target.prepare(graph_of(ops.Identity(), t)), tmp_path / "m.mlpackage")
        (feature,) = read_package(artifact.path).spec.description.input
        image = feature.type.imageType
        assert (image.width, image.height) == (5, 4)
        assert image.ColorSpace.Name(image.colorSpace) == color
        pixels = np.random.default_rng(0).integers(0, 256, t.dims)
        x = (pixels * 2.0**-8 - 0.5 - np.arange(channels).reshape(1, -1, 1, 1) / 8).astype(np.float32)
        assert np.allclose(artifact.run({"x": x})["y"], x, atol=1e-6)

    def test_pictures_for_core_ml(self) -> None:
        pytest.importorskip("PIL")
        pixels: Array = np.zeros((1, 3, 2, 2), np.float32)
        pixels[0, 0] = 254.6
        red, blue = as_image(pixels, ImageInput("RGB")), as_image(pixels, ImageInput("BGR"))
        assert red.mode == blue.mode == "RGB"
        assert (red.getpixel((0, 0)), blue.getpixel((0, 0))) == ((255, 0, 0), (0, 0, 255))
        assert as_image(pixels[:, :1], ImageInput("GRAYSCALE")).mode == "L"
        assert as_image(pixels[:, :1], ImageInput("GRAYSCALE_FLOAT16")).mode == "F"


def test_losses_name_the_layer(tmp_path: Path) -> None:
    """A sum with a large number loses digits in fp16, which show where that is taken away again."""
    graph = Graph()
    x = graph.add_input(TensorType(F32, (64,)), "x")
    (before,) = graph.add(ops.Neg(), x)
    large = graph.const(np.full(64, 1000, np.float32))
    (big,) = graph.add(ops.Add(), before, large)
    (small,) = graph.add(ops.Sub(), big, large, origin=frozenset(("Sub_1",)))
    graph.set_outputs(graph.add(ops.Abs(), small), ["y"])
    data = np.random.default_rng(0).standard_normal(64).astype(np.float16).astype(np.float32)
    worst = compiled(graph, tmp_path, "fp16").losses(graph, {"x": data})[0]
    assert worst.node is small.node
    assert worst.operands_db > 60
    assert worst.result_db < 40
    assert str(worst).startswith("sub at Sub_1")


def test_the_saved_package_is_what_runs(tmp_path: Path) -> None:
    artifact = compiled(graph_of(ops.Neg()), tmp_path)
    other = compiled(graph_of(ops.Abs()), tmp_path / "other")
    shutil.rmtree(artifact.path)
    shutil.copytree(other.path, artifact.path)
    assert artifact.run({"x": np.full(X.dims, -2, np.float32)})["y"].max() == 2

"""The program builder, against coremltools: the same specification for the same program, the same operations."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.errors import EmitError, MissingExtraError
from targets.coreml import proto
from targets.coreml.blob import BlobWriter
from targets.coreml.features import describe_image
from targets.coreml.mil import Program, Var
from targets.coreml.names import identifier
from targets.coreml.opset import SIGNATURES, TARGETS
from targets.coreml.package import read_package
from targets.coreml.values import read_value, tensor_type
from tests.targets.coreml_harness import coremltools, reload

WEIGHT = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)


def small_network(ios: str) -> Program:
    p = Program(ios)
    x = p.input("x", "fp32", (1, 3, 16, 16))
    (c,) = p.op(
        "conv",
        {"x": x, "weight": WEIGHT, "bias": np.ones(8, np.float32), "pad_type": "custom", "pad": [1, 0, 2, 1]},
        [("fp32", (1, 8, 15, 17))],
        "c",
    )
    a, b = p.op("split", {"x": c, "num_splits": 2, "axis": 1}, [("fp32", (1, 4, 15, 17))] * 2, "halves")
    (z,) = p.op("concat", {"values": [b, a], "axis": 1}, [("fp32", (1, 8, 15, 17))], "z")
    (out,) = p.op("leaky_relu", {"x": z, "alpha": 0.25}, [("fp32", (1, 8, 15, 17))], "l")
    (i,) = p.op("reduce_argmax", {"x": out, "axis": 1}, [("int32", (1, 15, 17))], "i")
    p.output(out, "out")
    p.output(i, "index")
    return p


def apples_network(ios: str) -> Any:
    ct = coremltools()
    from coremltools.converters.mil import Builder

    @Builder.program(  # type: ignore[untyped-decorator]  # coremltools has no types
        input_specs=[Builder.TensorSpec(shape=(1, 3, 16, 16))], opset_version=getattr(ct.target, ios)
    )
    def network(x: Any) -> Any:
        c = Builder.conv(x=x, weight=WEIGHT, bias=np.ones(8, np.float32), pad_type="custom", pad=[1, 0, 2, 1], name="c")
        a, b = Builder.split(x=c, num_splits=2, axis=1, name="halves")
        z = Builder.concat(values=[b, a], axis=1, name="z")
        out = Builder.leaky_relu(x=z, alpha=0.25, name="out")
        return out, Builder.reduce_argmax(x=out, axis=1, name="index")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ct.convert(
            network,
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, ios),
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )


def structure(path: Path) -> tuple[Any, ...]:
    """A package without the names of its constants: interface, and operations with the values they are given."""
    spec, weights = read_package(path)
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    constants: dict[str, Any] = {}
    operations = []
    for operation in block.operations:
        if operation.type == "const":
            value = read_value(operation.attributes["val"], weights)
            stored = "file" if operation.attributes["val"].HasField("blobFileValue") else "immediate"
            data = value if isinstance(value, str) else (str(np.asarray(value).dtype), np.asarray(value).tolist())
            constants[operation.outputs[0].name] = (stored, data)
            continue
        operands = {
            name: [constants.get(binding.name, binding.name) for binding in argument.arguments]
            for name, argument in operation.inputs.items()
        }
        outputs = [(output.name, tensor_type(output.type)) for output in operation.outputs]
        operations.append((operation.type, operands, outputs))
    description = spec.description
    description.metadata.Clear()
    interface = [(entry.name, tensor_type(entry.type)) for entry in function.inputs]
    return (
        spec.specificationVersion,
        function.opset,
        interface,
        operations,
        list(block.outputs),
        description.SerializeToString(deterministic=True),
    )


@pytest.mark.parametrize("ios", ["iOS15", "iOS16", "iOS17", "iOS18", "iOS26"])
def test_same_specification_as_coremltools(tmp_path: Path, ios: str) -> None:
    apples_network(ios).save(str(tmp_path / "theirs.mlpackage"))
    small_network(ios).save(tmp_path / "ours.mlpackage")
    assert structure(tmp_path / "ours.mlpackage") == structure(tmp_path / "theirs.mlpackage")
    assert "leaky_relu" in reload(tmp_path / "ours.mlpackage")


def test_reading_and_writing_never_import_coremltools(tmp_path: Path) -> None:
    script = f"""
import sys
import numpy as np
from targets.coreml.mil import Program
from targets.coreml.evaluate import evaluate_package
p = Program("iOS16")
x = p.input("x", "fp32", (2,))
p.output(p.op("relu", {{"x": x}}, [("fp32", (2,))])[0], "y")
p.save({str(tmp_path / "m.mlpackage")!r})
print(evaluate_package({str(tmp_path / "m.mlpackage")!r}).run({{"x": np.array([-1, 2], np.float32)}})["y"])
assert "coremltools" not in sys.modules, "imported"
import warnings
warnings.simplefilter("ignore")
import coremltools
from targets.coreml.proto import messages
assert coremltools.proto.Model_pb2.Model is messages().model.Model
spec = coremltools.utils.load_spec({str(tmp_path / "m.mlpackage")!r})
assert spec.specificationVersion == 7
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0. 2.]"


def test_without_coremltools_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    proto.messages.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError) as caught:
        proto.messages()
    assert "pip install 'cincel[coreml]'" in str(caught.value)
    monkeypatch.undo()
    assert proto.messages().mil.Program


def test_targets_are_those_of_coremltools() -> None:
    ct = coremltools()
    for name, target in TARGETS.items():
        assert getattr(ct.target, name).value == target.specification_version
        assert ct._OPSET[target.specification_version] == target.opset


def test_operation_table_is_that_of_coremltools() -> None:
    coremltools()
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    unsupported = {"const", "_const_symbolic", "cond", "while_loop", "make_list", "conv_quantized"}
    theirs = {n: forms for n, forms in SSAOpRegistry.core_ops.items() if n not in unsupported and "list_" not in n}
    assert set(SIGNATURES) == set(theirs)
    for name, forms in theirs.items():
        for version, operation in forms.items():
            ios = int(version.name[3:])
            parameters = operation.input_spec.input_types
            known = [form for form in SIGNATURES[name] if form.since <= max(ios, 15)]
            assert known, (name, ios)
            assert set(known[-1].required) == {k for k, t in parameters.items() if not t.optional}, (name, ios)
            assert set(known[-1].optional) == {k for k, t in parameters.items() if t.optional}, (name, ios)
        assert SIGNATURES[name][0].since == max(15, min(int(version.name[3:]) for version in forms))


def test_literals_take_the_float_type_of_their_operation() -> None:
    p = Program("iOS16")
    x = p.input("x", "fp16", (1, 3, 4, 4))
    (y,) = p.op("instance_norm", {"x": x, "epsilon": 1e-3}, [("fp16", x.shape)])
    (z,) = p.op("add", {"x": y, "y": 2.0}, [("fp16", x.shape)])
    (k,) = p.op("topk", {"x": p.const(np.arange(4)), "k": np.int64(2)}, [("int32", (2,)), ("int32", (2,))])[:1]
    p.output(z, "z")
    p.output(k, "k")
    spec = p.specification(BlobWriter())
    values = {
        o.outputs[0].name: tensor_type(o.outputs[0].type)
        for o in spec.mlProgram.functions["main"].block_specializations["CoreML6"].operations
        if o.type == "const"
    }
    assert values["instance_norm_epsilon"] == ("fp16", ())
    assert values["add_y"] == ("fp16", ())
    assert values["const"] == ("int32", (4,))
    assert values["topk_k"] == ("int32", ())


def test_equal_literals_and_keyed_arrays_are_one_constant() -> None:
    p = Program("iOS16")
    assert p.const([1, 2]) is p.const(np.array([1, 2], np.int64))
    assert p.const(1.0) is not p.const(1.0, "fp16")
    assert p.const(1) is not p.const(True)
    big = np.zeros(100, np.float32)
    assert p.const(big) is p.const(big)
    assert p.const(big) is not p.const(big.copy())
    assert p.const(big, "fp16", key="w") is p.const(big.copy(), "fp16", key="w")


def test_names_are_unique_and_those_of_inputs_and_outputs_kept() -> None:
    p = Program("iOS16")
    x = p.input("relu", "fp32", (2,))
    (a,) = p.op("relu", {"x": x}, [("fp32", (2,))], "y")
    (b,) = p.op("relu", {"x": a}, [("fp32", (2,))], "layer/1:0")
    (c,) = p.op("relu", {"x": b}, [("fp32", (2,))], "layer/1:0")
    p.output(c, "y")
    p.output(c, "again")
    p.output(x, "through")
    spec = p.specification(BlobWriter())
    block = spec.mlProgram.functions["main"].block_specializations["CoreML6"]
    names = [output.name for operation in block.operations for output in operation.outputs]
    assert names == ["y_0", "layer_1_0", "y", "again", "through"]
    assert [operation.type for operation in block.operations][3:] == ["identity", "identity"]
    assert list(block.outputs) == ["y", "again", "through"]


@pytest.mark.parametrize(
    ("name", "clean"),
    [("a.b/c:0", "a_b_c_0"), ("0x", "_0x"), ("fp16", "fp16_"), ("état", "_tat"), ("", "_"), ("ok_1", "ok_1")],
)
def test_identifiers(name: str, clean: str) -> None:
    assert identifier(name) == clean


def test_images_and_metadata(tmp_path: Path) -> None:
    p = Program("iOS16")
    x = p.input("photo", "fp32", (1, 3, 20, 30), color="BGR", description="a photo")
    (y,) = p.op("relu", {"x": x}, [("fp32", x.shape)])
    p.output(y, "out", color="RGB")
    p.metadata.update(author="me", shortDescription="what it does", stage="test")
    p.save(tmp_path / "m.mlpackage")
    description = read_package(tmp_path / "m.mlpackage").spec.description
    assert description.input[0].shortDescription == "a photo"
    image = description.input[0].type.imageType
    assert (image.width, image.height, image.colorSpace) == (30, 20, 30)
    assert description.output[0].type.imageType.colorSpace == 20
    assert (description.metadata.author, dict(description.metadata.userDefined)) == ("me", {"stage": "test"})
    ct = coremltools()
    assert ct.models.MLModel(str(tmp_path / "m.mlpackage"), skip_model_load=True).short_description == "what it does"


def test_compressed_weights_as_attributes_and_as_inputs(tmp_path: Path) -> None:
    codes = (np.arange(24) % 16).astype(np.uint8).reshape(4, 6)
    for ios, packed in (("iOS16", False), ("iOS18", True)):
        p = Program(ios)
        x = p.input("x", "fp32", (2, 6))
        if packed:
            lut = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 1, 16, 1)
            (w,) = p.constexpr("constexpr_lut_to_dense", {"indices": (codes, "uint4"), "lut": lut}, [("fp32", (4, 6))])
        else:
            values: dict[str, Any] = {
                "quantized_data": codes,
                "zero_point": np.uint8(3),
                "scale": np.float32(0.5),
                "axis": 0,
            }
            (w,) = p.constexpr("constexpr_affine_dequantize", values, [("fp32", (4, 6))])
        (y,) = p.op("linear", {"x": x, "weight": w}, [("fp32", (2, 4))])
        p.output(y, "y")
        p.save(tmp_path / f"{ios}.mlpackage")
        assert "constexpr" in reload(tmp_path / f"{ios}.mlpackage")


def test_programs_that_core_ml_would_refuse_are_refused_here() -> None:
    p = Program("iOS15")
    x = p.input("x", "fp32", (1, 4))
    with pytest.raises(EmitError, match="no operation 'frobnicate'"):
        p.op("frobnicate", {"x": x}, [("fp32", (1, 4))])
    with pytest.raises(EmitError, match="'fill_like' needs iOS 16"):
        p.op("fill_like", {"ref_tensor": x}, [("fp32", (1, 4))])
    with pytest.raises(EmitError, match="'conv' lacks weight"):
        p.op("conv", {"x": x}, [("fp32", (1, 4))])
    with pytest.raises(EmitError, match="'gather' has no batch_dims on iOS 15"):
        p.op("gather", {"x": x, "indices": [0], "batch_dims": 1}, [("fp32", (1, 4))])
    with pytest.raises(EmitError, match="two inputs called 'x'"):
        p.input("x", "fp32", (1,))
    with pytest.raises(EmitError, match="element type fp16; Core ML on iOS 15 has fp32, int32"):
        p.input("h", "fp16", (1,))
    with pytest.raises(EmitError, match="element type bool"):
        p.output(Var("b", "bool", (1,)), "b")
    with pytest.raises(EmitError, match="do not fit Core ML's int32"):
        p.const(np.array([2**40]))
    with pytest.raises(EmitError, match="no deployment target 'iOS9'"):
        Program("iOS9")
    with pytest.raises(EmitError, match="cannot be a RGB image"):
        describe_image(proto.messages().model.FeatureDescription(name="x"), (1, 4), "RGB", 16)
    p.output(x, "x y")
    with pytest.raises(EmitError, match="cannot have an input or output called 'x y'"):
        p.specification(BlobWriter())


def test_constants_that_overflow_fp16_are_named(tmp_path: Path) -> None:
    p = Program("iOS16")
    x = p.input("x", "fp16", (20,))
    (y,) = p.op("add", {"x": x, "y": p.const(np.full(20, 1e6, np.float32), "fp16", name="w")}, [("fp16", (20,))])
    (z,) = p.op("add", {"x": y, "y": 1e9}, [("fp16", (20,))], "shift")
    p.output(z, "z")
    assert p.save(tmp_path / "m.mlpackage") == ["shift_y", "w"]

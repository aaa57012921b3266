"""Our packages read back by coremltools, which infers the types of every operation anew and compares them with those
that we declare. Its import takes seconds, so all of this is one module."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from compiler.api import compile_model
from compiler.errors import LegalityError
from targets.coreml.lower import TABLE
from targets.coreml.lower.refused import REASONS
from tests.real_models import RealModel, real_model
from tests.targets.coreml_harness import reload
from tests.targets.coreml_layers import compiled, layers

NAMES = sorted(cls.name for cls in TABLE.entries if cls not in REASONS)


def assert_valid(path: Path) -> None:
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        reload(path)


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_valid(name: str, tmp_path: Path) -> None:
    for i, (graph, _) in enumerate(layers(name, 5)):
        try:
            artifact = compiled(graph, tmp_path, ("fp32", "fp16")[i % 2], ("iOS17", "iOS15", "iOS18")[i % 3])
        except LegalityError:
            continue
        assert_valid(artifact.path)


def test_models_are_valid(model: RealModel, tmp_path: Path) -> None:
    assert_valid(compile_model(model.path, "ane", tmp_path / "m.mlpackage", inputs=model.bind, verify="off").path)


def test_a_wrong_type_is_found(tmp_path: Path) -> None:
    """The validator must be able to fail: a result declared with another shape is."""
    model = real_model("mnist_cnn_opset8")
    path = compile_model(model.path, "ane", tmp_path / "m.mlpackage", inputs=model.bind, verify="off").path
    file = path / "Data/com.apple.CoreML/model.mlmodel"
    from targets.coreml.proto import messages

    spec = messages().model.Model()
    spec.ParseFromString(file.read_bytes())
    block = next(iter(spec.mlProgram.functions["main"].block_specializations.values()))
    operation = next(o for o in block.operations if o.type == "conv")
    operation.outputs[0].type.tensorType.dimensions[1].constant.size += 1
    file.write_bytes(spec.SerializeToString())
    with pytest.raises((AssertionError, ValueError)):
        assert_valid(path)

"""Models that are broken, hostile or absurd: one clear sentence, the right exit code, nothing left behind."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compiler.cli import main
from compiler.onnx_proto import DATA_TYPES
from tests.command import Command, Outcome, build, convolutional, f32, info, node

TARGETS = ("onnx", "ane", "nnapi")
X, Y = info("x", [2, 3]), info("y", [2, 3])
RELU = [node("Relu", "x", "y")]


def save(model: onnx.ModelProto, name: str = "m.onnx") -> Path:
    Path(name).write_bytes(model.SerializeToString())
    return Path(name)


def expect_one_sentence(done: Outcome, code: int, *words: str) -> None:
    """The error has all the words, and no traceback."""
    assert (done.code, done.out) == (code, ""), done
    assert done.err.startswith("compile: ") and "Traceback" not in done.err and "internal error" not in done.err
    for word in words:
        assert word in done.err, done.err


def refused(command: Command, model: Path, *words: str, code: int = 1, **flags: str) -> None:
    """Every target refuses the model with one sentence, and leaves nothing."""
    before = sorted(Path().rglob("*"))
    options = [word for name, value in flags.items() for word in (f"--{name}", value)]
    for target in TARGETS:
        expect_one_sentence(command(model, "-t", target, "-o", "out", *options), code, *words)
        assert sorted(Path().rglob("*")) == before


def accepted(command: Command, model: Path, *flags: str) -> None:
    """Every target compiles the model and executes the artifact within tolerance."""
    for target in TARGETS:
        done = command(model, "-t", target, "-o", f"out.{target}", "--json", *flags)
        assert done.code == 0, done
        assert done.report["verification"]["passed"] is True


# -- files -----------------------------------------------------------------------------------------------------------


def test_what_is_no_file(command: Command) -> None:
    Path("folder.onnx").mkdir()
    os.mkfifo("pipe.onnx")
    Path("empty.onnx").touch()
    refused(command, Path("folder.onnx"), '"folder.onnx" is a folder, not a file')
    refused(command, Path("pipe.onnx"), "is not a regular file")
    refused(command, Path("empty.onnx"), "is empty")
    refused(command, Path("none.onnx"), "does not exist")


@pytest.mark.parametrize(
    "data", [b"\x00" * 100, b"GIF89a" + bytes(100), b"{}", "text é\n".encode() * 50, b"\x3a\xff\xff\xff\xff\x0f"]
)
def test_what_is_no_model(command: Command, data: bytes) -> None:
    Path("m.onnx").write_bytes(data)
    refused(command, Path("m.onnx"), '"m.onnx"')


MODEL = convolutional().SerializeToString()


@settings(max_examples=40)
@given(st.integers(0, len(MODEL) - 1))
def test_truncated_models(length: int) -> None:
    outcome = compiled_bytes(MODEL[:length])
    assert outcome.code == 1 and outcome.err.startswith("compile: ")


@settings(max_examples=120)
@given(st.lists(st.tuples(st.integers(0, len(MODEL) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_corrupted_models(changes: list[tuple[int, int]]) -> None:
    """A corrupted model may still be one; then it compiles, or is further from ONNX Runtime than is allowed."""
    data = bytearray(MODEL)
    for place, byte in changes:
        data[place] = byte
    compiled_bytes(bytes(data))


def compiled_bytes(data: bytes) -> Outcome:
    """Compile for every target in this process; asserts that each gives a right code and leaves no partial artifact."""
    outcome = Outcome(0, "", "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        path.write_bytes(data)
        for target in TARGETS:
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main([str(path), "-t", target, "-o", f"{folder}/out", "--json", "--verify", "off"])
            gc.unfreeze()  # this process goes on
            outcome = Outcome(code, out.getvalue(), err.getvalue())
            assert code in (0, 1), outcome
            assert "internal error" not in outcome.err and "Traceback" not in outcome.err, outcome.err
            left = {p.name for p in Path(folder).iterdir()}
            assert left == ({"m.onnx", "out"} if code == 0 else {"m.onnx"})
            if code == 0:
                assert outcome.report["artifact"] == f"{folder}/out"
                shutil.rmtree(Path(folder, "out")) if target == "ane" else Path(folder, "out").unlink()
            else:
                assert outcome.report["error"] and outcome.report["exit_code"] == code
    return outcome


# -- graphs ----------------------------------------------------------------------------------------------------------


def test_cycles(command: Command) -> None:
    nodes = [node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")]
    refused(command, save(build(nodes, [X], [Y])), "the graph has a cycle through tensor", "_node")
    refused(command, save(build([node("Add", "x y", "y")], [X], [Y])), 'a cycle through tensor "y"')


def test_missing_tensors(command: Command) -> None:
    refused(
        command,
        save(build([node("Add", "x gone", "y")], [X], [Y])),
        'tensor "gone" is computed by no node',
        '"y_node" (Add)',
    )
    refused(command, save(build(RELU, [X], [Y, info("gone", [1])])), 'output "gone" is computed by no node')


def test_tensors_that_are_defined_twice(command: Command) -> None:
    twice = '" is defined twice'
    refused(command, save(build([*RELU, node("Neg", "x", "y")], [X], [Y])), 'tensor "y', twice, "(Neg)")
    refused(command, save(build([*RELU, node("Neg", "y", "x")], [X], [Y])), 'tensor "x', twice)
    refused(command, save(build(RELU, [X, X], [Y])), 'tensor "x', twice)
    refused(command, save(build([node("Relu", "x", "w")], [X], [info("w", [2, 3])], {"w": np.float32(1)})), '"w', twice)
    model = build(RELU, [X], [Y], {"w": np.float32(1)})
    model.graph.initializer.append(model.graph.initializer[0])
    refused(command, save(model), '"w', twice)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("MatMul", "x x", "y")], ("[2,3]", '"y_node" (MatMul)')),
        ([node("Conv", "x w", "y")], ('"y_node" (Conv)',)),
        ([node("Reshape", "x shape", "y")], ('"y_node" (Reshape)',)),
        ([node("Reshape", "x x", "y")], ('"y_node" (Reshape)',)),
        ([node("Transpose", "x", "y", perm=[0, 7])], ('"y_node" (Transpose)',)),
        ([node("Concat", "x x", "y", axis=9)], ('"y_node" (Concat)',)),
        ([node("Softmax", "x", "y", axis=-5)], ('"y_node" (Softmax)',)),
        ([node("Cast", "x", "y", to=999)], ('"y_node" (Cast)', "999")),
        ([node("Cast", "x", "y", to="float")], ('"y_node" (Cast)',)),
        ([node("Relu", "", "y")], ("Relu does not take 0 operands", '"y_node" (Relu)')),
        ([node("Relu", "x x x", "y")], ('"y_node" (Relu)',)),
        ([node("Add", "x", "y")], ('"y_node" (Add)',)),
        ([node("Relu", "x", "y z")], ('"y_node" (Relu)', "2 results")),
        ([node("Split", "x", "y z", axis=0, num_outputs=2), node("Add", "y w", "v")], ('"v_node" (Add)',)),
        ([node("Conv", "x4 w4", "y", strides=[0, 0])], ('"y_node" (Conv)',)),
        ([node("Conv", "x4 w4", "y", group=0)], ('"y_node" (Conv)',)),
        ([node("Conv", "x4 w4", "y", pads=[-9, 0, 0, 0])], ('"y_node" (Conv)',)),
        ([node("MaxPool", "x4", "y", kernel_shape=[0, 0])], ('"y_node" (MaxPool)',)),
        ([node("MaxPool", "x4", "y", kernel_shape=[9, 9])], ('"y_node" (MaxPool)',)),
        ([node("BatchNormalization", "x4 x4 x4 x4 x4", "y")], ('"y_node" (BatchNormalization)',)),
        ([node("Einsum", "x x", "y", equation="ij,jk->ik")], ('"y_node" (Einsum)',)),
        ([node("Einsum", "x", "y", equation="((((")], ('"y_node" (Einsum)',)),
    ],
    ids=lambda value: value[-1].op_type if isinstance(value, list) else "",
)
def test_nodes_that_do_not_fit(command: Command, nodes: list[onnx.NodeProto], words: tuple[str, ...]) -> None:
    weights = {"w": np.zeros((5, 5), np.float32), "shape": np.array([7, 7], np.int64)}
    weights |= {"w4": np.zeros((1, 1, 3, 3), np.float32)}
    model = build(nodes, [X, info("x4", [1, 1, 5, 5])], [info("y", None)], weights, 18)
    refused(command, save(model), *words)


# -- external data ---------------------------------------------------------------------------------------------------


def external(location: str, **entries: str) -> onnx.ModelProto:
    """A model whose weights are said to be in another file."""
    model = build([node("Add", "x w", "y")], [X], [Y])
    tensor = TensorProto(name="w", data_type=1, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    model.graph.initializer.append(tensor)
    return model


def test_external_data(command: Command) -> None:
    Path("inside").mkdir()
    Path("secret").write_bytes(np.ones(6, np.float32).tobytes())
    Path("inside/link").symlink_to("../secret")
    Path("inside/data").write_bytes(np.ones(6, np.float32).tobytes())
    Path("inside/way").symlink_to("..")
    cases = {
        str(Path("secret").absolute()): "absolute path",
        "../secret": "leaves the folder",
        "link": "symbolic link",
        "way/secret": "symbolic link",
        "none": "does not exist",
        ".": "is not the path of a file",
        "": "is not the path of a file",
    }
    for location, words in cases.items():
        refused(command, save(external(location), "inside/m.onnx"), 'the tensor "w" cannot be read', words)
    for entries in ({"offset": "8"}, {"offset": str(2**62)}, {"length": "4"}, {"offset": "-1"}, {"length": "x"}):
        refused(command, save(external("data", **entries), "inside/m.onnx"), 'the tensor "w" cannot be read')
    accepted(command, save(external("data"), "inside/m.onnx"))


# -- sizes -----------------------------------------------------------------------------------------------------------


def test_absurd_ranks(command: Command) -> None:
    model = build(RELU, [X], [Y], {"w": np.float32(1)})
    model.graph.initializer[0].dims[:] = [1] * 100
    model.graph.node.append(node("Add", "x w", "z"))
    model.graph.output.append(info("z", None))
    refused(command, save(model), "100 dimensions")
    model.graph.initializer[0].dims[:] = [-1]
    refused(command, save(model), "negative dimension")


def test_zero_sizes(command: Command) -> None:
    """ONNX and LiteRT have tensors without elements; Core ML has not."""
    model = save(build([node("Relu", "x", "y")], [info("x", [0, 3])], [info("y", [0, 3])]))
    for target in ("onnx", "nnapi"):
        done = command(model, "-t", target, "-o", f"o.{target}", "--json")
        assert done.code == 0 and done.report["verification"]["outputs"][0]["max_abs"] == 0
    expect_one_sentence(command(model, "-t", "ane", "-o", "o.mlpackage"), 1, "ane")
    assert not Path("o.mlpackage").exists()


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.BOOL])
def test_scalars(command: Command, kind: int) -> None:
    """As inputs and outputs, one of which is computed and one is the input itself."""
    op = "Not" if kind == TensorProto.BOOL else "Neg"
    nodes = [node(op, "x", "y"), node("Identity", "x", "z")]
    accepted(command, save(build(nodes, [info("x", [], kind)], [info("y", [], kind), info("z", [], kind)])))


def test_inputs_without_a_shape(command: Command) -> None:
    refused(command, save(build(RELU, [info("x", None)], [info("y", None)])), '"x" has no shape')


# -- numbers ---------------------------------------------------------------------------------------------------------


def test_nan_and_infinite_weights(command: Command) -> None:
    """They are numbers like others: the artifact gives them where ONNX Runtime does."""
    weights = {"w": f32([[np.nan, np.inf, 1], [-np.inf, 0, 2]])}
    accepted(command, save(build([node("Add", "x w", "y")], [X], [Y], weights)))


def test_weights_that_fp16_cannot_hold(command: Command) -> None:
    model = save(build([node("Mul", "x w", "y")], [X], [Y], {"w": f32([1e38, 1, 1])}))
    assert command(model, "-t", "ane", "-o", "o.mlpackage", "--precision", "fp32").code == 0
    done = command(model, "-t", "ane", "-o", "o.mlpackage", "--json")
    assert done.code == 3 and done.report["verification"]["passed"] is False
    assert any("fp16" in warning for warning in done.report["warnings"])


def test_a_normalisation_of_negative_variance(command: Command) -> None:
    weights: dict[str, Any] = {k: np.ones(3, np.float32) for k in ("s", "b", "m")} | {"v": f32([-1, 0, 1])}
    model = build([node("BatchNormalization", "x s b m v", "y", epsilon=0.0)], [X], [Y], weights)
    for target in TARGETS:
        done = command(save(model), "-t", target, "-o", f"o.{target}")
        assert done.code in (0, 1, 3) and "internal" not in done.err and "Traceback" not in done.err


def test_a_division_by_zero_is_quiet(command: Command) -> None:
    model = save(
        build(
            [node("Div", "one zero", "q"), node("Add", "x q", "y")],
            [X],
            [Y],
            {"one": np.float32(1), "zero": np.float32(0)},
        )
    )
    done = command(model, "-t", "onnx", "-o", "o.onnx", "--quiet")
    assert done == (0, "", "")


def test_text_and_odd_element_types(command: Command) -> None:
    """What ONNX has and a target has not is refused by layer, never by a traceback."""
    for kind in DATA_TYPES:
        model = save(build([node("Identity", "x", "y")], [info("x", [2], kind)], [info("y", [2], kind)]))
        for target in TARGETS:
            done = command(model, "-t", target, "-o", f"o{kind}.{target}", "--verify", "off")
            assert done.code in (0, 1) and "internal error" not in done.err, (kind, target, done.err)
            assert target != "onnx" or done.code == 0


# -- a list of everything that is wrong ------------------------------------------------------------------------------


def test_all_unsupported_layers_are_listed_by_both_sides(command: Command) -> None:
    nodes = [helper.make_node(f"Unheard{i}", ["x"], [f"u{i}"], f"n{i}") for i in range(5)]
    model = save(build([*nodes, *RELU], [X], [Y]))
    done = command(model, "-t", "onnx")
    assert done.code == 1 and "5 parts of the model cannot be imported" in done.sentence
    assert re.findall(r'"(n\d)"', done.err) == ["n0", "n1", "n2", "n3", "n4"]


def test_hostile_names_are_quoted(command: Command) -> None:
    name = 'evil"\n\x1b[2Jcompile: all is well\n' + "x" * 5000
    model = build([helper.make_node("Unheard", ["x"], ["y"], name)], [X], [Y])
    done = command(save(model), "-t", "onnx")
    assert done.code == 1 and done.err.count("\n") == 2 and "\x1b" not in done.err and len(done.err) < 600
    tensor = numpy_helper.from_array(f32([1, 2]), name)
    model = build([helper.make_node("Add", ["x", name], ["y"], name)], [X], [Y])
    model.graph.initializer.append(tensor)
    done = command(save(model), "-t", "onnx")
    assert done.code == 1 and "\x1b" not in done.err


def test_more_dimensions_than_an_array_can_have(command: Command) -> None:
    outputs = [info("y", None)]
    deep = save(build(RELU, [info("x", [1] * 65)], outputs))
    refused(command, deep, 'tensor "x" has 65 dimensions; at most 64 are supported')
    axes = {"axes": np.arange(63)}
    grown = save(build([node("Unsqueeze", "x axes", "y")], [X], outputs, axes))
    refused(command, grown, 'tensor "y" has 65 dimensions; at most 64 are supported')

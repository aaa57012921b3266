"""ONNX files that lie, leave their folder, end early or grow: each gets one sentence, soon."""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compiler.errors import OnnxError
from compiler.onnx_file import OnnxFile, read_model
from compiler.onnx_wire import HERE, varint
from tests.onnx_models import W, model, small

SMALL = small().SerializeToString()


def read_everything(source: bytes | Path) -> OnnxFile:
    file = read_model(source)
    list(file.initializers())
    for node in file.model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                file.tensor(attribute.t)
    return file


def refused(source: bytes | Path, *words: str) -> None:
    """One sentence with these words, in bounded time."""
    started = time.process_time()
    with pytest.raises(OnnxError) as caught:
        read_everything(source)
    assert time.process_time() - started < 2
    message = caught.value.message
    assert "\n" not in message and len(message) < 1000
    for word in words:
        assert word in message


# ---- bytes that are not a model -------------------------------------------------------------------------------------


PAYLOADS = [found.span() for w in (W, W * 2, W.T) for found in re.finditer(re.escape(w.tobytes()), SMALL)]
STRUCTURE = [place for place in range(len(SMALL)) if not any(a < place < b - 4 for a, b in PAYLOADS)]
PLACE = st.sampled_from(STRUCTURE)
CHANGE = st.one_of(
    st.tuples(PLACE, st.just(1), st.binary(min_size=1, max_size=1)),
    st.tuples(PLACE, st.integers(0, 40), st.binary(max_size=12)),
)


@settings(max_examples=500)
@given(st.lists(CHANGE, min_size=1, max_size=5))
@example([(0, 1, b"\xff")])
def test_changed_bytes_give_a_model_or_one_kind_of_error(changes: list[tuple[int, int, bytes]]) -> None:
    data = bytearray(SMALL)
    for place, length, new in changes:
        data[place : place + length] = new
    outcome = ""
    try:
        read_everything(bytes(data))
    except OnnxError as error:
        outcome = error.message
    assert "\n" not in outcome


@pytest.mark.parametrize("length", [1, 2, 3, 10, 100, 1000, 20_000, len(SMALL) // 2, len(SMALL) - 1])
def test_truncated(length: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(SMALL[:length])
    refused(path, "m.onnx", "not")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "no graph"),
        (b"\x08\x08", "no graph"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not a complete ONNX model"),
        (b"<!DOCTYPE html><html></html>", "not a complete ONNX model"),
        (b"PK\x03\x04" + bytes(1000), "not a complete ONNX model"),
        (b"\xff" * 5000, "not a complete ONNX model"),
        (b"\x3a" + varint(1 << 62) + bytes(5000), "it ends early"),
        (b"\x3a" + b"\xff" * 9 + b"\x01" + bytes(5000), "it ends early"),
        (b"\x3b" * 10_000, "not a complete ONNX model"),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else "",
)
def test_what_is_not_a_model(data: bytes, word: str) -> None:
    refused(data, word)


def test_deep_nesting_ends() -> None:
    data = bytes(5000)
    for depth in range(3000):
        data = bytes([(0x32, 0x2A, 0x0A)[depth % 3]]) + varint(len(data)) + data
    refused(b"\x3a" + varint(len(data)) + data, "not a complete ONNX model")


def test_paths_that_are_not_files(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder")
    refused(tmp_path / "none.onnx", "does not exist")
    refused(Path("/dev/null"), "not a regular file")
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "not a regular file")
    (tmp_path / "empty.onnx").touch()
    refused(tmp_path / "empty.onnx", "is empty")
    refused(tmp_path / "empty.onnx" / "m.onnx", "not a folder")
    refused(tmp_path / 'new\nline"\x1b.onnx', r"new\nline", "does not exist")
    refused(Path("nul\0.onnx"), "cannot be opened")


# ---- tensors that lie -----------------------------------------------------------------------------------------------

Change = Callable[[TensorProto], object]
LIES: dict[str, tuple[Change, str]] = {
    "negative": (lambda t: t.dims.extend([-1]), "negative"),
    "two negatives": (lambda t: t.dims.extend([-2, -2]), "negative"),
    "too few bytes": (lambda t: t.dims.extend([2]), "needs"),
    "product overflows": (lambda t: t.dims.extend([2**62, 4]), "needs"),
    "empty and absurd": (
        lambda t: t.CopyFrom(TensorProto(name=t.name, data_type=1, dims=[0, 2**62, 2**62])),
        "held in memory",
    ),
    "many dims": (lambda t: t.dims.extend([1] * 70), "more than 64"),
    "no data": (lambda t: t.ClearField("raw_data"), "numbers in float_data"),
    "no type": (lambda t: t.ClearField("data_type"), "number 0"),
    "type of tomorrow": (lambda t: setattr(t, "data_type", 999), "number 999"),
    "strings": (lambda t: setattr(t, "data_type", 8), "strings"),
    "segment": (lambda t: setattr(t.segment, "end", 4), "segment"),
}


@pytest.mark.parametrize("size", [4, 1024, 4096])
@pytest.mark.parametrize("lie", LIES)
def test_tensors_that_lie(lie: str, size: int, tmp_path: Path) -> None:
    change, word = LIES[lie]
    tensor = numpy_helper.from_array(np.ones(size, np.float32), 'we"ight\n\u202e')
    change(tensor)
    path = tmp_path / "m.onnx"
    path.write_bytes(model([], [tensor]).SerializeToString())
    refused(path, word, r'we"ight\n\u202e')


def test_names_that_are_not_utf8() -> None:
    data = model([], [numpy_helper.from_array(np.ones(4, np.float32), "weight")]).SerializeToString()
    refused(data.replace(b"weight", b"weig\xff\xfe"), r"b'weig\xff\xfe' is not UTF-8")


def test_repeated_payloads_mean_what_protobuf_says(tmp_path: Path) -> None:
    first, last = (numpy_helper.from_array(np.full(2000, n, np.float32), "w") for n in (1, 2))
    data = model([], [first]).graph.initializer[0].SerializeToString() + b"\x4a" + varint(8000) + last.raw_data
    graph = helper.make_graph([], "g", [], []).SerializeToString() + b"\x2a" + varint(len(data)) + data
    ((_, got),) = read_model(b"\x3a" + varint(len(graph)) + graph).initializers()
    assert got.tolist() == [2.0] * 2000


# ---- external data --------------------------------------------------------------------------------------------------


def outside(folder: Path, location: str = "w.bin", name: str = "w", **entries: str) -> Path:
    """A model in the folder whose 64 x 64 floats are in another file."""
    tensor = TensorProto(name=name, dims=[64, 64], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "m.onnx"
    path.write_bytes(model([], [tensor]).SerializeToString())
    return path


def test_external_data_reads(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "w.bin").write_bytes(bytes(13) + W.tobytes())
    path = outside(tmp_path, "./a/b/w.bin", offset="13", length=str(W.nbytes), checksum="unused")
    ((_, got),) = read_model(path).initializers()
    assert got.tobytes() == W.tobytes()
    ((_, again),) = read_model(ModelProto.FromString(path.read_bytes()), folder=tmp_path).initializers()
    assert again.tobytes() == W.tobytes()
    refused(path.read_bytes(), "was not read from a file")


@pytest.mark.parametrize(
    ("location", "word"),
    [
        ("", "not the path of a file"),
        (".", "not the path of a file"),
        ("inner/", "not the path of a file"),
        ("w\0.bin", "not the path of a file"),
        (HERE, "16384 to 32768"),
        ("../w.bin", "leaves the folder"),
        ("inner/../../w.bin", "leaves the folder"),
        ("inner/../w.bin", "leaves the folder"),
        ("/etc/passwd", "absolute"),
        ("//etc/passwd", "absolute"),
        ("link.bin", "symbolic link"),
        ("linked/w.bin", "symbolic link"),
        ("dangling", "symbolic link"),
        ("inner", "is a folder"),
        ("pipe", "not a regular file"),
        ("empty", "is empty"),
        ("none.bin", "does not exist"),
        ("w.bin/w.bin", "not a folder"),
        ("new\nline", r"new\nline"),
        ("x" * 5000, "cannot be opened"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_external_data_stays_in_its_folder(location: str, word: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "inner").mkdir(parents=True)
    for folder in (tmp_path, home, home / "inner"):
        (folder / "w.bin").write_bytes(W.tobytes())
    (home / "link.bin").symlink_to("w.bin")
    (home / "linked").symlink_to("inner")
    (home / "dangling").symlink_to("/nowhere")
    (home / "empty").touch()
    os.mkfifo(home / "pipe")
    refused(outside(home, location, offset="16384" if location == HERE else "0"), word, 'the tensor "w"')


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ({"offset": "-1"}, "not a number"),
        ({"offset": "1.5"}, "not a number"),
        ({"offset": "٣"}, "not a number"),
        ({"offset": "9" * 100}, "not a number"),
        ({"offset": "9" * 19}, "are not in"),
        ({"offset": "1"}, "are not in"),
        ({"length": "16383"}, "says that it has 16383"),
        ({"length": "16385"}, "says that it has 16385"),
        ({"length": ""}, "not a number"),
    ],
    ids=str,
)
def test_external_ranges_lie_in_their_file(entries: dict[str, str], word: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    refused(outside(tmp_path, **entries), word)


# ---- functions ------------------------------------------------------------------------------------------------------


def calling(bodies: dict[str, list[str]]) -> ModelProto:
    """A model that calls "f0"; each function calls others in a row."""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    out = model([helper.make_node("f0", ["x"], ["y"], domain="local")], [], opset_imports=opsets)
    for name, calls in bodies.items():
        names = ["p", *(f"v{i}" for i in range(len(calls)))]
        nodes = [
            helper.make_node(call, [names[i]], [names[i + 1]], domain="" if call == "Relu" else "local")
            for i, call in enumerate(calls)
        ]
        out.functions.append(helper.make_function("local", name, ["p"], [names[-1]], nodes, opsets))
    return out


def test_functions_expand_in_bounds() -> None:
    file = read_model(calling({"f0": ["f1", "f1"], "f1": ["Relu", "Relu"]}))
    assert [node.op_type for node in file.model.graph.node] == ["Relu"] * 4
    bomb = calling({f"f{i}": [f"f{i + 1}"] * 10 for i in range(9)} | {"f9": ["Relu"]})
    refused(bomb.SerializeToString(), "more than 2,000,000 nodes")
    refused(calling({"f0": ["f1"], "f1": ["f0"]}).SerializeToString(), '"f0"', "calls itself")
    chain = calling({f"f{i}": [f"f{i + 1}"] for i in range(2000)} | {"f2000": ["Relu"]})
    refused(chain.SerializeToString(), "nested too deeply")
    deep = calling({f"f{i}": [f"f{i + 1}"] for i in range(99)} | {"f99": ["Relu"]})
    assert [node.op_type for node in read_model(deep).model.graph.node] == ["Relu"]
    deeper = calling({f"f{i}": [f"f{i + 1}"] for i in range(100)} | {"f100": ["Relu"]})
    refused(deeper.SerializeToString(), "more than 100 calls")


# ---- cost -----------------------------------------------------------------------------------------------------------


def test_many_nodes_are_scanned_fast_and_claims_take_no_memory(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["aaaaa"], ["bb"]).SerializeToString()
    nodes = (b"\x0a" + varint(len(node)) + node) * 100_000
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x3a" + varint(len(nodes)) + nodes)
    started = time.process_time()
    assert len(read_model(path).model.graph.node) == 100_000
    assert time.process_time() - started < 0.5
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (tmp_path / "huge.onnx").open("wb") as stream:
        stream.write(b"\x3a" + varint(1 << 40))
        stream.truncate(1 << 34)
    refused(tmp_path / "huge.onnx", "ends early")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000

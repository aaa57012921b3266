"""Writing ONNX files: what is written reads back, runs, repeats, and takes neither memory nor half-finished places."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compiler import onnx_write
from compiler.errors import OnnxError
from compiler.filemap import locate
from compiler.onnx_file import read_model
from compiler.onnx_proto import DATA_TYPES
from compiler.onnx_write import model_bytes, tensor_proto, write_model
from compiler.tensor import Array
from tests.onnx_models import RNG, W, model, random, run, same, small

X = RNG.standard_normal((3, 64)).astype(np.float32)
BIG = RNG.standard_normal((200, 200)).astype(np.float32)  # 160 kB


def parts(source: Path | bytes) -> tuple[ModelProto, list[tuple[str, Array]]]:
    """A model without initializers and with whole constants, and its initializers."""
    file = read_model(source)
    skeleton = ModelProto.FromString(file.model.SerializeToString())
    weights = list(file.initializers())
    del skeleton.graph.initializer[:]
    graphs = [skeleton.graph]
    for graph in graphs:
        for attribute in (a for node in graph.node for a in node.attribute):
            if attribute.HasField("t"):
                attribute.t.CopyFrom(tensor_proto("", file.tensor(attribute.t)))
            if attribute.HasField("g"):
                graphs.append(attribute.g)  # a worklist
    return skeleton, weights


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.onnx"
    path.write_bytes(small().SerializeToString())
    return path


@pytest.mark.parametrize("external", [None, False, True], ids=str)
def test_what_is_written_checks_runs_and_repeats(external: bool | None, source: Path, tmp_path: Path) -> None:
    expected = run(source, X)
    skeleton, weights = parts(source)
    first, second = tmp_path / "a" / "out.onnx", tmp_path / "b" / "out.onnx"
    written = []
    for path in (first, second):
        path.parent.mkdir()
        written.append(write_model(path, skeleton, weights, external))
        onnx.checker.check_model(str(path), full_check=True)
        assert np.array_equal(run(path, X), expected)
        assert [(n, same(a, b)) for (n, a), (_, b) in zip(read_model(path).initializers(), weights, strict=True)] == [
            ("w", True),
            ("b", True),
            ("yes", True),
        ]
    assert [p.name for p in written[0]] == (["out.onnx", "out.onnx.data"] if external else ["out.onnx"])
    assert sorted(p.name for p in first.parent.iterdir()) == [p.name for p in written[0]]
    for a, b in zip(*written, strict=True):
        assert a.read_bytes() == b.read_bytes()
    assert written[0][0].stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old


def test_model_bytes_are_the_file(source: Path, tmp_path: Path) -> None:
    skeleton, weights = parts(source)
    write_model(tmp_path / "out.onnx", skeleton, weights)
    data = model_bytes(skeleton, weights)
    assert data == (tmp_path / "out.onnx").read_bytes()
    assert np.array_equal(run(data, X), run(source, X))


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("data_type", DATA_TYPES)
def test_every_element_type_is_written_as_onnx_reads_it(data_type: int, external: bool, tmp_path: Path) -> None:
    shapes = ((), (0, 2), (7,), (5, 333), (300, 301))
    weights = [(f"t{i}", random(data_type, shape)) for i, shape in enumerate(shapes)]
    path = tmp_path / "m.onnx"
    write_model(path, model([], []), weights, external)
    loaded = onnx.load(path)
    assert all(not t.data_location for t in loaded.graph.initializer)
    for tensor, (name, array), (_, ours) in zip(
        loaded.graph.initializer, weights, read_model(path).initializers(), strict=True
    ):
        assert tensor.name == name
        assert same(numpy_helper.to_array(tensor), array) and same(ours, array)
        assert same(numpy_helper.to_array(tensor_proto(name, array)), array)


def test_layouts_of_memory_do_not_matter(tmp_path: Path) -> None:
    weights: dict[str, Array] = {
        "transposed": BIG.T,
        "strided": BIG[::2, ::-3],
        "big endian": BIG.astype(">f4"),
        "broadcast": np.broadcast_to(BIG[0], (9, 200)),
        "small transposed": BIG[:3, :4].T,
        "small big endian": BIG[0, :5].astype(">f4"),
        "scalar": np.array(3, np.float32),
        "fixed strings": np.array(["a", "bcd"]),
        "byte strings": np.array([b"a\xff", b"bcd"], object),
    }
    for external in (False, True):
        write_model(tmp_path / "m.onnx", model([], []), weights.items(), external)
        loaded = {t.name: t for t in onnx.load(tmp_path / "m.onnx").graph.initializer}
        for name, array in weights.items():
            if array.dtype.kind == "f":
                assert same(numpy_helper.to_array(loaded[name]), array.astype("<f4"))
        assert list(loaded["fixed strings"].string_data) == [b"a", b"bcd"]
        assert list(loaded["byte strings"].string_data) == [b"a\xff", b"bcd"]
    assert list(dict(read_model(tmp_path / "m.onnx").initializers())["byte strings"]) == ["a\udcff", "bcd"]
    with pytest.raises(OnnxError, match="surrogates"):
        write_model(tmp_path / "m\udcff.onnx", model([], []), weights.items(), external=True)


def test_external_data_is_aligned_and_small_tensors_stay(tmp_path: Path) -> None:
    floats = {"tiny": 255, "small": 256, "odd": 16383, "page": 16384, "after": 300, "last": 20_000}
    weights = [(name, RNG.standard_normal(n).astype(np.float32)) for name, n in floats.items()]
    written = write_model(tmp_path / "m.onnx", model([], []), weights, external=True)
    raw = onnx.load(written[0], load_external_data=False).graph.initializer
    places = {t.name: {e.key: e.value for e in t.external_data} for t in raw}
    assert raw[0].raw_data == weights[0][1].tobytes() and not places["tiny"]
    assert {p["location"] for name, p in places.items() if name != "tiny"} == {"m.onnx.data"}
    offsets = {name: int(places[name]["offset"]) for name in floats if name != "tiny"}
    assert offsets == {"small": 0, "odd": 1024, "page": 69632, "after": 135168, "last": 139264}
    data = written[1].read_bytes()
    assert len(data) == offsets["last"] + 80_000
    for name, array in weights[1:]:
        assert data[offsets[name] :][: array.nbytes] == array.tobytes() and int(places[name]["length"]) == array.nbytes


@pytest.mark.parametrize("external", [False, True])
def test_a_model_may_be_written_over_itself(external: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write_model(path, model([], []), [("a", BIG), ("b", BIG * 2)], external)
    weights = list(read_model(path).initializers())
    assert all(locate(array) for _, array in weights)
    for round_ in range(2):
        write_model(path, model([], []), [*weights[::-1], ("c", BIG * 3)], external)
        got = dict(read_model(path).initializers())
        assert list(got) == ["b", "a", "c"] and round_ in {0, 1}
        assert same(got["a"], BIG) and same(got["b"], BIG * 2) and same(got["c"], BIG * 3)
        assert same(weights[0][1], BIG)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("broken", [(), ("range",), ("range", "sendfile")], ids=str)
def test_mapped_weights_are_copied_by_whatever_way_works(
    broken: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EXDEV, "no")

    write_model(tmp_path / "a.onnx", model([], []), [("w", BIG)])
    weights = list(read_model(tmp_path / "a.onnx").initializers())
    if "range" in broken:
        monkeypatch.setattr(os, "copy_file_range", fail)
    if "sendfile" in broken:
        monkeypatch.setattr(os, "sendfile", fail)
    write_model(tmp_path / "b.onnx", model([], []), weights)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_mapped_weights_never_become_resident(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx.data").open("wb") as stream:
        stream.truncate(3 << 30)
    tensors = [
        TensorProto(name=f"w{i}", dims=[3 << 17, 128], data_type=10, data_location=TensorProto.EXTERNAL)
        for i in range(32)
    ]
    for i, tensor in enumerate(tensors):
        for key, value in {"location": "m.onnx.data", "offset": str(i * (3 << 25)), "length": str(3 << 25)}.items():
            tensor.external_data.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(model([], tensors).SerializeToString())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    weights = list(read_model(tmp_path / "m.onnx").initializers())
    assert sum(array.nbytes for _, array in weights) == 3 << 30
    with pytest.raises(OnnxError, match="more than the 2 GiB") as caught:
        write_model(tmp_path / "no.onnx", model([], []), weights, external=False)
    assert caught.value.hint and not (tmp_path / "no.onnx").exists()
    written = write_model(tmp_path / "out.onnx", model([], []), weights[:2], external=True)
    assert written[1].stat().st_size == 2 * (3 << 25)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000


def test_beyond_two_gibibytes_weights_go_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_write, "INLINE_LIMIT", 200_000)
    assert len(write_model(tmp_path / "a.onnx", model([], []), [("w", BIG)])) == 1
    assert len(write_model(tmp_path / "b.onnx", model([], []), [("v", BIG), ("w", BIG)])) == 2


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "m.onnx.data").mkdir()
    for path, word in [
        (tmp_path / "folder", "something else than a file"),
        (tmp_path / "none" / "m.onnx", "no such file or directory"),
        (tmp_path / "file" / "m.onnx", "not a directory"),
        (tmp_path / "pipe", "something else than a file"),
        (Path("/dev/null"), "something else than a file"),
        (tmp_path / "m.onnx", "something else than a file"),
        (tmp_path / ("x" * 300), "too long"),
        (Path(), "not the name of a file"),
        (tmp_path / "a\0b", "not the name of a file"),
        (Path("/proc/m.onnx"), "cannot be written"),
    ]:
        with pytest.raises(OnnxError, match=word) as caught:
            write_model(path, model([], []), [("w", BIG)], external=True)
        assert "\n" not in caught.value.message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder", "m.onnx.data", "pipe"]
    assert not list((tmp_path / "folder").iterdir())


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OnnxError, match="no space left"):
        write_model(path, model([], []), [("w", BIG)])
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_a_skeleton_that_points_into_its_file_is_not_written(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="still points into the file"):
        write_model(tmp_path / "m.onnx", read_model(source).model)


def test_a_source_cut_short_meanwhile_is_noticed(tmp_path: Path) -> None:
    write_model(tmp_path / "a.onnx", model([], []), [("w", BIG)])
    weights = list(read_model(tmp_path / "a.onnx").initializers())
    os.truncate(tmp_path / "a.onnx", 1000)
    with pytest.raises(OnnxError, match="cut short"):
        write_model(tmp_path / "b.onnx", model([], []), weights)


def test_fields_from_the_future_survive(tmp_path: Path) -> None:
    unknown = (
        helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString() + b"\xfd\x3f\1\2\3\4\xf9\x3f12345678"
    )
    written = write_model(tmp_path / "m.onnx", ModelProto.FromString(unknown), [("w", W)])
    assert b"\xf9\x3f12345678" in written[0].read_bytes()
    assert same(dict(read_model(written[0]).initializers())["w"], W)

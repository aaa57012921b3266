"""Damaged and hostile .tflite files: one clear sentence, in bounded time and memory, never a traceback."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.cli import main
from targets.tflite import reader
from targets.tflite.check import TARGETS, check
from targets.tflite.reader import TfliteFileError, read
from targets.tflite.schema import flatbuffers, schema
from tests.targets.tflite_files import FileBuilder, int8_network

Edit = Callable[[FileBuilder], None]
ROOT = Path(__file__).parents[2]
HOSTILE = [0, 1, 0x7F, 0x80, 0xFF]
WORDS = [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 0x10000000]


@cache
def valid() -> bytes:
    return int8_network().packed()


def answered(data: bytes, path: Path) -> None:
    """Both targets answer with a report or a clear error."""
    path.write_bytes(data)
    for target in TARGETS:
        try:
            report = check(path, target, strict=True)
        except TfliteFileError as e:
            sentence = e.message
        else:
            sentence = ""
            assert report.text().endswith("\n") and report.as_json()["exit_code"] in (0, 3)
        assert "\n" not in sentence and len(sentence) < 600 + len(str(path))


edits = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 1 << 16), st.sampled_from(HOSTILE).map(lambda b: bytes([b]))),
        st.tuples(st.integers(0, 1 << 16), st.integers(0, 255).map(lambda b: bytes([b]))),
        st.tuples(
            st.integers(0, 1 << 14).map(lambda i: 4 * i), st.sampled_from(WORDS).map(lambda w: struct.pack("<I", w))
        ),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits)
def test_changed_bytes(tmp_path: Path, changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(valid())
    for place, new in changes:
        start = place % (len(data) - len(new))
        data[start : start + len(new)] = new
    answered(bytes(data), tmp_path / "m.tflite")


@settings(max_examples=100, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 20))
def test_cut_files(tmp_path: Path, length: int) -> None:
    answered(valid()[: length % len(valid())] or b"\0", tmp_path / "m.tflite")


@settings(max_examples=100, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=400), st.booleans())
def test_random_bytes(tmp_path: Path, data: bytes, named: bool) -> None:
    answered(data[:4].ljust(4, b"\0") + b"TFL3" + data[4:] if named else data, tmp_path / "m.tflite")


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_tables(word: int, tmp_path: Path) -> None:
    """One 32-bit word at a time, in steps that visit tables, vectors and offsets alike."""
    data = valid()
    for place in range(0, len(data) - 4, 52):
        answered(data[:place] + struct.pack("<I", word) + data[place + 4 :], tmp_path / "m.tflite")


def many(count: int, name_length: int) -> bytes:
    """A file whose `count` tensors are all one table, with a name of so many characters."""
    s, fb = schema(), flatbuffers().Builder(1 << 16)
    name = fb.CreateString("n" * name_length)
    s.TensorStart(fb)
    s.TensorAddName(fb, name)
    tensor = s.TensorEnd(fb)
    s.BufferStart(fb)
    buffer = s.BufferEnd(fb)
    tensors, buffers = _offsets(fb, [tensor] * count), _offsets(fb, [buffer])
    s.SubGraphStart(fb)
    s.SubGraphAddTensors(fb, tensors)
    graphs = _offsets(fb, [s.SubGraphEnd(fb)])
    s.ModelStart(fb)
    s.ModelAddSubgraphs(fb, graphs)
    s.ModelAddBuffers(fb, buffers)
    fb.Finish(s.ModelEnd(fb), file_identifier=b"TFL3")
    return bytes(fb.Output())


def _offsets(fb: Any, offsets: list[int]) -> int:  # Any: the FlatBuffers runtime has no types
    fb.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        fb.PrependUOffsetTRelative(offset)
    return int(fb.EndVector())


@pytest.mark.parametrize(("count", "name_length"), [(100_000, 100_000), (1_000_000, 1)])
def test_tables_that_are_referred_to_again_and_again(
    count: int, name_length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a megabyte that stands for ten billion characters, or a million tables, is refused soon."""
    monkeypatch.setattr(reader, "BUDGET", reader.BUDGET // 16)
    path = tmp_path / "m.tflite"
    path.write_bytes(many(count, name_length))
    started = time.monotonic()
    with pytest.raises(TfliteFileError, match="to the same bytes again and again"):
        read(path)
    assert time.monotonic() - started < 5


def test_huge_vectors_take_no_memory(tmp_path: Path) -> None:
    """Counts beyond the file are refused before anything is made for them."""
    data = bytearray(valid())
    path = tmp_path / "m.tflite"
    tracemalloc.start()
    try:
        for place in range(0, len(data) - 4, 244):
            path.write_bytes(data[:place] + struct.pack("<I", 0x3FFFFFFF) + data[place + 4 :])
            try:
                check(path, "nnapi", strict=True)
            except TfliteFileError:
                continue
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\0", "is not a TensorFlow Lite file"),
        (b"PK\3\4" * 50, "its identifier is not TFL3"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(100), "its first table lies outside the file"),
        (b"\x08\0\0\0TFL3" + b"\xff" * 100, "an offset leads out of the file"),
    ],
)
def test_what_is_said(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    with pytest.raises(TfliteFileError, match=says):
        check(path, "nnapi")


def test_numbers_that_lead_out_of_their_list(tmp_path: Path) -> None:
    cases: list[tuple[Edit, str]] = [
        (lambda b: setattr(b.graph.operators[3], "inputs", [99]), "operator 3 (MAX_POOL_2D) refers to tensor 99"),
        (lambda b: setattr(b.graph.operators[3], "inputs", [-2]), "operator 3 (MAX_POOL_2D) refers to tensor -2"),
        (lambda b: setattr(b.graph.operators[3], "opcodeIndex", 77), "operator 3 refers to operator code 77"),
        (lambda b: setattr(b.graph.tensors[2], "buffer", 500), "tensor 2 refers to buffer 500"),
        (lambda b: setattr(b.graph, "outputs", [-1]), "subgraph 0 refers to tensor -1"),
        (lambda b: setattr(b.graph.tensors[2], "shape", [1] * 100), "tensor 2 claims 100 axes"),
    ]
    for edit, says in cases:
        b = int8_network()
        edit(b)
        with pytest.raises(TfliteFileError) as e:
            read(b.write(tmp_path / "m.tflite"))
        assert says in e.value.message


# -- the command --------------------------------------------------------------------------------------------


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 kept, 3 broken, 1 unreadable, 2 wrong usage."""
    good = str(int8_network().write(tmp_path / "good.tflite"))
    faulty = int8_network()
    faulty.named("softmax").quantization.zeroPoint = [0]
    bad = str(faulty.write(tmp_path / "bad.tflite"))
    (tmp_path / "cut.tflite").write_bytes(valid()[:1000])
    assert main(["--check", good, "--target", "nnapi"]) == 0
    assert "no rule is broken" in capsys.readouterr().out
    assert main(["--check", bad, "-t", "edgetpu"]) == 3
    assert "error fixed-output" in capsys.readouterr().out
    assert main(["--check", str(tmp_path / "cut.tflite"), "-t", "nnapi"]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert main(["--check", str(tmp_path / "none.tflite"), "-t", "nnapi"]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert main(["--check", good]) == 2
    assert "choose --target nnapi or edgetpu" in capsys.readouterr().err


def test_names_cannot_write_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    b = int8_network()
    b.named("softmax").name = "soft\x1b[31m\nmax"
    b.graph.tensors[-1].quantization.zeroPoint = [0]
    assert main(["--check", str(b.write(tmp_path / "m.tflite")), "-t", "nnapi"]) == 3
    out = capsys.readouterr().out
    assert "\x1b" not in out and "soft\\x1b[31m\\nmax" in out


def test_a_check_imports_little(tmp_path: Path) -> None:
    """The schema and the arrays; no runtime, no ONNX, no terminal library."""
    path = int8_network().write(tmp_path / "m.tflite")
    program = (
        "import sys; from compiler.cli import main; code = main(['--check', sys.argv[1], '-t', 'nnapi', '--quiet']); "
        "heavy = {'onnx', 'onnxruntime', 'coremltools', 'tensorflow', 'rich', 'networkx', 'scipy', "
        "'ai_edge_litert.interpreter'}; print(code, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0 []\n"

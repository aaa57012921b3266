"""Calibration data of people who mean no good, or have no luck: one sentence, soon, and in little memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import onnx
import pytest

from compiler.api import compile_model
from compiler.errors import UsageError
from compiler.tensor import Array
from tests.command import Command, build, f32, info, node

ROWS = np.random.default_rng(2).normal(size=(20, 3, 4, 4)).astype(np.float32)


def model() -> onnx.ModelProto:
    weights = {"w": f32(np.random.default_rng(1).normal(size=(4, 3, 1, 1)))}
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "y")]
    return build(nodes, [info("x", [1, 3, 4, 4])], [info("y", [1, 4, 4, 4])], weights)


def quantize(source: object, target: str = "onnx") -> dict[str, Array]:
    compiled = compile_model(model(), target, precision="int8", calibrate=source, observer="minmax")
    return compiled.run({"x": ROWS[:1]})


def header(shape: tuple[int, ...], fortran: bool = False, kind: str = "<f4") -> bytes:
    file = BytesIO()
    described = {"descr": kind, "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


def archive(path: Path, content: bytes, zeros: int = 0, name: str = "x.npy") -> None:
    with ZipFile(path, "w", ZIP_DEFLATED) as z, z.open(name, "w") as entry:
        entry.write(content)
        for _ in range(zeros):
            entry.write(bytes(1 << 20))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def text(content: str) -> Callable[[Path], Any]:  # Any: what writing returns
    return lambda path: path.write_text(content)


FILES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "a pipe": ("d.npz", pipe, "neither a file nor a folder"),
    "a pipe without a suffix": ("d", pipe, "neither a file nor a folder"),
    "a pipe for a saved calibration": ("d.json", pipe, "is no file"),
    "brackets without end": ("d.json", text("[" * 100_000), "is no calibration"),
    "another document": ("d.json", text("[]"), "is no calibration"),
    "more rows than there are": ("d.npz", lambda p: archive(p, header((2**40, 3, 4, 4)) + b"1234"), "ends early"),
    "fewer rows than none": ("d.npz", lambda p: archive(p, header((-5, 3, 4, 4))), "no file of numpy arrays"),
    "fewer than none, by column": (
        "d.npz",
        lambda p: archive(p, header((-5, 3, 4, 4), fortran=True), 8),
        "no file of numpy arrays",
    ),
    "a huge array by column": (
        "d.npz",
        lambda p: archive(p, header((2**28, 3, 4, 4), fortran=True), 8),
        "too large to be turned",
    ),
    "zeros without end": ("d.npz", lambda p: archive(p, header((2**11, 3, 4, 4)), 1), "every number .* is 0"),
    "one huge element": ("d.npz", lambda p: archive(p, header((4,), kind="<U100000000"), 8), "element type"),
    "a name of no encoding": ("d.npz", lambda p: archive(p, header((20, 3, 4, 4)), 1, "\udcff.npy"), "lacks|read"),
}


@pytest.mark.parametrize("what", FILES)
def test_hostile_files(what: str, tmp_path: Path) -> None:
    name, make, sentence = FILES[what]
    try:
        make(tmp_path / name)
    except UnicodeEncodeError:
        pytest.skip("this system cannot even write it")
    with pytest.raises(UsageError, match=sentence) as caught:
        quantize(str(tmp_path / name))
    assert "\n" not in caught.value.message and len(caught.value.message) < 400


def test_a_device(command: Command, tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "m.onnx")
    done = command(
        tmp_path / "m.onnx", "--target", "onnx", "--precision", "int8", "--calibrate", "/dev/zero",
        "-o", tmp_path / "o.onnx",
    )  # fmt: skip
    assert done.code == 2 and "neither a file nor a folder" in done.sentence
    assert not (tmp_path / "o.onnx").exists()


def later_rows(*items: object) -> Iterator[object]:
    yield from (ROWS[i : i + 1] for i in range(4))
    yield from items


def raising() -> Iterator[object]:
    yield {"x": ROWS[:1]}
    raise RuntimeError("the disk is gone")


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (ROWS[:1, :, :2], r"shape \[1, 3, 2, 4\]"),
        (ROWS[:1] * np.nan, "holds NaN"),
        ({"y": ROWS[:1]}, "lacks the input 'x'"),
        ("text", "element type|calibration data"),
        (None, "calibration data|element type"),
        (np.full((1, 3, 4, 4), {}), "objects|element type"),
    ],
)
def test_what_a_later_item_of_an_iterable_holds(item: object, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        quantize(later_rows(item))


def test_an_iterable_that_raises_is_not_hidden() -> None:
    """Its own error says more than we could."""
    with pytest.raises(RuntimeError, match="the disk is gone"):
        quantize(raising())


def test_an_iterator_is_as_good_as_a_list() -> None:
    """Though the data is looked at more than once."""
    once, again = quantize(ROWS[i : i + 1] for i in range(20)), quantize([ROWS[i : i + 1] for i in range(20)])
    np.testing.assert_array_equal(once["y"], again["y"])


@pytest.mark.parametrize("source", [iter(()), [], {}, {"x": ROWS[:0]}, 3, b"rows"])
def test_no_data_at_all(source: object) -> None:
    with pytest.raises(UsageError):
        quantize(source)

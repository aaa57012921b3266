"""The weight file, byte for byte as Apple's writer makes it."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.errors import EmitError
from targets.coreml import blob
from targets.coreml.blob import BlobReader, BlobWriter
from targets.coreml.dtypes import TYPES, pack_bits, unpack_bits
from tests.targets.coreml_harness import coremltools

PLAIN = {
    "fp32": ("write_float_data", np.float32),
    "int8": ("write_int8_data", np.int8),
    "uint8": ("write_uint8_data", np.uint8),
    "int16": ("write_int16_data", np.int16),
    "uint16": ("write_uint16_data", np.uint16),
    "int32": ("write_int32_data", np.int32),
    "uint32": ("write_uint32_data", np.uint32),
}
PACKED = {
    "int4": np.int8,
    "uint1": np.uint8,
    "uint2": np.uint8,
    "uint3": np.uint8,
    "uint4": np.uint8,
    "uint6": np.uint8,
}


def written(*entries: tuple[Any, str]) -> bytes:
    writer, file = BlobWriter(), io.BytesIO()
    for array, dtype in entries:
        writer.add(array, dtype)
    writer.write(file)
    return file.getvalue()


@pytest.mark.parametrize("size", [1, 5, 16, 17, 65])
def test_same_bytes_and_offsets_as_apples_writer(tmp_path: Path, size: int) -> None:
    coremltools()
    from coremltools.libmilstoragepython import _BlobStorageWriter

    rng = np.random.default_rng(size)
    theirs, ours, offsets = _BlobStorageWriter(str(tmp_path / "theirs.bin")), BlobWriter(), []
    for dtype, (method, numpy_type) in PLAIN.items():
        array = rng.integers(0, 100, size).astype(numpy_type)
        offsets.append((getattr(theirs, method)(array), ours.add(array, dtype)))
    half = rng.standard_normal(size).astype(np.float16)
    offsets.append((theirs.write_fp16_data(half.view(np.uint16)), ours.add(half, "fp16")))
    for dtype, numpy_type in PACKED.items():
        low, high = (-8, 8) if dtype == "int4" else (0, 1 << TYPES[dtype].bits)
        array = rng.integers(low, high, size).astype(numpy_type)
        offsets.append((getattr(theirs, f"write_{dtype}_data")(array), ours.add(array, dtype)))
    del theirs
    file = io.BytesIO()
    ours.write(file)
    assert [a for a, _ in offsets] == [b for _, b in offsets]
    assert file.getvalue() == (tmp_path / "theirs.bin").read_bytes()


@given(st.sampled_from(sorted(PACKED)), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_packing_is_undone_by_unpacking(dtype: str, size: int, seed: int) -> None:
    element = TYPES[dtype]
    low, high = (-8, 8) if dtype == "int4" else (0, 1 << element.bits)
    values = np.random.default_rng(seed).integers(low, high, size).astype(element.numpy)
    assert np.array_equal(unpack_bits(pack_bits(values, element.bits), element, size), values)


def test_apples_documented_bit_order() -> None:
    # The example of constexpr_lut_to_dense: the first index sits in the least significant bits.
    assert pack_bits(np.array([0, 3, 2, 1, 3], np.uint8), 2) == bytes([0b01_10_11_00, 0b11])


def test_reader_maps_what_the_writer_wrote(tmp_path: Path) -> None:
    writer = BlobWriter()
    wide = np.linspace(-3, 3, 37, dtype=np.float32)
    codes = np.arange(-8, 8, dtype=np.int8)
    first, second = writer.add(wide, "fp16"), writer.add(codes, "int4")
    with (tmp_path / "w.bin").open("wb") as file:
        writer.write(file)
    reader = BlobReader(tmp_path / "w.bin")
    dtype, values = reader.read(first)
    assert dtype == "fp16"
    assert np.array_equal(values, wide.astype(np.float16))
    assert not values.flags.writeable
    dtype, values = reader.read(second)
    assert (dtype, reader.count) == ("int4", 2)
    assert np.array_equal(values, codes)


def test_arrays_larger_than_a_chunk_and_not_contiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob, "_CHUNK", 64)
    array = np.arange(7 * 11 * 13, dtype=np.float32).reshape(7, 11, 13)
    for view in (array, array.transpose(2, 0, 1), array[::2, :, ::3], array.reshape(-1)[::-1]):
        data = written((view, "fp16"))
        assert data[128:] == np.ascontiguousarray(view).astype(np.float16).tobytes()
    codes = (np.arange(200) % 8).astype(np.uint8).reshape(10, 20).T
    assert written((codes, "uint3"))[128:] == pack_bits(np.ascontiguousarray(codes).reshape(-1), 3)


def test_memory_mapped_weights_are_read_where_they_lie(tmp_path: Path) -> None:
    np.arange(50, dtype=np.float32).tofile(tmp_path / "raw")
    mapped = np.memmap(tmp_path / "raw", np.float32, "r", shape=(5, 10))
    assert written((mapped.T, "fp32"))[128:] == np.ascontiguousarray(mapped.T).tobytes()


def test_one_entry_for_one_key_or_one_array() -> None:
    writer, array = BlobWriter(), np.zeros(20, np.float32)
    assert writer.add(array, "fp32") == writer.add(array, "fp32")
    assert writer.add(array, "fp16") != writer.add(array, "fp32")
    assert writer.add(array.copy(), "fp32", key="w") == writer.add(array.copy(), "fp32", key="w")
    assert len(writer) == 3


def test_overflow_to_fp16_is_named() -> None:
    writer = BlobWriter()
    writer.add(np.array([1.0, 7e4], np.float32), "fp16", name="big")
    writer.add(np.array([np.inf, 1.0], np.float32), "fp16", name="already infinite")
    writer.add(np.array([65504.0, 1e-9], np.float32), "fp16", name="fits")
    file = io.BytesIO()
    writer.write(file)
    assert writer.overflowed == ["big"]
    assert np.array_equal(np.frombuffer(file.getvalue()[128:132], np.float16), [1, np.inf])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d[:40], "ends within its header"),
        (lambda d: struct.pack("<II", 1, 1) + d[8:], "version 1, not 2"),
        (lambda d: d[:64] + b"\0\0\0\0" + d[68:], "no record at offset 64"),
        (lambda d: d[:-1], "ends after the end of the file"),
        (lambda d: d[:0], "cannot be read"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, damage: Any, message: str) -> None:
    (tmp_path / "w.bin").write_bytes(damage(written((np.ones(20, np.float32), "fp32"))))
    with pytest.raises(EmitError, match=message):
        BlobReader(tmp_path / "w.bin").read(64)


def test_what_the_file_cannot_hold_is_refused() -> None:
    with pytest.raises(EmitError, match="cannot hold elements of type bool"):
        BlobWriter().add(np.zeros(20, np.bool_), "bool")

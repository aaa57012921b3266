"""Arrays in `.npy` and `.npz` files, read a few rows at a time."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import IO, Protocol
from zipfile import BadZipFile, ZipFile

import numpy as np

from compiler.calibrate.rows import expect_names, expect_shape, expect_single, expect_type
from compiler.errors import UsageError
from compiler.tensor import Array, TensorType

BROKEN = (BadZipFile, EOFError, KeyError, NotImplementedError, OSError, ValueError, zlib.error)
LARGEST_TURNED = 1 << 30  # bytes of an array whose rows do not lie one behind the other


class Entries(Protocol):
    """An array that is read along its first axis."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[np.generic]: ...
    def read(self, count: int) -> Array:
        """The next `count` entries, or what is left."""


class Held:
    """Entries of an array in memory."""

    def __init__(self, array: Array) -> None:
        self.shape = array.shape
        self.dtype = array.dtype
        self._array = array
        self._next = 0

    def read(self, count: int) -> Array:
        if not self.shape:
            return self._array
        self._next += count
        return self._array[self._next - count : self._next]


class Stored:
    """Entries of a `.npy` file, in order; ValueError or OSError if it is broken, UsageError if it holds a pickle."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            header = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"version {version}")
        self.shape, fortran, self.dtype = header
        if any(n < 0 for n in self.shape):
            raise ValueError(f"shape {self.shape}")
        if self.dtype.hasobject or self.dtype.names:
            raise UsageError(
                f"the calibration data {name!r} holds Python objects or records, not numbers",
                hint="store a plain array; pickles are not opened",
            )
        self._file = file
        self._left = self.shape[0] if self.shape else 1
        self._held: Held | None = None
        if fortran and len(self.shape) > 1:
            if prod(self.shape) * self.dtype.itemsize > LARGEST_TURNED:
                raise UsageError(
                    f"the calibration data {name!r} is stored column by column, and too large to be turned in memory",
                    hint="store it row by row, with numpy.ascontiguousarray",
                )
            self._held = Held(self._read(self.shape[::-1]).T)

    def read(self, count: int) -> Array:
        if self._held is not None:
            return self._held.read(count)
        count = min(count, self._left)
        self._left -= count
        return self._read((count, *self.shape[1:]) if self.shape else ())

    def _read(self, shape: tuple[int, ...]) -> Array:
        size = prod(shape) * self.dtype.itemsize
        data = self._file.read(size)
        if len(data) != size:
            raise EOFError
        return np.frombuffer(data, self.dtype).reshape(shape)


class ArrayItems:
    """Arrays by the names of inputs, or the array of the only input, as items for one run each.

    length  of the runs; an array for a single run serves all of them, with a note
    """

    def __init__(
        self, arrays: Mapping[str, Entries], types: Mapping[str, TensorType], what: str, notes: Sequence[str] = ()
    ) -> None:
        self.notes = list(notes)
        self._arrays = arrays
        self._what = what
        self._steps = {}
        runs = {}
        for name, t in types.items():
            entries = arrays[name]
            expect_type(name, entries.dtype, t.dtype)
            expect_shape(name, entries.shape, t)
            self._steps[name] = step = _entries_of_run(entries.shape, t.dims)
            runs[name] = -(-entries.shape[0] // step) if entries.shape else 1
        self.length = max(runs.values(), default=0)
        self._once = {name for name, n in runs.items() if n == 1 and self.length > 1}
        self.notes += [f"the one run of data for {name!r} serves all {self.length} runs" for name in sorted(self._once)]

    def __iter__(self) -> Iterator[dict[str, Array]]:
        kept: dict[str, Array] = {}
        for _ in range(self.length):
            try:
                item = {n: kept[n] if n in kept else a.read(self._steps[n]) for n, a in self._arrays.items()}
            except BROKEN:
                raise UsageError(f"{self._what} is broken: it ends early or its checksum does not fit") from None
            kept.update((name, item[name]) for name in self._once)
            yield item


def _entries_of_run(shape: tuple[int, ...], dims: tuple[int, ...]) -> int:
    """How far along the first axis of an array the inputs of one run reach: of rows, of whole inputs, or of one row."""
    if len(shape) == len(dims):
        return max(dims[0], 1) if dims else 1
    return 1 if len(shape) > len(dims) else max(1, *shape[:1])


def picked(names: Collection[str], types: Mapping[str, TensorType]) -> tuple[dict[str, str], list[str]]:
    """Which array each input takes, and notes on those that are of none. A single array is that of a single input,
    whatever its name."""
    if len(names) == 1 and len(types) == 1:
        return dict(zip(types, names, strict=True)), []
    expect_names(list(names), types)
    extra = ", ".join(repr(name) for name in names if name not in types)
    notes = [f"left out of the calibration data, as no input of the model: {extra}"] if extra else []
    return {name: name for name in types}, notes


def open_arrays(path: Path, types: Mapping[str, TensorType], stack: ExitStack) -> ArrayItems:
    """The items of a `.npz` or `.npy` file, open until the stack closes; UsageError if it cannot be read."""
    what = f"the calibration data {str(path)!r}"
    try:
        if path.suffix == ".npy":
            expect_single(types)
            stored = Stored(stack.enter_context(path.open("rb")), path.name)
            return ArrayItems(dict.fromkeys(types, stored), types, what)
        archive = stack.enter_context(ZipFile(path))
        names = [m.removesuffix(".npy") for m in archive.namelist()]
        if not names:
            raise UsageError(f"{what} is empty")
        chosen, notes = picked(names, types)
        arrays = {n: Stored(stack.enter_context(archive.open(f"{chosen[n]}.npy")), chosen[n]) for n in types}
    except BROKEN as e:
        reason = e.strerror.lower() if isinstance(e, OSError) and e.strerror else "it is no file of numpy arrays"
        raise UsageError(f"{what} cannot be read: {reason}") from None
    return ArrayItems(arrays, types, what, notes)


def held_arrays(arrays: Mapping[str, object], types: Mapping[str, TensorType]) -> ArrayItems:
    """The items of arrays in memory."""
    chosen, notes = picked(list(arrays), types)
    return ArrayItems({n: Held(np.asarray(arrays[chosen[n]])) for n in types}, types, "the calibration data", notes)

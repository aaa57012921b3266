"""Where calibration data comes from: files, folders, arrays, iterables, or seeded numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compiler.calibrate.arrays import ArrayItems, held_arrays, open_arrays
from compiler.calibrate.images import Folder, ImageRule
from compiler.calibrate.rows import Batcher
from compiler.errors import UsageError
from compiler.seeds import seeded_inputs
from compiler.tensor import Array, TensorType

SYNTHETIC = "synthetic"
SYNTHETIC_RUNS = 16


class Data(NamedTuple):
    """A source of `Feeds`, and what else is asked of a calibration on it.

    rows    how many at most; what comes at once, as the arrays of a file in a folder, is not parted
    images  how pixels become numbers
    start   a file of `Calibration.save` that is continued, as if its rows had come first
    save    where the calibration is saved
    """

    source: object
    rows: int | None = None
    images: ImageRule | None = None
    start: str | None = None
    save: str | None = None


class Feeds:
    """The inputs of each run, from a source; a context that holds its files open.

    source   `Data`; a path of an `.npz` or `.npy` file or of a folder of images or `.npy` files; arrays by the names
             of the inputs, or the array of the only input; an iterable of such for a row or more each; "synthetic"
    length   about how many runs there will be; None if unknown
    limits   by integer input, below what seeded numbers are: see `compiler.seeds.index_limits`
    notes    sentences on what is doubtful about the data, complete after the last run
    rows     how many rows there were so far

    UsageError, when made or on the way, for data that does not fit the model or cannot be read.
    """

    def __init__(
        self,
        source: object,
        types: Mapping[str, TensorType],
        rule: ImageRule | None = None,
        seed: int = 0,
        limits: Mapping[str, int] | None = None,
    ) -> None:
        data = source if isinstance(source, Data) else Data(source, images=rule)
        expect_images(data)
        if data.rows is not None and data.rows < 1:
            raise UsageError(f"{data.rows} rows are too few to calibrate on", hint="100 or more are usual")
        self._most = data.rows
        self._batcher = Batcher(types)
        self._stack = ExitStack()
        self.length: int | None = None
        self.notes: list[str] = []
        with ExitStack() as stack:
            self._limits = limits
            self._items = self._opened(data.source, types, data.images, seed, stack)
            self._stack = stack.pop_all()

    def __enter__(self) -> Feeds:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def rows(self) -> int:
        return max((r.seen for r in self._batcher.inputs.values()), default=0)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for item in self._items:
            yield from self._batcher.add(item)
            if self._most is not None and self.rows >= self._most:
                break
        yield from self._batcher.finish()
        self.notes += self._batcher.notes

    def _opened(
        self,
        source: object,
        types: Mapping[str, TensorType],
        rule: ImageRule | None,
        seed: int,
        stack: ExitStack,
    ) -> Iterable[object]:
        if isinstance(source, str) and source == SYNTHETIC:
            self.length = SYNTHETIC_RUNS
            self.notes.append(
                "CALIBRATED ON SYNTHETIC NUMBERS, not on data: ranges and accuracy of the result mean little"
            )
            return (seeded_inputs(types, seed + i, self._limits) for i in range(SYNTHETIC_RUNS))
        if isinstance(source, str | os.PathLike):
            items = _from_path(Path(source), types, rule, stack)
        elif isinstance(source, Mapping):
            items = held_arrays(source, types)
        elif isinstance(source, np.ndarray):
            items = held_arrays({"data": source}, types)
        elif isinstance(source, Iterable):
            return source
        else:
            raise UsageError(
                f"calibration data cannot be a {type(source).__name__}",
                hint="give a path, arrays by name, or an iterable of them",
            )
        self.length = items.length
        self.notes += items.notes
        return items


def expect_images(data: Data) -> None:
    """UsageError for a rule of pixels with a source that is no folder, and holds numbers."""
    source = data.source
    if data.images is None or (isinstance(source, str | os.PathLike) and Path(source).is_dir()):
        return
    what = repr(str(source)) if isinstance(source, str | os.PathLike) else f"a {type(source).__name__}"
    raise UsageError(
        f"a rule of pixels is for a folder of images, and the calibration data {what} is none",
        hint="leave --calibrate-image away, and store the numbers that the model reads",
    )


def _from_path(
    path: Path, types: Mapping[str, TensorType], rule: ImageRule | None, stack: ExitStack
) -> Folder | ArrayItems:
    if path.is_dir():
        return Folder(path, types, rule)
    if not path.exists():
        raise UsageError(f"the calibration data {str(path)!r} does not exist")
    if not path.is_file():
        raise UsageError(f"the calibration data {str(path)!r} is neither a file nor a folder")
    if path.suffix not in (".npz", ".npy"):
        raise UsageError(
            f"the calibration data {str(path)!r} is neither .npz nor .npy nor a folder",
            hint="store rows by the names of the inputs with numpy.savez",
        )
    return open_arrays(path, types, stack)

"""Rows of data, checked and put together to what a graph takes in one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from compiler.errors import UsageError
from compiler.tensor import BOOL, STRING, Array, DType, TensorType

FEW = 16  # rows from which on ranges begin to mean something


class Rows:
    """The rows of one input that wait for a run: arrays [k, *row], of the input's element type.

    A run takes `per_feed` of them: the length of the input's first axis, or 1 for an input without axes.
    """

    def __init__(self, name: str, type: TensorType) -> None:
        self.name = name
        self.type = type
        dims = type.dims
        self.per_feed, self.row = (dims[0], dims[1:]) if dims else (1, ())
        self.seen = 0
        self.waiting = 0
        self.first: Array | None = None
        self.is_constant = self.is_repeated = True
        self._blocks: list[Array] = []

    def add(self, array: Array) -> None:
        """Take rows: [k, *row], or one [*row], or whole inputs [k, *dims]; UsageError if they do not fit."""
        rows = self._typed(self._shaped(array))
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            bad = int(np.argmin(np.isfinite(rows).reshape(len(rows), -1).all(1)))
            what = "NaN" if np.isnan(rows[bad]).any() else "infinite numbers"
            raise UsageError(
                f"row {self.seen + bad} of the calibration data for {self.name!r} holds {what}",
                hint="leave such rows out: a single one would spoil every range",
            )
        self._look(rows)
        self.seen += len(rows)
        self.waiting += len(rows)
        self._blocks.append(rows)

    def take(self) -> Array:
        """The input of one run, of the rows that came first."""
        rows = np.concatenate(self._blocks) if len(self._blocks) > 1 else self._blocks[0]
        self._blocks = [rows[self.per_feed :]] if len(rows) > self.per_feed else []
        self.waiting -= self.per_feed
        return np.ascontiguousarray(rows[: self.per_feed]).reshape(self.type.dims)

    def fill(self) -> int:
        """Repeat the last row until there are enough for a run; how many times that was."""
        missing = self.per_feed - self.waiting
        self._blocks += [self._blocks[-1][-1:]] * missing
        self.waiting += missing
        return missing

    def _look(self, rows: Array) -> None:
        """Keep track of whether all numbers, and whether all rows, are equal so far."""
        if not len(rows):
            return
        if self.first is None:
            self.first = rows[0].copy()
        if self.is_repeated:
            self.is_repeated = bool((rows == self.first).all())
        if self.is_constant:
            self.is_constant = bool((rows == self.first.reshape(-1)[:1]).all())

    def _shaped(self, array: Array) -> Array:
        expect_shape(self.name, array.shape, self.type)
        return array.reshape(-1, *self.row) if array.size else array[:0].reshape(0, *self.row)

    def _typed(self, array: Array) -> Array:
        expect_type(self.name, array.dtype, self.type.dtype)
        target = self.type.dtype.numpy
        if array.dtype == target:
            return array
        with np.errstate(over="ignore"):
            rows = array.astype(target)
        if target.kind in "iu" and not np.array_equal(rows, array):
            raise UsageError(f"the calibration data for {self.name!r} holds integers that {target} cannot")
        return rows


def expect_type(name: str, given: np.dtype[np.generic], wanted: DType) -> None:
    """UsageError unless arrays of the element type can be calibration data for an input."""
    if given.kind == "O" and wanted is not STRING:
        raise UsageError(
            f"the calibration data for {name!r} holds Python objects, not numbers",
            hint=f"store it as an array of {wanted.numpy}; pickles are not opened",
        )
    kinds = "f" if wanted.is_float else "iu" if wanted.is_integer else "b" if wanted is BOOL else "OUS"
    if given.kind not in kinds:
        hint = f"convert it: array.astype({wanted.numpy.name!r})"
        if wanted.is_float and given.kind in "iu":
            hint += ", and scale the numbers as they were when the model was trained"
        raise UsageError(
            f"the calibration data for {name!r} has element type {given}, the model takes {wanted}", hint=hint
        )


def expect_shape(name: str, shape: tuple[int, ...], type: TensorType) -> None:
    """UsageError unless arrays of the shape hold rows of an input, one row, or whole inputs."""
    dims = type.dims
    row = dims[1:]
    rows = len(shape) == len(dims) > 0 and shape[1:] == row
    if not rows and shape != row and not (len(shape) == len(dims) + 1 and shape[1:] == dims):
        raise UsageError(
            f"the calibration data for {name!r} has shape {list(shape)}, where rows of {list(row)} are due",
            hint=_hint(shape, row, dims),
        )


def _hint(shape: tuple[int, ...], row: tuple[int, ...], dims: tuple[int, ...]) -> str:
    if len(row) == 3 and len(shape) == 4 and (shape[3], shape[1], shape[2]) == row:
        return "the channels come last; array.transpose(0, 3, 1, 2) puts them first"
    if len(row) == 3 and len(shape) == 4 and (shape[2], shape[3], shape[1]) == row:
        return "the channels come first; array.transpose(0, 2, 3, 1) puts them last"
    return f"give [rows, {', '.join(map(str, row))}], or [runs, {', '.join(map(str, dims))}]"


class Batcher:
    """Items of data in, inputs of runs out."""

    def __init__(self, types: Mapping[str, TensorType]) -> None:
        expect_filled(types)
        self.inputs = {name: Rows(name, t) for name, t in types.items()}
        self.notes: list[str] = []

    def add(self, item: object) -> Iterator[dict[str, Array]]:
        """The runs for which there are rows now. An item holds arrays by the names of the inputs, or is the array of
        the only one."""
        arrays = self._named(item)
        for name, rows in self.inputs.items():
            rows.add(arrays[name])
        yield from self._ready()

    def finish(self) -> Iterator[dict[str, Array]]:
        """The last run, filled up; then the verdict on the data as a whole, in `notes` or as a UsageError."""
        inputs = self.inputs.values()
        if any(r.waiting for r in inputs):
            if not all(r.waiting for r in inputs) or any(r.waiting > r.per_feed for r in inputs):
                parts = ", ".join(f"{r.name!r} has {r.seen}" for r in inputs)
                raise UsageError(f"the inputs hold rows for different numbers of runs: {parts}")
            filled = max(r.fill() for r in inputs)
            if filled:
                self.notes.append(f"the last run was filled up by repeating a row {filled} times")
            yield from self._ready()
        self._judge()

    def _ready(self) -> Iterator[dict[str, Array]]:
        while all(r.waiting >= r.per_feed for r in self.inputs.values()):
            yield {name: rows.take() for name, rows in self.inputs.items()}

    def _named(self, item: object) -> dict[str, Array]:
        if isinstance(item, Mapping):
            expect_names(list(item), self.inputs)
            return {name: np.asarray(item[name]) for name in self.inputs}
        if not isinstance(item, list) and (isinstance(item, tuple | str | bytes) or not hasattr(item, "__array__")):
            raise UsageError(
                f"an item of the calibration data is a {type(item).__name__}",
                hint="give dictionaries of arrays by the names of the inputs, or arrays for a single input",
            )
        expect_single(self.inputs)
        try:
            return {name: np.asarray(item) for name in self.inputs}
        except ValueError:
            raise UsageError("an item of the calibration data is a list of parts of unequal lengths") from None

    def _judge(self) -> None:
        inputs = list(self.inputs.values())
        rows = max((r.seen for r in inputs), default=0)
        if not rows:
            raise UsageError("the calibration data is empty", hint="give 100 rows or more of what the model will see")
        floats = [r for r in inputs if r.type.dtype.is_float and r.type.size > 1]
        still = [r for r in floats if r.is_constant]
        if still and len(still) == len(floats):
            assert still[0].first is not None
            number = still[0].first.reshape(-1)[0]
            raise UsageError(
                f"every number of the calibration data for {still[0].name!r} is {number:g}",
                hint="give rows of the kind the model will see",
            )
        self.notes += [f"every number of the calibration data for {r.name!r} is the same" for r in still]
        if rows > 1 and all(r.is_repeated for r in inputs):
            self.notes.append(f"all {rows} rows of the calibration data are the same")
        elif rows < FEW:
            count = "1 row" if rows == 1 else f"{rows} rows"
            self.notes.append(f"{count} of calibration data: ranges rarely hold for others; 100 or more are usual")


def expect_filled(types: Mapping[str, TensorType]) -> None:
    """UsageError unless there are inputs, of known shapes and with elements."""
    if not types:
        raise UsageError("a model without inputs takes no calibration data")
    for name, t in types.items():
        if not t.is_static or not t.size:
            what = "an empty shape" if t.is_static else "a shape that is not known yet"
            raise UsageError(f"the input {name!r} {t} has {what}", hint="bind its dimensions with --input")


def expect_single(inputs: Mapping[str, object]) -> None:
    """UsageError unless the model has one input."""
    if len(inputs) != 1:
        raise UsageError(
            f"the calibration data has no names, and the model has {len(inputs)} inputs",
            hint=f"give arrays by name: {', '.join(map(repr, inputs))}",
        )


def expect_names(given: list[str], inputs: Mapping[str, object]) -> None:
    """UsageError unless there is data for every input."""
    missing = [name for name in inputs if name not in given]
    if missing:
        there = f"; it holds {', '.join(map(repr, given))}" if given else ""
        raise UsageError(
            f"the calibration data lacks the input{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}{there}",
            hint="name the arrays as the model's inputs",
        )

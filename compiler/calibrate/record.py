"""What calibration gives: the statistics of every value by name, and files of them.

Both kinds of file hold all of it, so that a loaded calibration can be continued: `.npz`, where histograms are arrays,
and `.json`, for people and other programs. The same calibration gives the same bytes.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from compiler.calibrate.histogram import Histogram
from compiler.calibrate.observed import Channels, Observed
from compiler.calibrate.observers import INT8, Range, Scheme, choose
from compiler.errors import UsageError
from compiler.tensor import Array

FORMAT = "cincel calibration 1"
SPAN = (1980, 1, 1, 0, 0, 0)  # the date of a file in the archive: the earliest that its format has
FIELDS = ("observer", "rows", "feeds", "digest", "notes", "graph")
SUFFIXES = (".npz", ".json")
STATISTICS = ("low", "high", "average", "feeds", "ranged", "count", "zeros", "left_out", "binned", "axis")


class Calibration:
    """Statistics of a graph's values on some data.

    values    by the names of `compiler.calibrate.names`; values of the same numbers share one record
    observer  what `range` chooses by, unless told otherwise
    rows      how many rows were seen; feeds: in how many runs of the graph
    digest    of all arrays that were fed, in order: SHA-256, each feed chained to those before it
    notes     one sentence each on what is doubtful about the data
    graph     the `fingerprint` of the graph, if it was asked for
    """

    def __init__(
        self,
        values: Mapping[str, Observed],
        observer: str = "auto",
        rows: int = 0,
        feeds: int = 0,
        digest: str = "",
        notes: Iterable[str] = (),
        graph: str = "",
    ) -> None:
        self.graph = graph
        self.values = dict(values)
        self.observer = observer
        self.rows = rows
        self.feeds = feeds
        self.digest = digest
        self.notes = list(notes)

    @cached_property
    def _ranges(self) -> dict[tuple[int, str, Scheme], Range]:
        return {}

    def range(self, name: str, scheme: Scheme = INT8, observer: str | None = None) -> Range:
        """The range of a value for integers of a type; UsageError for a name that was not calibrated."""
        seen = self.values.get(name)
        if seen is None:
            raise UsageError(f"the value {name!r} was not calibrated", hint="calibrate the graph that is quantized")
        chosen = observer or self.observer
        key = (id(seen), chosen, scheme)
        if key not in self._ranges:
            self._ranges[key] = choose(seen, chosen, scheme)
        return self._ranges[key]

    def copy(self, observer: str | None = None) -> Calibration:
        """An independent copy, perhaps with another observer."""
        copies = {id(seen): _retold(_told(seen)) for seen in self.values.values()}
        values = {name: copies[id(seen)] for name, seen in self.values.items()}
        told = observer or self.observer, self.rows, self.feeds, self.digest, self.notes, self.graph
        return Calibration(values, *told)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a `.npz` or `.json` file; UsageError for another suffix or a path that cannot be written."""
        target = Path(path)
        expect_writable(target)
        try:
            target.write_bytes(self._npz() if target.suffix == ".npz" else self._json())
        except OSError as e:
            raise UsageError(f"the calibration cannot be written to {str(target)!r}: {e.strerror}") from None
        return target

    def _json(self) -> bytes:
        described = self._described()
        for value in described["values"].values():
            for h in value.get("histograms", ()):
                h["counts"] = h["counts"].tolist()
            for key in ("low", "high", "sums"):
                if "channels" in value:
                    value["channels"][key] = value["channels"][key].tolist()
        return (json.dumps(described, indent=1, allow_nan=False) + "\n").encode()

    def _npz(self) -> bytes:
        described = self._described()
        counts, ends, sums = [], [], []
        for value in described["values"].values():
            for h in value.get("histograms", ()):
                counts.append(h["counts"])
                h["counts"] = len(h["counts"])
            channels = value.get("channels")
            if channels is not None:
                ends += [channels.pop("low"), channels.pop("high")]
                sums.append(channels["sums"])
                channels["sums"] = len(channels["sums"])
        arrays = {
            "description": np.frombuffer(json.dumps(described, allow_nan=False).encode(), np.uint8),
            "counts": _joined(counts, np.int64),
            "ends": _joined(ends, np.float32),
            "sums": _joined(sums, np.float64),
        }
        file = BytesIO()
        with ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                member = BytesIO()
                np.lib.format.write_array(member, array, allow_pickle=False)
                archive.writestr(ZipInfo(f"{name}.npy", SPAN), member.getvalue(), ZIP_DEFLATED)
        return file.getvalue()

    def _described(self) -> dict[str, Any]:
        """Everything as plain values and arrays; a record that several names share is told once."""
        first: dict[int, str] = {}
        same = {name: first.setdefault(id(seen), name) for name, seen in self.values.items()}
        return {
            "format": FORMAT,
            **{key: getattr(self, key) for key in FIELDS},
            "values": {name: _told(seen) for name, seen in self.values.items() if same[name] == name},
            "same": {name: other for name, other in same.items() if other != name},
            "order": list(self.values),
        }


def load_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Read what `Calibration.save` wrote; UsageError if it is something else."""
    source = Path(path)
    _expect_suffix(source)
    if source.exists() and not source.is_file():
        raise UsageError(f"the calibration {str(source)!r} is no file")
    try:
        described = _read_npz(source) if source.suffix == ".npz" else json.loads(source.read_text("utf-8"))
        if described["format"] != FORMAT:
            raise ValueError("another format")
        values = {name: _retold(told) for name, told in described["values"].items()}
        values.update((name, values[other]) for name, other in described["same"].items())
        values = {name: values[name] for name in described["order"]}
        fields = {key: described[key] for key in FIELDS}
    except OSError as e:
        raise UsageError(f"the calibration {str(source)!r} cannot be read: {e.strerror}") from None
    except (ArithmeticError, AttributeError, BadZipFile, EOFError, LookupError, RecursionError, TypeError, ValueError,
            zlib.error):  # fmt: skip
        raise UsageError(f"{str(source)!r} is no calibration written by this version", hint="calibrate again") from None
    return Calibration(values, **fields)


def is_calibration(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of `Calibration.save`, by its suffix and by what it begins with."""
    source = Path(path)
    if source.suffix == ".json":
        return True
    if not source.is_file():  # a device or a pipe has no beginning to look at
        return False
    try:
        with ZipFile(source) as archive:
            return archive.namelist()[:1] == ["description.npy"]
    except (OSError, BadZipFile):
        return False


def expect_writable(path: str | os.PathLike[str]) -> None:
    """UsageError for a path that `Calibration.save` could not write to; nothing is written."""
    target = Path(path)
    _expect_suffix(target)
    reason = ""
    if target.is_dir():
        reason = "it is a folder"
    elif not target.parent.is_dir():
        reason = f"there is no folder {str(target.parent)!r}"
    elif not os.access(target if target.exists() else target.parent, os.W_OK):
        reason = "permission denied"
    if reason:
        raise UsageError(f"the calibration cannot be written to {str(target)!r}: {reason}")


def _expect_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{str(path)!r} is no name of a calibration", hint=f"let it end in {' or '.join(SUFFIXES)}")


def _joined(arrays: list[Array], dtype: type[np.generic]) -> Array:
    return np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype)


def _told(seen: Observed) -> dict[str, Any]:
    told = {key: getattr(seen, key) for key in STATISTICS}
    told["average"] = list(seen.average)
    if seen.binned:
        told["histograms"] = [{"exponent": h.exponent, "first": h.first, "counts": h.counts} for h in seen.histograms]
    if seen.channels is not None:
        c = seen.channels
        told["channels"] = {"axis": c.axis, "low": c.low, "high": c.high, "sums": c.sums, "size": c.size}
    return told


def _retold(told: Mapping[str, Any]) -> Observed:
    seen = Observed(told["binned"], told["axis"])
    for key in STATISTICS:
        setattr(seen, key, told[key])
    seen.average = (told["average"][0], told["average"][1])
    if seen.binned:
        a, b = (Histogram(h["exponent"], h["first"], np.array(h["counts"], np.int64)) for h in told["histograms"])
        seen.histograms = (a, b)
    if "channels" in told:
        c = told["channels"]
        low, high = np.array(c["low"], np.float32), np.array(c["high"], np.float32)
        seen.channels = Channels(c["axis"], low, high, np.array(c["sums"], np.float64), c["size"])
    return seen


def _read_npz(path: Path) -> dict[str, Any]:
    """The description with its arrays put back."""
    with np.load(path, allow_pickle=False) as file:
        described: dict[str, Any] = json.loads(file["description"].tobytes())
        counts, ends, sums = _Pieces(file["counts"]), _Pieces(file["ends"]), _Pieces(file["sums"])
    for value in described["values"].values():
        for h in value.get("histograms", ()):
            h["counts"] = counts.take(h["counts"])
        channels = value.get("channels")
        if channels is not None:
            n = channels["sums"]
            channels.update(low=ends.take(n), high=ends.take(n), sums=sums.take(n))
    return described


class _Pieces:
    """An array that is handed out from its beginning."""

    def __init__(self, array: Array) -> None:
        self._array = array
        self._taken = 0

    def take(self, count: int) -> Array:
        self._taken += count
        return self._array[self._taken - count : self._taken]

"""The budget of accuracy that `--max-drop` and `--min-psnr` state, measured on the calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from compiler.calibrate.run import ranges_of
from compiler.calibrate.trial import Trial, mean_snr
from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.tensor import Array
from passes._budget import Limits, parse_share
from passes._int8_scheme import Ranges
from passes._search import Budget
from targets.calibrated import Calibrated

FEW, LEAST_ROWS, MOST_ROWS = 8, 32, 512
WORK = 64 << 30  # multiply-accumulates of all rows, about
LABELS = "labels"


def budget_of(calibrated: Calibrated, max_drop: str | float | None, min_psnr: float | None) -> Budget | None:
    """The budget, if there is one. UsageError for a limit that is no number, for a saved calibration, which
    holds no rows, and for labels that are no classes."""
    if max_drop is None and min_psnr is None:
        return None
    drop = None if max_drop is None else parse_share(str(max_drop))
    if min_psnr is not None and not 0 < min_psnr < np.inf:
        raise UsageError(f"--min-psnr {min_psnr:g} is no number of decibels above 0", hint="give one, such as 40")
    if calibrated.saved is not None:
        raise UsageError(
            "a budget is measured on rows, and a saved calibration holds none", hint="--calibrate the data"
        )
    rows = _Rows(calibrated)
    calibrated.ahead = rows.trial
    limits, labels = Limits(drop, min_psnr), None if drop is None else labels_of(calibrated.source)
    return Budget(limits, rows.trial, rows.few, calibrated.floats, rows.ranges, mean_snr, labels)


class _Rows:
    """The first rows of the data, and the ranges of all of them."""

    def __init__(self, calibrated: Calibrated) -> None:
        self._calibrated = calibrated
        self._trial: Trial | None = None
        self._few: Trial | None = None

    def trial(self, graph: Graph) -> Trial:
        if self._trial is None:
            work = sum(n.macs for n in graph.nodes)
            count = min(MOST_ROWS, max(LEAST_ROWS, WORK // max(work, 1)))
            self._trial = Trial(self._calibrated.first(graph, count))
        return self._trial

    def few(self, graph: Graph) -> Trial:
        """As many of them as a ranking needs."""
        if self._few is None:
            self._few = Trial(self.trial(graph).feeds[:FEW])
        return self._few

    def ranges(self, graph: Graph) -> Ranges:
        """The smallest and the largest numbers, whatever the observer."""
        found = self._calibrated.calibration
        return {} if found is None else ranges_of(found.copy("minmax"), graph)


def labels_of(source: object) -> Array | None:
    """The right classes of the rows, which the data may hold beside the inputs. UsageError unless they are one integer
    for each row."""
    found = source.get(LABELS) if isinstance(source, Mapping) else None
    if isinstance(source, str | Path) and Path(source).suffix == ".npz" and Path(source).is_file():
        found = _stored(source)
    if found is None:
        return None
    labels = np.asarray(found)
    if labels.dtype.kind not in "iu" or labels.size != len(np.atleast_1d(labels)):
        raise UsageError(
            f"the labels of the calibration data are {labels.dtype} {list(labels.shape)}, and not a class for each row",
            hint="give their numbers, from 0, as integers [rows]; without labels, changed classes are counted",
        )
    return labels.reshape(-1)


def _stored(path: str | Path) -> object:
    """The labels in a file; None if there are none, or no file of arrays: whoever reads the rows says what it is."""
    try:
        with np.load(path) as file:
            return file[LABELS] if LABELS in file.files else None
    except (OSError, ValueError, BadZipFile):
        return None

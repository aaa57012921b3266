"""How far two results are apart: largest difference, PSNR, and agreement of the winning class."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, log10
from typing import NamedTuple

import numpy as np

from compiler.tensor import Array, dtype_of

IDENTICAL_DB = 400.0  # stands for an infinite PSNR, so that reports stay plain numbers
ROUNDING_DB = {8: 100.0, 4: 100.0, 2: 45.0, 1: 10.0}  # by bytes of an element: what "the same function" must reach


class Exact(NamedTuple):
    """PSNR, in dB, of a result and of its reference against what the model gives in float64."""

    result_db: float
    reference_db: float


class Comparison(NamedTuple):
    """Distance of one output from its reference.

    max_abs   largest absolute difference; inf if special values (NaN, infinities) sit elsewhere
    psnr_db   20 log10(peak / root mean square difference), where the peak is max |reference| or what the output can
              reach (1 for a sigmoid or softmax, however small its values here); at most 400 (identical), -400 if
              max_abs is inf
    top1_agreement  share of rows with the largest element at the same place; None for outputs that are no classes
    limit_db  the PSNR from which the two count as the same function, rounded differently
    exact     how far both are from the model in float64, where that was evaluated
    """

    name: str
    max_abs: float
    psnr_db: float
    top1_agreement: float | None = None
    limit_db: float = ROUNDING_DB[4]
    exact: Exact | None = None

    def meets(self, tolerance_db: float) -> bool:
        """Whether the result is near enough: to the reference, or else to the model in float64, from which the
        reference is further away than the result."""
        if self.psnr_db >= tolerance_db or self.exact is None:
            return self.psnr_db >= tolerance_db
        return self.exact.result_db >= tolerance_db and self.exact.result_db > self.exact.reference_db

    def as_json(self) -> dict[str, object]:
        """Plain values; an infinite difference is null."""
        max_abs = None if self.max_abs == inf else self.max_abs
        psnr = round(self.psnr_db, 2)
        found = {"name": self.name, "max_abs": max_abs, "psnr_db": psnr, "top1_agreement": self.top1_agreement}
        if self.exact is None:
            return {**found}
        result, reference = (round(db, 2) for db in self.exact)
        return {**found, "float64": {"psnr_db": result, "onnxruntime_psnr_db": reference}}


def compare(name: str, reference: Array, result: Array, peak: float = 0.0) -> Comparison:
    """Distance of `result` from `reference`, number by number whatever the element types; the signs of zeros and the
    payloads of NaN do not count. Shapes that differ, and text that differs, are infinitely far. `peak` is the largest
    magnitude that the output can have, where that is known and beyond what the reference happens to reach."""
    limit = rounding_limit(reference)
    infinitely_far = Comparison(name, inf, -IDENTICAL_DB, None, limit)
    if reference.shape != result.shape:
        return infinitely_far
    if reference.dtype.kind not in "fiubV" or result.dtype.kind not in "fiubV":
        same = bool(np.array_equal(reference, result))
        return Comparison(name, 0.0, IDENTICAL_DB, None, limit) if same else infinitely_far
    a, b = reference.astype(np.float64), result.astype(np.float64)
    finite, top1 = np.isfinite(a), top1_agreement(a, b)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return infinitely_far._replace(top1_agreement=top1)
    difference = _integer_difference(reference, result)
    if difference is None:
        with np.errstate(over="ignore", invalid="ignore"):
            difference = np.where(finite, np.abs(a - b), 0.0)
    worst = float(difference.max(initial=0.0))
    if worst == 0.0:
        return Comparison(name, 0.0, IDENTICAL_DB, top1, limit)
    peak = max(peak, float(np.abs(a, where=finite, out=np.zeros_like(a)).max()))
    return Comparison(name, worst, _psnr(peak, difference, worst), top1, limit)


def compare_all(
    reference: Mapping[str, Array], result: Mapping[str, Array], peaks: Mapping[str, float] | None = None
) -> list[Comparison]:
    """Comparison of every output of `reference`, in its order; one that `result` lacks is infinitely far."""
    known = peaks or {}
    return [
        compare(name, array, result[name], known.get(name, 0.0))
        if name in result
        else Comparison(name, inf, -IDENTICAL_DB, None, rounding_limit(array))
        for name, array in reference.items()
    ]


def top1_agreement(a: Array, b: Array) -> float | None:
    """Share of rows with the same argmax, for [N, classes] outputs of at least two classes."""
    if a.ndim != 2 or a.shape[1] < 2 or not a.size:
        return None
    return float(np.mean(a.argmax(1) == b.argmax(1)))


def rounding_limit(array: Array) -> float:
    """The PSNR, in dB, that results of this element type must reach to count as the same function."""
    return ROUNDING_DB[array.dtype.itemsize] if dtype_of(array).is_float else IDENTICAL_DB


def _psnr(peak: float, difference: Array, worst: float) -> float:
    if worst == inf or peak == 0.0:
        return -IDENTICAL_DB
    with np.errstate(under="ignore"):
        share = float(np.sqrt(np.mean(np.square(difference / worst))))  # of the worst one: no square overflows
    psnr = 20 * (log10(peak) - log10(worst) - log10(share))
    return max(-IDENTICAL_DB, min(psnr, IDENTICAL_DB))


def _integer_difference(a: Array, b: Array) -> Array | None:
    """|a - b| of integers of up to 64 bits, where float64 would call neighbours equal; None for other types."""
    if a.dtype != b.dtype or a.dtype.kind not in "iu":
        return None
    return np.where(a > b, a, b).astype(np.uint64) - np.where(a > b, b, a).astype(np.uint64) + 0.0

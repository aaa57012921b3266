"""Causes that show in the errors which reach a layer with all before it rounded."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler.doctor.causes.registry import GAIN, HALF, cause, number
from compiler.doctor.evidence import Evidence, called, ratio, rms
from compiler.doctor.record import Finding
from compiler.tensor import Array

CANCELLED = 4.0  # times as large operands as the result
LONG = 256  # numbers that are added up
ENOUGH = 16  # errors of a channel from which their mean is known
SUMS = frozenset(("add", "sub", "sum"))
REDUCTIONS = frozenset(("reduce_mean", "reduce_sum", "global_average_pool", "average_pool"))


@cause
def cancellation(e: Evidence) -> Finding | None:
    """Large operands nearly cancel: their noise stays, and the result is small."""
    if e.op in SUMS:
        sizes = {v: rms(x) for v, x in e.operands}
        small, large = rms(e.result), max(sizes, key=lambda v: sizes[v], default=e.layer.result)
        if len(sizes) < 2 or min(sizes.values()) < CANCELLED * small or _inherited(e) < GAIN:
            return None
        size, who = sizes[large], f"operands of size {number(sizes[large])} ({called(large)}) cancel to"
    else:
        results = [n.outputs[0] for n, _ in e.readers() if n.op.name in SUMS and n.outputs[0] in e.numbers]
        size = rms(e.result)
        small = min((rms(e.numbers[v]) for v in results), default=size)
        if size < CANCELLED * small:
            return None
        who = f"numbers of size {number(size)} are read by a sum or difference in which they cancel to"
    above = ratio(size**2, small**2)
    words = f"{who} {number(small)}: noise counts {above:.0f} dB more there"
    remedy = (
        "form the difference before rounding (a variance as the mean of squared deviations), or its operands in 16x8:"
        " --precision int16x8 or --min-psnr"
    )
    return Finding("cancellation", words, remedy, {"operands": size, "result": small, "above_db": above}, above)


@cause
def long_reduction(e: Evidence) -> Finding | None:
    """Errors of one sign are added up over many elements, where others would average out."""
    node = e.layer.node
    shifted = _shift(e)
    if node is None or e.op not in REDUCTIONS or shifted < HALF or _inherited(e) < GAIN:
        return None
    x, y = node.inputs[0], node.outputs[0]
    count = 0 if x is None else prod(x.type.dims) // max(1, prod(y.type.dims))
    if count < LONG:
        return None
    words = (
        f"{count} numbers are added up, and {100 * shifted:.0f} % of the noise of the result is a constant of each"
        " channel: errors that do not average out"
    )
    return Finding("long-reduction", words, "correct-bias", {"count": count, "shift": shifted}, _without(shifted))


@cause
def shifted_errors(e: Evidence) -> Finding | None:
    """Most of the accumulated noise is a constant of each channel."""
    shifted = _shift(e)
    if e.op in REDUCTIONS or e.op == "input" or _without(shifted) < GAIN or _inherited(e) < GAIN:
        return None
    words = f"{100 * shifted:.0f} % of the accumulated noise is a constant of each channel, the same in all rows"
    return Finding("shifted-errors", words, "correct-bias", {"shift": shifted}, _without(shifted))


def _inherited(e: Evidence) -> float:
    """dB by which the accumulated noise is above the layer's own."""
    return e.measured.alone[e.number].db - e.measured.accumulated[e.number].db


def _without(share: float) -> float:
    """dB that go with this share of the noise."""
    return -10 * float(np.log10(max(1 - share, 1e-10)))


def _shift(e: Evidence) -> float:
    """Share of the accumulated noise that is the mean error of each channel, as far as chance does not explain it."""
    errors, axis = _errors(e), e.channel_axis or (e.result.ndim - 1)
    if errors is None or errors.ndim < 2:
        return 0.0
    table = np.moveaxis(errors, axis, 0).reshape(errors.shape[axis], -1).astype(np.float64)
    count = table.shape[1]
    total = float(np.square(table).sum())
    if count < ENOUGH or not total:
        return 0.0
    means = float(np.square(table.mean(1)).sum()) * count
    return max(0.0, (means / total - 1 / count) / (1 - 1 / count))


def _errors(e: Evidence) -> Array | None:
    return None if e.rounded is None else np.asarray(e.rounded - e.result)

"""Causes that lie in rounded constants."""

from __future__ import annotations

import numpy as np

from compiler.doctor.causes.registry import GAIN, HALF, cause, number
from compiler.doctor.evidence import Evidence, contrast, noise, ratio
from compiler.doctor.record import Finding
from compiler.graph import Value
from compiler.quantize import limits, peaks_along, symmetric
from compiler.tensor import I32, I64, Array

BUMPED = 1.1  # times the scale that the weights need
OUTLYING = 6.0  # times the root mean square of a channel's weights


def _weights(e: Evidence) -> Value | None:
    """The rounded constant of most elements that is no bias."""
    kinds = (I32, I64)
    found = [v for v in e.layer.constants if v.type.quant is not None and v.type.quant.dtype not in kinds]
    return max(found, key=lambda v: v.type.size, default=None)


def _data(v: Value) -> Array:
    assert v.data is not None
    return np.asarray(v.data)


@cause
def bias_scale(e: Evidence) -> Finding | None:
    """Weights rounded more coarsely than they need, so that a large bias fits into the accumulator."""
    w = _weights(e)
    if w is None or w.type.quant is None or w.type.quant.block is not None:
        return None
    params = w.type.quant
    peaks = peaks_along(_data(w), params.axis).reshape(-1).astype(np.float64)
    need = peaks / limits(params.dtype, narrow=True)[1]
    live = peaks > 0
    times = np.array(params.scale)[live] / need[live]
    bumped = int((times > BUMPED).sum())
    if not bumped:
        return None
    gain = ratio(noise(_data(w), params), noise(_data(w), symmetric(peaks, params.axis, params.dtype)))
    if gain < GAIN:
        return None
    words = (
        f"the weights of {bumped} of {len(peaks)} channels have a scale up to {number(float(times.max()))} times as"
        " coarse as they need, so that the bias fits into the 32 bits of the sums"
    )
    remedy = "absorb-bias, or a wider range of the operand (a constant or dead input makes its scale tiny)"
    evidence = {"channels": bumped, "of": len(peaks), "times": float(times.max())}
    return Finding("bias-scale", words, remedy, evidence, gain)


@cause
def weight_outlier(e: Evidence) -> Finding | None:
    """One weight of a channel stretches the range of all others."""
    w = _weights(e)
    if w is None or w.type.quant is None or w.type.quant.block is not None or e.weight_share < HALF:
        return None
    params, data = w.type.quant, _data(w)
    axis = params.axis
    rows = data.reshape(1, -1) if axis is None else np.moveaxis(data, axis, 0).reshape(data.shape[axis], -1)
    magnitudes = np.sort(np.abs(rows), 1)
    if magnitudes.shape[1] < 2:
        return None
    top, second = magnitudes[:, -1], magnitudes[:, -2]
    without = np.square(second).sum() / max(float(np.square(top).sum()), 1e-300)
    size = np.sqrt(np.square(rows.astype(np.float64)).mean(1))
    worst = int(np.argmax(top))
    gain = -10 * float(np.log10(max(without, 1e-30)))
    if gain < GAIN or top[worst] < OUTLYING * np.sqrt(np.square(magnitudes[worst, :-1]).mean()):
        return None
    words = (
        f"one weight of {number(float(top[worst]))} in channel {worst} stretches the range of the others, which reach"
        f" {number(float(second[worst]))} (root mean square {number(float(size[worst]))})"
    )
    remedy = "round-weights and correct-bias soften it; else this layer in floats (--min-psnr)"
    evidence = {"largest": float(top[worst]), "next": float(second[worst]), "channel": worst}
    return Finding("weight-outlier", words, remedy, evidence, gain)


@cause
def weight_spread(e: Evidence) -> Finding | None:
    """Channels of very different weights share one scale."""
    w = _weights(e)
    if w is None or w.type.quant is None or w.type.quant.axis is not None or e.weight_share < HALF:
        return None
    data = _data(w)
    gains = {
        axis: ratio(
            noise(data, w.type.quant), noise(data, symmetric(peaks_along(data, axis), axis, w.type.quant.dtype))
        )
        for axis in range(data.ndim)
        if 1 < data.shape[axis] < data.size
    }
    axis = max(gains, key=lambda a: contrast(np.abs(data)[None], a + 1), default=None)
    if axis is None or gains[axis] < GAIN:
        return None
    peaks = peaks_along(data, axis)
    low, high = float(peaks[peaks > 0].min()), float(peaks.max())
    words = (
        f"weights have one scale for all channels, whose largest magnitudes go from {number(low)} to {number(high)}"
        f" along axis {axis}"
    )
    remedy = "a scale for each channel, where the target has it; else equalize-layers"
    return Finding("weight-spread", words, remedy, {"low": low, "high": high, "axis": axis}, gains[axis])


@cause
def coarse_weights(e: Evidence) -> Finding | None:
    """Rounding the weights, though nothing is wrong with them, makes most of the noise."""
    w = _weights(e)
    if (
        w is None
        or w.type.quant is None
        or e.weight_share < HALF
        or weight_outlier(e)
        or bias_scale(e)
        or weight_spread(e)
    ):
        return None
    words = (
        f"{100 * e.weight_share:.0f} % of the layer's own noise comes from rounding its {w.type.size:,} weights to"
        f" {w.type.quant.dtype.bits} bits"
    )
    evidence = {"weight_share": e.weight_share, "bits": w.type.quant.dtype.bits}
    return Finding("coarse-weights", words, "round-weights, then correct-bias", evidence)

"""Causes that lie in a layer's own numbers: the range is right for them, or was chosen by others, and most codes are
lost."""

from __future__ import annotations

from math import log10

import numpy as np

from compiler.doctor.causes.activations import is_harmless
from compiler.doctor.causes.registry import FIXED, GAIN, HALF, cause, number, percent, span
from compiler.doctor.evidence import QUIET, STILL, Evidence, Range, code_count, deviations, ends, ratio
from compiler.doctor.record import Finding
from compiler.quantize import represented

MASK = 1e3  # magnitude from which numbers that lie apart are masks
APART = 10.0  # times the magnitude of all other numbers
BULK = 0.999  # quantile of the numbers other than 0, beyond which, at either end, lie outliers
OUTLYING = 4.0  # times the range of the bulk
CONCENTRATED = 0.9  # share of the outliers at one place of an axis, so that the place is to blame
SPREAD = 10.0  # times the deviation of the quietest tenth of the channels
POOR_DB, POOR = 20.0, 0.1  # SNR of a channel that hardly is there, and the share of such channels
SEEN = 8  # numbers of a channel from which its deviation is known
WIDER = 3.0  # dB that a range without saturation has to win
DEAD = 0.1  # share of channels


@cause
def mask_values(e: Evidence) -> Finding | None:
    """A few numbers of huge magnitude, as masks add, with nothing between them and the rest."""
    x = e.sample
    masks = np.abs(x) >= MASK
    if not _is_per_tensor(e) or not masks.any() or masks.all():
        return None
    rest = x[~masks]
    bulk, least = float(np.abs(rest).max()), float(np.abs(x[masks]).min())
    gain = e.gain(e.fitted(ends(rest)), rest)
    if least < APART * bulk or gain < GAIN:
        return None
    share = float(masks.mean())
    words = (
        f"{percent(share)} of the numbers are masks of magnitude {number(least)} and more, all others lie within"
        f" {span(*ends(rest))}: one step of the integers is {number(_step(e))}"
    )
    evidence = {"mask": least, "share": share, "low": ends(rest)[0], "high": ends(rest)[1], "step": _step(e)}
    return Finding("mask-values", words, "mask with a number just below the others (-30 hides as well)", evidence, gain)


@cause
def outlier(e: Evidence) -> Finding | None:
    """A few elements stretch the range of all."""
    x = e.sample[e.sample != 0]
    if not _is_per_tensor(e) or e.weight_share >= HALF or x.size < 1 / (1 - BULK):
        return None
    low, high = (float(n) for n in np.quantile(x, [1 - BULK, BULK]))
    bulk = x[(x >= low) & (x <= high)]
    assert e.params is not None
    first, last = represented(e.params)
    wide = (last - first) / max(max(high, 0.0) - min(low, 0.0), 1e-30)
    beyond = (e.range[1] - e.range[0]) / max(high - low, 1e-30)
    gain = e.gain(e.fitted((low, high)), bulk)
    if min(wide, beyond) < OUTLYING or gain < GAIN:
        return None
    where, remedy = _place(e, (low, high))
    words = (
        f"{100 * (2 * BULK - 1):.1f} % of the numbers lie within {span(low, high)}, the range is"
        f" {span(first, last)} because of the rest{where}: {number(code_count(e.params) / wide)} of"
        f" {code_count(e.params)} codes serve nearly all"
    )
    return Finding("outlier", words, remedy, {"low": low, "high": high, "times": wide}, gain)


def _place(e: Evidence, bulk: Range) -> tuple[str, str]:
    """Where the outliers are, in words, and what would help."""
    out = (e.result < bulk[0]) | (e.result > bulk[1])
    total = out.sum()
    for axis in range(1, out.ndim):
        counts = out.sum(tuple(i for i in range(out.ndim) if i != axis))
        if out.shape[axis] > SEEN and counts.max() >= CONCENTRATED * total:
            place = int(counts.argmax())
            if axis == e.channel_axis:
                return f", which are in channel {place}", "smooth-activations, or this layer in 16x8"
            return f", which are at place {place} of axis {axis - 1}", "this layer in 16x8: --precision int16x8"
    return "", "--observer mse clips them; else this layer in 16x8: --precision int16x8"


@cause
def channel_spread(e: Evidence) -> Finding | None:
    """Channels of very different deviation share one step."""
    axis = e.channel_axis
    if not _is_per_tensor(e) or axis is None or e.weight_share >= HALF or e.op in FIXED:
        return None
    x = np.moveaxis(e.result, axis, 0).reshape(e.result.shape[axis], -1)
    deviation = deviations(e.result, axis)
    live = deviation[deviation > STILL * deviation.max(initial=0.0)]
    if x.shape[1] < SEEN or len(live) < 2:
        return None
    step = _step(e)
    top, quiet = float(live.max()), float(np.quantile(live, QUIET))
    poor = float(np.mean(20 * np.log10(live / step) + 10 * log10(12) < POOR_DB))
    centre, reach = x.mean(1, dtype=np.float64), np.maximum(x.max(1), 0) - np.minimum(x.min(1), 0)
    gain = ratio(float(len(reach) * step**2), float(np.square(reach / 255).sum()))
    if top < SPREAD * quiet or poor < POOR or gain <= 0:
        return None
    kind = _kind(e)
    times = "" if np.abs(centre).max() < top else f" (means from {span(float(centre.min()), float(centre.max()))})"
    words = (
        f"{kind} deviate by {span(quiet, top)}{times}, {number(top / quiet)} times as much, and share one step of"
        f" {number(step)}: {100 * poor:.0f} % of them have less than {POOR_DB:.0f} dB of signal"
    )
    evidence = {"spread": top / quiet, "quiet": quiet, "loud": top, "poor": poor, "step": step}
    return Finding("channel-spread", words, _levelling(e), evidence, gain)


def _kind(e: Evidence) -> str:
    if e.op == "input":
        return "columns of the input"
    depthwise = getattr(e.layer.nodes[0].op, "groups", 1) > 1
    return "channels of the depthwise convolution" if depthwise else "channels"


def _levelling(e: Evidence) -> str:
    if e.op == "input":
        return "normalise the columns before they enter, and fold that into the first layer; or --precision int16x8"
    return "equalize-layers, where a layer with weights of its own follows; else this layer in 16x8"


@cause
def dead_channels(e: Evidence) -> Finding | None:
    """Channels that never differ from 0."""
    axis = e.channel_axis
    if axis is None or e.op not in ("conv", "dense", "conv_transpose") or e.channels is None:
        return None
    dead = int((e.channels == 0).sum())
    if dead < max(1, DEAD * len(e.channels)) or dead == len(e.channels):
        return None
    words = f"{dead} of {len(e.channels)} channels are 0 in all {e.result.shape[0]} rows: their work is for nothing"
    return Finding(
        "dead-channels", words, "prune them; that saves time, not noise", {"dead": dead, "of": len(e.channels)}, 0.0
    )


@cause
def saturation(e: Evidence) -> Finding | None:
    """The observer chose a range that cuts too much off."""
    if not _is_per_tensor(e) or e.clipping < HALF or e.weight_share >= HALF or is_harmless(e):
        return None
    assert e.params is not None
    gain = e.gain(e.fitted(e.range))
    if gain < WIDER:
        return None
    words = (
        f"{percent(e.outside)} of the numbers lie outside of {span(*represented(e.params))} (they reach"
        f" {span(*e.range)}) and make {100 * e.clipping:.0f} % of the noise"
    )
    evidence = {"share": e.outside, "of_noise": e.clipping, "low": e.range[0], "high": e.range[1]}
    remedy = "--observer minmax, or more rows of calibration data"
    return Finding("saturation", words, remedy, evidence, gain)


def _is_per_tensor(e: Evidence) -> bool:
    return e.params is not None and e.params.axis is None


def _step(e: Evidence) -> float:
    assert e.params is not None
    return e.params.scale[0]

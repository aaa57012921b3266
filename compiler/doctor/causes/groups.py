"""Causes that lie in a scale which others ask for: the range is much wider than the numbers of the layer."""

from __future__ import annotations

import numpy as np

from compiler.doctor.causes.registry import FIXED, GAIN, HALF, cause, number, span
from compiler.doctor.evidence import Evidence, called, ends, ratio, rms, sampled
from compiler.doctor.record import Finding
from compiler.graph import Node, Value
from compiler.ops.parts import Concat, Pad
from compiler.quantize import represented

SMALL = 16.0  # steps that the root mean square of results is worth
WIDE = 1.9  # times the numbers' own range: a bit is lost from 2 on
UNLIKE = 4.0  # times the range of another part


def _is_wide(e: Evidence) -> bool:
    return e.width >= WIDE and e.weight_share < HALF and e.gain(e.fitted(e.range)) >= GAIN


def _reach(e: Evidence, v: Value) -> float:
    x = e.of(v)
    return 0.0 if x is None else float(np.ptp([0.0, *ends(x)]))


def _pad(e: Evidence) -> tuple[Pad, Value] | None:
    """A pad in the group, whose constant lies outside of what it pads; that value."""
    nodes = ([e.layer.node] if e.layer.node else []) + e.group
    for node in nodes:
        x = node.inputs[0]
        if not isinstance(node.op, Pad) or node.op.mode != "constant" or x is None or e.of(x) is None:
            continue
        fill, (low, high) = float(node.op.value), ends(e.numbers[x])
        if np.isfinite(fill) and not min(low, 0.0) <= fill <= max(high, 0.0):
            return node.op, x
    return None


@cause
def padding(e: Evidence) -> Finding | None:
    """A pad fills in a constant far from the numbers."""
    found = _pad(e)
    if found is None or e.params is None:
        return None
    op, x = found
    own = sampled(e.numbers[x])
    gain = e.gain(e.fitted(ends(own)), own)
    if gain < GAIN:
        return None
    fill = float(op.value)
    words = (
        f"it is padded with {number(fill)}, its numbers lie within {span(*ends(own))}: the integers span"
        f" {span(*represented(e.params))}"
    )
    remedy = "pad with a number of that range, or let the pool or convolution behind it pad"
    evidence = {"fill": fill, "low": ends(own)[0], "high": ends(own)[1]}
    return Finding("padding", words, remedy, evidence, gain)


@cause
def concat_of_unlike_ranges(e: Evidence) -> Finding | None:
    """Parts of a concatenation share the scale of the widest."""
    nodes = ([e.layer.node] if e.layer.node else []) + e.group
    joins = [n for n in nodes if isinstance(n.op, Concat)]
    if not joins or e.params is None or e.params.axis is not None:
        return None
    parts = [v for v in joins[0].inputs if v is not None and e.of(v) is not None]
    reaches = {v: _reach(e, v) for v in parts}
    widest = max(reaches, key=lambda v: reaches[v])
    if isinstance(e.layer.node and e.layer.node.op, Concat):
        narrow = min((v for v in parts if reaches[v] > 0), key=lambda v: reaches[v], default=widest)
        numbers = sampled(e.numbers[narrow]) if narrow in e.numbers else np.zeros(0)
        gain = e.gain(e.fitted(ends(numbers)), numbers) if numbers.size else 0.0
        own = ends(numbers) if numbers.size else (0.0, 0.0)
    else:
        if not _is_wide(e):
            return None
        gain, own = e.gain(e.fitted(e.range)), e.range
    size = float(np.ptp([0.0, *own]))
    if gain < GAIN or reaches[widest] < WIDE * size:
        return None
    words = (
        f"numbers within {span(*own)} are joined with {called(widest)}, which reaches over {number(reaches[widest])}:"
        f" {number(256 * size / max(e.width * size, reaches[widest]))} of 256 codes are left to them"
    )
    remedy = (
        "let what follows read the parts apart (a convolution of a concat is a sum of convolutions), equalize-layers"
        " where weights follow, or 16x8"
    )
    evidence = {"low": own[0], "high": own[1], "widest": reaches[widest], "times": reaches[widest] / max(size, 1e-30)}
    return Finding("concat-of-unlike-ranges", words, remedy, evidence, gain)


@cause
def shared_scale(e: Evidence) -> Finding | None:
    """A layer without a scale of its own ties the result to wider numbers."""
    ties = [n for n in e.group if not isinstance(n.op, Concat | Pad)]
    if not ties or not _is_wide(e) or any(isinstance(n.op, Concat | Pad) for n in e.group):
        return None
    near = {v: _reach(e, v) for n in ties for v in (*n.inputs, *n.outputs) if v is not None}
    widest = max(near, key=lambda v: near[v])
    own = _reach(e, e.layer.result)
    if near[widest] < WIDE * own:
        return None
    tie = max(ties, key=lambda n: _contrast(e, n))
    words = (
        f"its numbers lie within {span(*e.range)}, but {tie.op.name} has to keep one scale for them and for"
        f" {called(widest)}, which reaches over {number(near[widest])}: {number(256 / e.width)} of 256 codes are left"
    )
    remedy = "a form with a scale of its own" + (
        " (a mean instead of an average pool over everything)" if tie.op.name == "average_pool" else "; or 16x8"
    )
    evidence = {"low": e.range[0], "high": e.range[1], "widest": near[widest], "times": near[widest] / max(own, 1e-30)}
    return Finding("shared-scale", words, remedy, evidence, e.gain(e.fitted(e.range)))


def _contrast(e: Evidence, node: Node) -> float:
    """How many times as wide the numbers on one side of a layer are as on the other."""
    sides = [max((_reach(e, v) for v in side if v is not None), default=0.0) for side in (node.inputs, node.outputs)]
    return max(sides) / max(min(sides), 1e-30)


@cause
def fixed_scale(e: Evidence) -> Finding | None:
    """A scale that the target fixes is too coarse for results this small."""
    if e.op not in FIXED or not _is_alone(e) or e.params is None:
        return None
    gain, size = e.gain(e.fitted(e.range)), rms(e.sample) / e.params.scale[0]
    if not (e.width >= WIDE and gain >= GAIN) and size > SMALL:
        return None
    words = (
        f"the target fixes the scale of {e.op} at {number(e.params.scale[0])}; these results lie within"
        f" {span(*e.range)} and are worth {number(size)} steps (root mean square), {e.codes} of 256 codes are used"
    )
    remedy = "leave this layer in floats or 16x8 (--min-psnr), or give out the logits before it"
    evidence = {"scale": e.params.scale[0], "low": e.range[0], "high": e.range[1], "codes": e.codes, "steps": size}
    return Finding("fixed-scale", words, remedy, evidence, max(gain, 0.0))


def _is_alone(e: Evidence) -> bool:
    """Whether nothing in the group is wider than the result."""
    own = _reach(e, e.layer.result)
    return all(_reach(e, v) < WIDE * own for n in e.group for v in (*n.inputs, *n.outputs) if v is not None)


@cause
def unused_range(e: Evidence) -> Finding | None:
    """Calibration saw, or the observer chose, far more than these rows hold."""
    if e.op in FIXED or not _is_alone(e) or not _is_wide(e) or _pad(e) is not None:
        return None
    assert e.params is not None
    what = "the input's integers span" if e.op == "input" else "its integers span"
    words = (
        f"{what} {span(*represented(e.params))}, but in these rows its numbers lie within {span(*e.range)}:"
        f" {e.codes} of 256 codes are used"
    )
    remedy = (
        "calibrate with rows of the kind that the model will see; --observer mse or percentile leaves rare ones out"
    )
    evidence = {"low": e.range[0], "high": e.range[1], "times": e.width, "codes": e.codes}
    return Finding("unused-range", words, remedy, evidence, e.gain(e.fitted(e.range)))


@cause
def unlike_terms(e: Evidence) -> Finding | None:
    """A sum has the step of its larger term, in which the smaller one drowns."""
    if e.op not in ("add", "sub", "sum") or e.params is None or e.params.axis is not None:
        return None
    node = e.layer.nodes[0]
    terms = {v: e.of(v) for v in node.inputs if v is not None}
    sizes = {
        v: float(np.std(x)) if v.data is None else float(np.abs(x).max()) for v, x in terms.items() if x is not None
    }
    if len(sizes) < 2:
        return None
    small, large = min(sizes, key=lambda v: sizes[v]), max(sizes, key=lambda v: sizes[v])
    if small.data is not None or sizes[small] == 0:
        return None
    step = e.params.scale[0]
    left = ratio(sizes[small] ** 2, step**2 / 12)
    if sizes[large] < UNLIKE * sizes[small] or left > DROWNED_DB:
        return None
    kind = "the constant" if large.data is not None else called(large)
    words = (
        f"{called(small)} deviates by {number(sizes[small])} and {kind} is of size {number(sizes[large])}: at the step"
        f" {number(step)} of their sum, {left:.0f} dB of the smaller one are left"
    )
    evidence = {"small": sizes[small], "large": sizes[large], "step": step, "left_db": left}
    return Finding("unlike-terms", words, "this layer in 16x8: --precision int16x8 or --min-psnr", evidence)


DROWNED_DB = 20.0  # SNR of a term at the step of the sum

"""Causes that lie in the function which reads a result: codes go where it is flat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from compiler.calibrate.trial import snr
from compiler.doctor.causes.registry import cause, number, percent, span
from compiler.doctor.evidence import Evidence, code_count, ends, ratio
from compiler.doctor.record import Finding
from compiler.graph import Node, Value
from compiler.ops.softmax import LogSoftmax, Softmax
from compiler.quantize import dequantized, quantized, represented
from compiler.tensor import Array, QuantParams

Function = Callable[[Array], Any]  # Any: an operation may give several arrays, these give one
SOFT = frozenset(("silu", "hard_swish", "gelu", "mish"))  # about 0 below TAILS
GATES = frozenset(("sigmoid", "hard_sigmoid"))
TAILS = (-12.0, -8.0, -6.0, -5.0, -4.0, -3.0)  # where the tail may be cut
TAIL_GAIN = 3.0  # dB
LOGIT_STEP = 0.1  # an error of a step changes a probability by a tenth
LOGITS_DB = 35.0  # SNR of probabilities
HIDDEN = 12.0  # logits this far below the largest have no probability that int8 holds


@cause
def activation_tail(e: Evidence) -> Finding | None:
    """Codes spent on numbers for which SiLU, HardSwish or GELU is about 0."""
    function = soft(e)
    if function is None or e.params is None or e.params.axis is not None or e.range[0] > TAILS[-1]:
        return None
    name, f = function
    exact = f(e.sample)
    given = after(f, e.sample, e.params, exact)
    low, high = represented(e.params)
    cuts = [c for c in TAILS if c > low]
    noises = {c: after(f, e.sample, e.fitted((c, max(high, 0.0))), exact) for c in cuts}
    best = min(noises, key=lambda c: noises[c], default=None)
    if best is None or ratio(given, noises[best]) < TAIL_GAIN:
        return None
    lost = (best - low) / (high - low)
    words = (
        f"{100 * lost:.0f} % of the codes stand for numbers from {span(low, best)}, where {name} is at most"
        f" {number(float(np.abs(f(np.linspace(low, best, 64).astype(np.float32))).max()))}"
    )
    evidence = {"low": low, "cut": best, "high": high, "codes": lost * code_count(e.params)}
    remedy = f"let the result saturate at {number(best)} (a Clip in front of {name}); --observer mse comes near it"
    return Finding("activation-tail", words, remedy, evidence, ratio(given, noises[best]))


def is_harmless(e: Evidence) -> bool:
    """Whether only such a function reads the result, and loses nothing by what the range cuts off."""
    function = soft(e)
    if function is None or e.params is None:
        return False
    exact = function[1](e.sample)
    given, whole = (after(function[1], e.sample, p, exact) for p in (e.params, e.fitted(e.range)))
    return given <= whole


def soft(e: Evidence) -> tuple[str, Function] | None:
    """The function of all that read the result, by name: one of SOFT, or the product with its own gate."""
    nodes = list(dict.fromkeys(n for n, _ in e.readers()))
    if e.layer.result.n_out or not nodes:
        return None
    if all(n.op.name in SOFT for n in nodes) and len({n.op for n in nodes}) == 1:
        return nodes[0].op.name, nodes[0].op.evaluate
    gates = [n for n in nodes if n.op.name in GATES]
    products = [n for n in nodes if n.op.name == "mul"]
    if len(gates) != 1 or len(products) != 1 or len(nodes) != 2 or gates[0].output not in products[0].inputs:
        return None
    gate: Function = gates[0].op.evaluate
    return f"x * {gates[0].op.name}(x)", lambda x: np.asarray(x * gate(x))


def after(f: Function, x: Array, params: QuantParams, exact: Array) -> float:
    """The noise behind a function of rounded numbers."""
    return float(np.square(f(dequantized(quantized(x, params), params)).astype(np.float64) - exact).sum())


@cause
def softmax_logits(e: Evidence) -> Finding | None:
    """Logits of so large a range that one step of their integers changes probabilities."""
    reader = next((n for n, v in e.readers() if isinstance(n.op, Softmax | LogSoftmax) and v is e.layer.result), None)
    if reader is None or e.params is None or e.params.axis is not None or e.params.scale[0] < LOGIT_STEP:
        return None
    step, exact = e.params.scale[0], _probabilities(reader, e.result)
    rounded = dequantized(quantized(e.result, e.params), e.params)
    found = snr([exact], [_probabilities(reader, rounded)])
    if found > LOGITS_DB:
        return None
    top = ends(e.result)[1]
    cut = e.fitted((top - HIDDEN, top)) if top > 0 else e.params
    better = snr([exact], [_probabilities(reader, dequantized(quantized(e.result, cut), cut))])
    words = (
        f"logits of a softmax span {span(*e.range)}: a step of {number(step)} changes probabilities by"
        f" {100 * (np.exp(step / 2) - 1):.0f} %, and leaves them {found:.0f} dB"
    )
    if better > found:
        remedy = f"let logits saturate {HIDDEN:.0f} below the largest, or this layer in 16x8"
    else:
        remedy = "this layer in 16x8: --precision int16x8 or --min-psnr; where only the largest counts, nothing"
    evidence = {"low": e.range[0], "high": e.range[1], "step": step, "probabilities_db": found}
    return Finding("softmax-logits", words, remedy, evidence, max(better - found, 0.0))


@cause
def inverse_of_zero(e: Evidence) -> Finding | None:
    """Small numbers round to 0, of which an inverse or an inverse root is taken."""
    reader = next((n for n, v in e.readers() if _inverts(n, v)), None)
    if reader is None or e.params is None or e.params.axis is not None:
        return None
    x = e.sample[e.sample != 0]
    lost = dequantized(quantized(x, e.params), e.params) == 0
    if not lost.any():
        return None
    share, least, step = float(lost.mean()), float(np.abs(x).min()), e.params.scale[0]
    words = (
        f"{percent(share)} of the numbers round to 0 (the smallest is {number(least)}, a step is {number(step)}),"
        f" and {reader.op.name} takes the inverse of them"
    )
    remedy = "this layer in 16x8 or floats: --precision int16x8 or --min-psnr"
    return Finding("inverse-of-zero", words, remedy, {"share": share, "least": least, "step": step})


def _inverts(node: Node, v: Value) -> bool:
    """Whether a layer divides by a value or takes a negative power of it."""
    name, first = node.op.name, node.inputs[0] is v
    if name == "pow":
        exponent = node.inputs[1]
        return first and exponent is not None and exponent.data is not None and bool((exponent.data < 0).all())
    return name == "reciprocal" or (name == "div" and not first)


def _probabilities(reader: Node, logits: Array) -> Array:
    op: Any = reader.op  # Any: a Softmax or LogSoftmax, whose axis counts without rows
    shifted = logits - logits.max(op.axis + 1, keepdims=True)
    powers = np.exp(shifted.astype(np.float64))
    return np.asarray(powers / powers.sum(op.axis + 1, keepdims=True))

"""Parameters for tensors between the builtins that make up one layer: what only moves or clips elements keeps those of
its operand, functions have fixed ones, and sums and products with constants have bounds that follow from the operand's.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, inf, log

import numpy as np

from compiler.quantize import asymmetric, represented, symmetric
from compiler.tensor import I8, I16, QuantParams
from targets.tflite import opset
from targets.tflite.int8_forms import is_wide
from targets.tflite.int8_rules import Rule
from targets.tflite.model import Model, Operator, Tensor

FLOAT = "FLOAT32"
ZERO = QuantParams((2.0**-7,), (0,), None, I8)  # of zeros, which any scale shows
LARGEST_EXPONENT = 16.0  # e to it is a range of which 8 bits still show something
Bounds = tuple[float, float]
CLAMPS: Mapping[int | str, Bounds] = {
    opset.RELU: (0.0, inf), opset.RELU6: (0.0, 6.0), opset.RELU_N1_TO_1: (-1.0, 1.0),
    "RELU": (0.0, inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0),
}  # fmt: skip


def infer(model: Model, rules: Mapping[str, Rule]) -> None:
    """Fill in `quant` of the model's tensors of floats where it follows from others, and of all finite constants."""
    spans: dict[int, Bounds] = {}  # by the id of a tensor whose range was computed here
    for o in model.operators:
        for t in o.inputs:
            if t is not None and t.dtype == FLOAT and t.constant is not None and t.quant is None:
                t.quant = _of_constant(t)
    for o in model.operators:
        rule = rules.get(o.code)
        for t in o.outputs:
            if t.dtype == FLOAT and t.quant is None and not t.real:
                t.quant = _moved(o, rule) or _fixed(o, rule) or _bounded(o, spans)
    for o in reversed(model.operators):
        rule = rules.get(o.code)
        if rule is not None and rule.same and o.outputs[0].dtype == FLOAT:
            for t in o.inputs:
                if t is not None and t.dtype == FLOAT and t.quant is None and t.constant is None and not t.real:
                    t.quant = o.outputs[0].quant


def _of_constant(t: Tensor) -> QuantParams | None:
    assert t.constant is not None
    if not t.constant.array.any():
        return ZERO
    low, high = float(t.constant.array.min(initial=0.0)), float(t.constant.array.max(initial=0.0))
    return asymmetric(low, high) if np.isfinite([low, high]).all() else None


def _moved(o: Operator, rule: Rule | None) -> QuantParams | None:
    """The parameters of the one operand of an operator that does not rescale."""
    if rule is None or not rule.same:
        return None
    sources = [t for t in o.inputs if t is not None and t.dtype == FLOAT and t.constant is None]
    return sources[0].quant if len(sources) == 1 else None


def _is_wide(o: Operator) -> bool:
    """Whether an operator reads 16-bit integers."""
    return any(is_wide(t) for t in o.inputs)


def _fixed(o: Operator, rule: Rule | None) -> QuantParams | None:
    if rule is not None and rule.wide is not None and _is_wide(o):
        return rule.wide.fixed
    return None if rule is None else rule.fixed


def _bounded(o: Operator, spans: dict[int, Bounds]) -> QuantParams | None:
    """Parameters by interval arithmetic: a function of one operand, or a sum or product with a constant; its bounds go
    into `spans`."""
    operands = [t for t in o.inputs if t is not None and t.dtype == FLOAT]
    known = [s for s in (_span(t, spans) for t in operands) if s is not None]
    constants = sum(t.constant is not None for t in operands)
    if len(known) != len(operands) or len(operands) - constants != 1 or len(operands) > 2:
        return None
    found = _interval(o.code, known)
    if found is None:
        return None
    clamp = CLAMPS.get(o.options.get(opset.ACTIVATION, 0)) or CLAMPS.get(o.code) or (-inf, inf)
    low, high = (min(max(end, clamp[0]), clamp[1]) for end in found)
    spans[id(o.outputs[0])] = low, high
    return symmetric([max(-low, high)], None, I16) if _is_wide(o) else asymmetric(low, high)


def _span(t: Tensor, spans: Mapping[int, Bounds]) -> Bounds | None:
    if t.constant is not None and t.quant is not None:
        return float(t.constant.array.min()), float(t.constant.array.max())
    return spans.get(id(t)) or (None if t.quant is None or t.quant.axis is not None else represented(t.quant))


def _interval(code: str, spans: list[Bounds]) -> Bounds | None:
    (a, b), *others = spans
    if not others:
        return _of_function(code, a, b)
    ((c, d),) = others
    if code == "ADD":
        return a + c, b + d
    if code == "SUB":
        return a - d, b - c
    if code == "MUL":
        corners = (a * c, a * d, b * c, b * d)
        return min(corners), max(corners)
    return None


def _of_function(code: str, a: float, b: float) -> Bounds | None:
    """Where a function of one operand from a to b lies."""
    if code in CLAMPS or code == "MEAN":
        return a, b
    if code == "EXP" and b < LARGEST_EXPONENT:
        return exp(a), exp(b)
    if code == "LOG" and a > 0:
        return log(a), log(b)
    return (0.0, max(-a, b)) if code == "ABS" else None

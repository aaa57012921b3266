"""Turning a model of floats, whose tensors know how they are to be stored, into one of 8-bit integers.

An operator is computed in int8 if the specification has a rule for it and all that it reads and gives has parameters.
The others stay floats: islands between DEQUANTIZE and QUANTIZE. Where a rule wants two tensors to share their scale
and they do not, a QUANTIZE copies one to the other's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from compiler.quantize import asymmetric, limits
from compiler.tensor import I8, I32, U8, Array, QuantParams
from passes._int8_weights import bias_params, weight_params
from targets.tflite import opset
from targets.tflite.int8_forms import reform
from targets.tflite.int8_ranges import infer
from targets.tflite.int8_rules import Rule, builtins
from targets.tflite.lower.axes import same_axis
from targets.tflite.model import NUMPY, Constant, Model, Operator, Tensor

FLOAT = "FLOAT32"
STORED = {I8: "INT8", U8: "UINT8", I32: "INT32"}
SHOWN = 8  # islands that a warning names
SATURATES = ("PADV2", "SELECT_V2")  # takes infinite constants: they become the least or the greatest integer


class Island(NamedTuple):
    """An operator that stays in floats, and why."""

    operator: Operator
    reason: str


class Int8Model:
    """The conversion of one model, in place. `islands` are the operators that stay floats; `io` is the element type of
    inputs and outputs that stand for real numbers: int8, uint8 or float32."""

    def __init__(self, model: Model, io: str) -> None:
        self.model = model
        self.islands: list[Island] = []
        self._rules = builtins()
        self._done: list[Operator] = []
        self._forms: dict[tuple[int, QuantParams | None], Tensor] = {}  # of a tensor: integers by parameters, floats
        self._kept: list[Tensor] = []  # so that no id is given twice
        reform(model)
        infer(model, self._rules)
        reasons = [self._obstacle(o) for o in model.operators]
        self._inputs(io)
        for operator, reason in zip(model.operators, reasons, strict=True):
            if reason is None:
                self._integer(operator)
            else:
                self._float(operator, reason)
        self._outputs(io)
        model.operators = self._done
        used = {(o.code, self._rules[o.code].runtime) for o in self._done if o.code in self._rules}
        model.runtimes = [runtime for _, runtime in sorted(used, key=str) if runtime]

    # -- deciding --------------------------------------------------------------------------------------------

    def _obstacle(self, o: Operator) -> str | None:
        """Why an operator cannot be computed in int8; the empty text if it has nothing to do with real numbers."""
        held = [t for t in (*o.inputs, *o.outputs) if t is not None and t.dtype == FLOAT]
        if not held:
            return ""
        rule = self._rules.get(o.code)
        if rule is None:
            return f"{o.code} has no int8 kernel"
        for index, t in enumerate(o.inputs):
            reason = None if t is None or t.dtype != FLOAT else _unfit(o, rule, index, t)
            if reason:
                return reason
        if any(t.dtype == FLOAT and t.quant is None for t in o.outputs):
            return "the range of its result is not known"
        return _out_of_scale(o)

    # -- operators -------------------------------------------------------------------------------------------

    def _integer(self, o: Operator) -> None:
        rule = self._rules[o.code]
        results = [t for t in o.outputs if t.dtype == FLOAT]
        shared = self._shared_params(o, rule, results)
        inputs = [self._operand(o, rule, i, t, shared) for i, t in enumerate(o.inputs)]
        outputs = [self._result(t, rule.fixed or shared or t.quant) if t.dtype == FLOAT else t for t in o.outputs]
        self._add(o, inputs, outputs, rule)
        for t in results:
            assert t.quant is not None
            own = rule.fixed or shared or t.quant
            if own != t.quant:
                self._forms[id(t), t.quant] = self._requantized(self._forms[id(t), own], t.quant)

    def _shared_params(self, o: Operator, rule: Rule, results: Sequence[Tensor]) -> QuantParams | None:
        """The parameters of all operands and results of an operator that does not rescale: the result's, or those of a
        single operand where the result has fewer elements to copy."""
        if not rule.same or not results:
            return None
        operands = [t for t in o.inputs if t is not None and t.dtype == FLOAT and t.constant is None]
        if len(operands) == 1 and prod(results[0].shape) < prod(operands[0].shape):
            return operands[0].quant
        return results[0].quant

    def _operand(
        self, o: Operator, rule: Rule, index: int, t: Tensor | None, shared: QuantParams | None
    ) -> Tensor | None:
        if t is None or t.dtype != FLOAT:
            return t
        if index == rule.weights:
            return self._weight(o, rule, t)
        if index == rule.bias:
            x, w = _factor(o, rule), o.inputs[rule.weights or 0]
            assert x.quant is not None and w is not None
            return self._constant(t, bias_params(x.quant.scale[0], self._weight_params(o, rule, w)))
        if t.constant is not None:
            return self._constant(t, shared or _whole(t))
        assert t.quant is not None
        return self._stored(t, shared or t.quant)

    def _weight(self, o: Operator, rule: Rule, t: Tensor) -> Tensor:
        return self._constant(t, self._weight_params(o, rule, t), narrow=True)

    def _weight_params(self, o: Operator, rule: Rule, t: Tensor) -> QuantParams:
        """Those of the layer graph where they are along the operator's axis; else by the largest magnitudes."""
        given = t.quant
        if given is not None and given.axis == rule.axis and len(given.scale) == t.shape[rule.axis]:
            return given
        x = _factor(o, rule)
        assert t.constant is not None and x.quant is not None
        bias = o.inputs[rule.bias] if rule.bias is not None and rule.bias < len(o.inputs) else None
        data = _array(t.constant)
        axis = _axis(t.shape, data.shape, rule.axis)
        held = None if bias is None or bias.constant is None else bias.constant.stored()
        return weight_params(data, axis, x.quant.scale[0], held)._replace(axis=rule.axis)

    def _float(self, o: Operator, reason: str) -> None:
        if reason:
            self.islands.append(Island(o, reason))
        inputs = [self._real(t) if t is not None and t.dtype == FLOAT else t for t in o.inputs]
        self._done.append(o._replace(inputs=tuple(inputs)))
        for t in o.outputs:
            self._forms[id(t), None] = t
            self._kept.append(t)

    # -- tensors ---------------------------------------------------------------------------------------------

    def _stored(self, t: Tensor, params: QuantParams) -> Tensor:
        """A computed tensor as integers."""
        found = self._forms.get((id(t), params))
        if found is None:
            assert t.quant is not None
            own = self._forms.get((id(t), t.quant))
            if own is None:
                own = self._forms[id(t), t.quant] = self._requantized(self._forms[id(t), None], t.quant)
            found = own if params == t.quant else self._requantized(own, params)
            self._forms[id(t), params] = found
        return found

    def _real(self, t: Tensor) -> Tensor:
        """A tensor as floats."""
        if t.constant is not None or t.variable:
            return t
        found = self._forms.get((id(t), None))
        if found is None:
            assert t.quant is not None
            found = self._forms[id(t), None] = Tensor(t.name, FLOAT, t.shape)
            self._convert("DEQUANTIZE", self._forms[id(t), t.quant], found)
        return found

    def _result(self, t: Tensor, params: QuantParams | None) -> Tensor:
        assert params is not None
        found = self._forms[id(t), params] = _integers(t.name, t.shape, params)
        self._kept.append(t)
        return found

    def _requantized(self, t: Tensor, params: QuantParams) -> Tensor:
        made = _integers(t.name, t.shape, params)
        self._convert("QUANTIZE", t, made)
        return made

    def _convert(self, code: str, source: Tensor, result: Tensor) -> None:
        self._done.append(Operator(code, (source,), (result,), {}, opset.version(code, [source], [result], {})))

    def _constant(self, t: Tensor, params: QuantParams, narrow: bool = False) -> Tensor:
        found = self._forms.get((id(t), params))
        if found is None:
            assert t.constant is not None
            data = _array(t.constant)
            axis = None if params.axis is None else _axis(t.shape, data.shape, params.axis)
            kind = NUMPY[STORED[params.dtype]]
            found = self._forms[id(t), params] = _integers(t.name, t.shape, params)
            found.constant = t.constant._replace(dtype=kind, quant=params._replace(axis=axis), narrow=narrow)
            self._kept.append(t)
        return found

    def _add(self, o: Operator, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], rule: Rule) -> None:
        version = max(opset.version(o.code, inputs, outputs, o.options), rule.version)
        self._done.append(Operator(o.code, tuple(inputs), tuple(outputs), o.options, version))

    # -- the border ------------------------------------------------------------------------------------------

    def _inputs(self, io: str) -> None:
        for i, (name, t) in enumerate(self.model.inputs):
            self._kept.append(t)
            if t.dtype != FLOAT:
                continue
            port = t
            if t.quant is None or io == "float32":
                self._forms[id(t), None] = t
            else:
                port = self._border(t, io, inward=True)
            self.model.inputs[i] = name, port

    def _outputs(self, io: str) -> None:
        for i, (name, t) in enumerate(self.model.outputs):
            if t.dtype == FLOAT:
                real = t.quant is None or io == "float32"
                port = self._real(t) if real else self._border(t, io, inward=False)
                port.name = name
                self.model.outputs[i] = name, port

    def _border(self, t: Tensor, io: str, inward: bool) -> Tensor:
        """The tensor of an input or output in integers; of uint8, a copy of the one in int8."""
        assert t.quant is not None
        if inward:
            inside = self._forms[id(t), t.quant] = _integers(t.name, t.shape, t.quant)
        else:
            inside = self._stored(t, t.quant)
        if io == "int8":
            return inside
        port = _integers(t.name, t.shape, QuantParams(t.quant.scale, (t.quant.zero_point[0] + 128,), None, U8))
        self._convert("QUANTIZE", *((port, inside) if inward else (inside, port)))
        return port


def _factor(o: Operator, rule: Rule) -> Tensor:
    """What an operator multiplies by its weights."""
    return next(
        t for i, t in enumerate(o.inputs) if t is not None and t.dtype == FLOAT and i not in (rule.weights, rule.bias)
    )


def _unfit(o: Operator, rule: Rule, index: int, t: Tensor) -> str | None:
    """Why an operand cannot be integers."""
    if t.constant is None:
        if index in (rule.weights, rule.bias):
            return f"the {'weights' if index == rule.weights else 'bias'} of {o.code} are computed"
        return None if t.quant is not None else "the range of an operand is not known"
    if o.code in SATURATES or index == rule.bias:
        return None
    return None if np.isfinite(t.constant.array).all() else "a constant is infinite"


def _whole(t: Tensor) -> QuantParams:
    """Parameters of a constant that is no weight, for all of its elements."""
    assert t.quant is not None and t.constant is not None
    if t.quant.axis is None:
        return t.quant
    return asymmetric(float(t.constant.array.min()), float(t.constant.array.max()))


def _out_of_scale(o: Operator) -> str | None:
    """Why a kernel would end the run, or the process: roots take no negative numbers, and some multipliers have to be
    below 1 (kernels/elementwise.cc, comparisons.cc, add.cc, sub.cc and activations.cc of LiteRT)."""
    given = [t.quant for t in o.inputs if t is not None and t.dtype == FLOAT and t.quant is not None]
    if o.code in ("SQRT", "RSQRT") and given[0].zero_point[0] != limits(I8)[0]:
        return f"{o.code} takes no integers that stand for negative numbers"
    steps = [q.scale[0] for q in given]
    if o.code in opset.COMPARISONS and max(steps) >= 1:
        return f"{o.code} compares integers whose step is below 1"
    if o.code not in ("ADD", "SUB", "HARD_SWISH"):
        return None
    result = o.outputs[0].quant
    assert result is not None
    limit = result.scale[0] * (128 if o.code == "HARD_SWISH" else 1 << 19)
    return None if max(steps) < limit else f"the step of the result of {o.code} is far below that of an operand"


def _integers(name: str, shape: tuple[int, ...], params: QuantParams) -> Tensor:
    made = Tensor(name, STORED[params.dtype], shape)
    made.quant = params
    return made


def _array(constant: Constant) -> Array:
    return constant.array if constant.perm is None else constant.array.transpose(constant.perm)


def _axis(shape: Sequence[int], other: Sequence[int], axis: int) -> int:
    found = same_axis(shape, other, axis)
    assert found is not None, f"axis {axis} of {list(shape)} is no axis of {list(other)}"
    return found


def listed(islands: Sequence[Island]) -> list[str]:
    """One line for each operator that stays in floats."""
    return [f"{i.operator.code} {i.operator.outputs[0].name!r}: {i.reason}" for i in islands]


def account(islands: Sequence[Island]) -> list[str]:
    """A warning about the operators that stay floats, if there are any."""
    if not islands:
        return []
    shown = listed(islands)
    more = "" if len(shown) <= SHOWN else f"; and {len(shown) - SHOWN} more"
    count = f"{len(islands)} operators stay in float32, between DEQUANTIZE and QUANTIZE"
    return [f"NOT FULL INTEGER: {count}; {'; '.join(shown[:SHOWN])}{more}"]


def ports_of(model: Model) -> Mapping[str, QuantParams]:
    """The parameters of inputs and outputs that are integers which stand for real numbers, by name."""
    ports = (*model.inputs, *model.outputs)
    return {name: t.quant for name, t in ports if t.quant is not None and t.dtype != FLOAT}

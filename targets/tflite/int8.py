"""Turning a model of floats, whose tensors know how they are to be stored, into one of integers.

An operator is computed in int8 if the specification has a rule for it and all that it reads and gives has parameters;
in 16x8, with weights of 8 bits, if any of that has 16 bits and a kernel takes them. The others stay floats: islands
between DEQUANTIZE and QUANTIZE. Where a rule wants two tensors to share their scale or width and they do not, a
QUANTIZE copies one to the other's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from compiler.quantize import asymmetric, limits, symmetric
from compiler.tensor import I8, I16, I32, U8, Array, DType, QuantParams
from passes._int8_weights import bias_params, weight_params
from passes._int16 import narrowed, widened
from targets.tflite import opset
from targets.tflite.int8_forms import reform
from targets.tflite.int8_ranges import infer
from targets.tflite.int8_rules import Rule, builtins
from targets.tflite.lower.axes import same_axis
from targets.tflite.model import Constant, Model, Operator, Tensor
from targets.tflite.weights import STORED, quantized_constant

FLOAT = "FLOAT32"
SUMS, ANY_SCALE = ("ADD", "SUB"), {"PotScaleInt16": False}  # else scales of int16 are powers of two
NO_RANGE = "the range of {} is not known"
CROSSINGS = ("QUANTIZE", "DEQUANTIZE")
SATURATES = ("PADV2", "SELECT_V2")  # takes infinite constants: they become the least or the greatest integer


ROOM = {("HARD_SWISH", I8): 128, **{(code, kind): n for code in SUMS for kind, n in ((I8, 1 << 19), (I16, 1 << 14))}}


class Island(NamedTuple):
    """An operator that stays in floats, and why."""

    operator: Operator
    reason: str


class Int8Model:
    """The conversion of one model, in place. `islands` are the operators that stay floats; `io` is the element type of
    inputs and outputs that stand for real numbers: int8, uint8, int16 or float32; None: as they are inside."""

    def __init__(self, model: Model, io: str | None) -> None:
        self.model = model
        self.islands: list[Island] = []
        self._rules = builtins()
        self._done: list[Operator] = []
        self._forms: dict[tuple[int, QuantParams | None], Tensor] = {}  # of a tensor: integers by parameters, floats
        self._runtimes: set[str] = set()  # the oldest that have the kernels
        self._kept: list[Tensor] = []  # so that no id is given twice
        reform(model)
        infer(model, self._rules)
        reasons = [self._obstacle(o) for o in model.operators]
        self._inputs(io)
        for operator, reason in zip(model.operators, reasons, strict=True):
            if operator.code in CROSSINGS and _is_annotated(operator):
                self._cross(operator)
            elif reason is None:
                self._integer(operator)
            else:
                self._float(operator, reason)
        self._outputs(io)
        model.operators = self._done
        model.runtimes = sorted(self._runtimes)

    # -- deciding --------------------------------------------------------------------------------------------

    def _obstacle(self, o: Operator) -> str | None:
        """Why an operator cannot be computed in int8; the empty text if it has nothing to do with real numbers."""
        held = [t for t in (*o.inputs, *o.outputs) if t is not None and t.dtype == FLOAT]
        if not held:
            return ""
        if any(t.real for t in held):
            return "the budget asks for floats here"
        rule = self._kernel(o)
        if rule is None:
            return f"{o.code} has no int8 kernel"
        for index, t in enumerate(o.inputs):
            reason = None if t is None or t.dtype != FLOAT else _unfit(o, rule, index, t)
            if reason:
                return reason
        if any(t.dtype == FLOAT and t.quant is None for t in o.outputs):
            return NO_RANGE.format("its result")
        return _out_of_scale(o, rule.kind)

    def _kernel(self, o: Operator) -> Rule | None:
        """The rule of an operator, at the width of what it computes with."""
        rule = self._rules.get(o.code)
        if rule is None or rule.wide is None:
            return rule
        held = [t for t in (*o.inputs, *o.outputs) if t is not None and t.dtype == FLOAT and t.constant is None]
        shared = self._shared_params(o, rule, [t for t in o.outputs if t.dtype == FLOAT])
        wide = any(q is not None and q.dtype is I16 for q in ([shared] if shared else [t.quant for t in held]))
        return rule.wide if wide else rule

    # -- operators -------------------------------------------------------------------------------------------

    def _integer(self, o: Operator) -> None:
        rule = self._kernel(o)
        assert rule is not None
        results = [t for t in o.outputs if t.dtype == FLOAT]
        shared = self._shared_params(o, rule, results)
        if shared is not None:
            shared = _at(shared, rule.kind)
        own = {id(t): rule.fixed or shared or _at(t.quant, rule.kind) for t in results}
        inputs = [self._operand(o, rule, i, t, shared) for i, t in enumerate(o.inputs)]
        outputs = [self._result(t, own[id(t)]) if id(t) in own else t for t in o.outputs]
        self._add(o, inputs, outputs, rule)
        for t in results:
            if own[id(t)] != t.quant:
                assert t.quant is not None
                self._forms[id(t), t.quant] = self._requantized(self._forms[id(t), own[id(t)]], t.quant)

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
            assert w is not None
            params = bias_params(_at(x.quant, rule.kind).scale[0], self._weight_params(o, rule, w))
            return self._constant(t, params._replace(dtype=rule.bias_kind))
        if t.constant is not None:
            return self._constant(t, shared or _whole(o, t, rule.kind))
        return self._stored(t, shared or _at(t.quant, rule.kind))

    def _weight(self, o: Operator, rule: Rule, t: Tensor) -> Tensor:
        return self._constant(t, self._weight_params(o, rule, t), narrow=True)

    def _weight_params(self, o: Operator, rule: Rule, t: Tensor) -> QuantParams:
        """Those of the layer graph where they are along the operator's axis; else by the largest magnitudes."""
        given = t.quant
        if given is not None and given.axis == rule.axis and len(given.scale) == t.shape[rule.axis]:
            return given
        x = _factor(o, rule)
        assert t.constant is not None
        bias = o.inputs[rule.bias] if rule.bias is not None and rule.bias < len(o.inputs) else None
        data = _array(t.constant)
        axis = _axis(t.shape, data.shape, rule.axis)
        narrow = rule.bias_kind is I32  # whose range the bias may leave
        held = bias.constant.stored() if bias is not None and bias.constant is not None and narrow else None
        return weight_params(data, axis, _at(x.quant, rule.kind).scale[0], held)._replace(axis=rule.axis)

    def _cross(self, o: Operator) -> None:
        """Integers at the border that stand for annotated floats, or floats that are copied to other parameters."""
        (x,), (y,) = o.inputs, o.outputs
        assert x is not None and x.quant is not None and y.quant is not None
        if x.dtype == FLOAT:
            stored = self._stored(x, x.quant if y.dtype != FLOAT else y.quant)
        else:
            stored = x if x.quant == y.quant else self._requantized(x, y.quant)
        self._kept += [x, y]
        if y.dtype == FLOAT:
            self._forms[id(y), y.quant] = stored
        elif stored.quant == y.quant and not any(t is stored for _, t in (*self.model.inputs, *self.model.outputs)):
            stored.name = y.name
            self.model.outputs[:] = [(name, stored if t is y else t) for name, t in self.model.outputs]
        else:
            self._convert("QUANTIZE", stored, y)

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
        self._done.append(_quantize(source, result, code))

    def _constant(self, t: Tensor, params: QuantParams, narrow: bool = False) -> Tensor:
        found = self._forms.get((id(t), params))
        if found is None:
            assert t.constant is not None
            found = self._forms[id(t), params] = _integers(t.name, t.shape, params)
            found.constant = quantized_constant(t.constant, t.shape, params, narrow)
            self._kept.append(t)
        return found

    def _add(self, o: Operator, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], rule: Rule) -> None:
        version = max(opset.version(o.code, inputs, outputs, o.options), rule.version)
        options = {**o.options, **ANY_SCALE} if rule.kind is I16 and o.code in SUMS else o.options
        self._done.append(Operator(o.code, tuple(inputs), tuple(outputs), options, version))
        if rule.runtime:
            self._runtimes.add(rule.runtime)

    # -- the border ------------------------------------------------------------------------------------------

    def _inputs(self, io: str | None) -> None:
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

    def _outputs(self, io: str | None) -> None:
        for i, (name, t) in enumerate(self.model.outputs):
            if t.dtype == FLOAT:
                real = t.quant is None or io == "float32"
                port = self._real(t) if real else self._border(t, io, inward=False)
                port.name = name
                self.model.outputs[i] = name, port

    def _border(self, t: Tensor, io: str | None, inward: bool) -> Tensor:
        """The tensor of an input or output in integers; of another type than inside, a copy of that."""
        assert t.quant is not None
        if inward:
            inside = self._forms[id(t), t.quant] = _integers(t.name, t.shape, t.quant)
        else:
            inside = self._stored(t, t.quant)
        port = inside
        for params in _border_params(t.quant, io):
            if params != port.quant:
                port = self._bordering(port, params, inward)
        return port

    def _bordering(self, t: Tensor, params: QuantParams, inward: bool) -> Tensor:
        """The same numbers in other integers, one step further outside."""
        outer = _integers(t.name, t.shape, params)
        if inward:
            self._done.insert(0, _quantize(outer, t))
        else:
            self._done.append(_quantize(t, outer))
        return outer


def _border_params(params: QuantParams, io: str | None) -> list[QuantParams]:
    """Those of the steps from inside to a port; of 16 bits, no kernel makes uint8."""
    if io is None:
        return []
    first = _at(params, I16 if io == "int16" else I8)
    return [first] if io != "uint8" else [first, QuantParams(first.scale, (first.zero_point[0] + 128,), None, U8)]


def _quantize(source: Tensor, result: Tensor, code: str = "QUANTIZE") -> Operator:
    return Operator(code, (source,), (result,), {}, opset.version(code, [source], [result], {}))


def _at(params: QuantParams | None, kind: DType) -> QuantParams:
    """The parameters of a value in integers of this width."""
    assert params is not None
    return widened(params) if kind is I16 else narrowed(params)


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
        return None if t.quant is not None else NO_RANGE.format("an operand")
    if o.code in SATURATES or index == rule.bias:
        return None
    return None if np.isfinite(t.constant.array).all() else "a constant is infinite"


def _whole(o: Operator, t: Tensor, kind: DType) -> QuantParams:
    """Parameters of a constant that is no weight, for all of its elements; zeros take the scale of what is computed."""
    assert t.quant is not None and t.constant is not None
    computed = [x.quant for x in o.inputs if x is not None and x.dtype == FLOAT and x.constant is None]
    if computed and _is_zero(t):
        return _at(computed[0], kind)._replace(zero_point=(0,))
    if kind is I16:
        peak = np.abs(t.constant.array).max(initial=0.0)
        return symmetric([peak], None, I16) if peak else widened(t.quant)
    if t.quant.axis is None:
        return narrowed(t.quant)
    return asymmetric(float(t.constant.array.min()), float(t.constant.array.max()))


def _is_zero(t: Tensor) -> bool:
    return t.constant is not None and not t.constant.array.any()


def _out_of_scale(o: Operator, kind: DType) -> str | None:
    """Why a kernel would end the run, or the process: roots take no negative numbers, and some multipliers have to be
    below 1 (kernels/elementwise.cc, comparisons.cc, add.cc, sub.cc and activations.cc of LiteRT)."""
    real = [t for t in o.inputs if t is not None and t.dtype == FLOAT and not _is_zero(t)]
    known = [t.quant for t in real if t.quant is not None]
    if o.code in ("SQRT", "RSQRT") and known[0].zero_point[0] != limits(I8)[0] and kind is I8:
        return f"{o.code} takes no integers that stand for negative numbers"
    steps = [(_at(q, kind) if q.axis is None else q).scale[0] for q in known]
    if o.code in opset.COMPARISONS and max(steps, default=0) >= 1:
        return f"{o.code} compares integers whose step is below 1"
    if o.code not in (*SUMS, "HARD_SWISH"):
        return None
    limit = _at(o.outputs[0].quant, kind).scale[0] * ROOM.get((o.code, kind), 128)
    near = max(steps, default=0) < limit
    return None if near else f"the step of the result of {o.code} is far below that of an operand"


def _is_annotated(o: Operator) -> bool:
    """Whether what an operator reads, which is no constant, and what it gives have parameters."""
    x, y = o.inputs[0], o.outputs[0]
    return x is not None and x.constant is None and x.quant is not None and y.quant is not None


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


def ports_of(model: Model) -> Mapping[str, QuantParams]:
    """The parameters of inputs and outputs that are integers which stand for real numbers, by name."""
    ports = (*model.inputs, *model.outputs)
    return {name: t.quant for name, t in ports if t.quant is not None and t.dtype != FLOAT}

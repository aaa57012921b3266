"""What the 8-bit specification asks of each operator: element types, weights, biases, scales of results."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from targets.tflite.check.node import BYTES, FLOATS, PLAIN, Node, scale, scales, zero_point
from targets.tflite.check.report import ERROR, WARNING, Findings, is_builtin
from targets.tflite.check.rules import Rules, int8_rules
from targets.tflite.check.weights import has_lowest
from targets.tflite.reader import Tensor

Report = Callable[[str, Tensor | None, str], None]  # takes a code, the tensor and a message
UNSIGNED_SHIFT = 128  # zero points of uint8 are those of int8 and this
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


class IntegerRules:
    """Checks operators one by one; weights are looked at once."""

    def __init__(self, found: Findings) -> None:
        self._found = found
        self._rules = int8_rules()
        self._lowest: dict[int, bool] = {}  # number of a buffer -> whether weights in it are -128

    def check(self, node: Node) -> None:
        """Report what breaks the rule of the operator. Float operators are left to `islands`."""
        code = node.operator.code

        def report(what: str, tensor: Tensor | None, text: str) -> None:
            severity = WARNING if what == "version-low" else ERROR
            self._found.add(what, severity, text, graph=node.graph, operator=node.operator, tensor=tensor)

        if code in CONVERSIONS:
            self._conversion(node, report)
        elif code in self._rules["recurrent"]:
            self._recurrent(node, self._rules["recurrent"][code], report)
        elif code in self._rules["operators"]:
            self._operator(node, self._rules["operators"][code], report)
        elif code not in self._rules["without_arithmetic"]["codes"] and is_builtin(node.operator):
            quantized = next((t for t in node.values if t.dtype in BYTES and scales(t) is not None), None)
            if quantized is not None:
                report("no-int8-rule", quantized, "the 8-bit specification has no form of this operator; replace it")

    def _conversion(self, node: Node, report: Report) -> None:
        for t in node.values:
            if t.dtype in BYTES:
                self._per_tensor(t, report)
            elif t.dtype not in FLOATS:
                report("dtype", t, f"a conversion to or from {t.dtype.lower()} has no place in an int8 graph")

    def _operator(self, node: Node, rule: Rules, report: Report) -> None:
        places = range(len(node.inputs)) if rule["activations"] == "all" else rule["activations"]
        operands = [t for t in map(node.input, places) if t is not None]
        if not operands or operands[0].dtype in FLOATS:
            return
        dtype = operands[0].dtype
        if dtype in PLAIN and scales(operands[0]) is None and all(t.dtype == dtype for t in operands):
            return  # arithmetic on numbers that stand for themselves
        results = (
            []
            if rule.get("output") == "plain"
            else [t for t in node.outputs if t.dtype not in PLAIN or scales(t) is not None]
        )
        for t in (*operands, *results):
            if t.dtype == "INT16":
                report("dtype", t, "it is int16, where the contract is int8; activations of 16 bits leave the device")
            elif t.dtype not in BYTES:
                report("dtype", t, f"it is {t.dtype.lower()} where int8 is due")
            elif t.dtype != dtype:
                report("dtype", t, f"it is {t.dtype.lower()} beside {dtype.lower()} operands; convert it by QUANTIZE")
            self._per_tensor(t, report)
        if dtype not in BYTES:
            return
        if dtype == "INT8" and node.operator.version < rule.get("version", 1):
            text = f"version {node.operator.version} does not know int8; it is {rule['version']} or later"
            report("version-low", None, text)
        if "weight" in rule:
            self._weighted(node, rule, operands[0], report)
        if "fixed" in rule:
            self._fixed(node, rule["fixed"], report)
        if rule.get("same_scale"):
            self._same_scale(operands, results, exact="exact" in rule, report=report)
        if "scale_ratio_below" in rule:
            self._ratio(node, rule["scale_ratio_below"], report)

    def _per_tensor(self, t: Tensor, report: Report) -> None:
        found = scales(t)
        if found is None:
            report("missing-scale", t, "it is quantized and has no scale; calibrate it")
        elif len(found) > 1:
            report(
                "per-axis", t, f"it has {len(found)} scales where one is due; only weights are quantized per channel"
            )

    # -- weights and biases --------------------------------------------------------------------------------

    def _weighted(self, node: Node, rule: Rules, source: Tensor, report: Report) -> None:
        weights, bias = node.input(rule["weight"]["at"]), node.input(rule["bias"])
        if weights is None:
            return
        self._weight(weights, source.dtype, rule["weight"]["axis"], report)
        if bias is not None:
            self._bias(bias, source, weights, report)

    def _weight(self, t: Tensor, dtype: str, axis: int, report: Report) -> None:
        found = scales(t)
        if t.dtype != dtype:
            report("dtype", t, f"weights are {t.dtype.lower()} beside {dtype.lower()} values")
            return
        if found is None:
            report("missing-scale", t, "weights have no scale; quantize them")
            return
        if len(found) > 1 and t.quantization is not None and t.quantization.axis != axis:
            text = f"weights are quantized along axis {t.quantization.axis}, and this operator wants axis {axis}"
            report("per-axis-dimension", t, text)
        if dtype != "INT8":
            return
        if t.quantization is not None and (t.quantization.zero_point != 0).any():
            report(
                "weight-zero-point", t, f"the zero point of weights is {zero_point(t)}; make them symmetric around 0"
            )
        if t.data is not None and self._has_lowest(t):
            report("weight-range", t, "weights hold -128, and their range is -127 to 127; clip them")

    def _has_lowest(self, t: Tensor) -> bool:
        if t.buffer not in self._lowest:
            self._lowest[t.buffer] = t.data is not None and has_lowest(t.data)
        return self._lowest[t.buffer]

    def _bias(self, bias: Tensor, source: Tensor, weights: Tensor, report: Report) -> None:
        if bias.dtype != "INT32":
            report("dtype", bias, f"the bias is {bias.dtype.lower()}, and has to be int32")
            return
        given, s, w = scales(bias), scale(source), scales(weights)
        if given is None:
            report("missing-scale", bias, "the bias has no scale; it is that of the operand times that of the weights")
            return
        if s is None or w is None:
            return  # reported as their own
        wanted = s * w.astype(np.float64)
        unlike = self._unlike(given, wanted)
        if unlike:
            text = f"the scale is {float(given[0]):.6g} where s_in * s_w is {float(wanted[0]):.6g}"
            if len(given) > 1 or len(wanted) > 1:
                text += f" ({len(given)} scales for {len(wanted)} of the weights, {unlike} differ)"
            report("bias-scale", bias, f"{text}; quantize the bias again with that product")

    def _unlike(self, given: np.ndarray, wanted: np.ndarray) -> int:
        """How many scales of a bias are not the product of the others."""
        if len(given) not in (1, len(wanted)):
            return max(len(given), len(wanted))
        relative = self._rules["tolerances"]["bias_scale"]["relative"]
        with np.errstate(invalid="ignore", over="ignore"):
            return int((~(np.abs(given - wanted) <= relative * np.abs(wanted))).sum())

    # -- scales of results ---------------------------------------------------------------------------------

    def _fixed(self, node: Node, fixed: Rules, report: Report) -> None:
        result = node.output()
        if result is None or (given := scale(result)) is None:
            return
        shift = UNSIGNED_SHIFT if result.dtype == "UINT8" else 0
        relative = fixed.get("tolerance", self._rules["tolerances"]["fixed_scale"]["relative"])
        zero = fixed["zero_point"] + shift
        if not abs(given - fixed["scale"]) <= relative * fixed["scale"] or zero_point(result) != zero:
            is_, due = f"{given:.6g} and {zero_point(result)}", f"1/{round(1 / fixed['scale'])} and {zero}"
            text = f"scale and zero point are {is_} where this operator's are {due} by the specification; set those"
            report("fixed-output", result, text)

    def _same_scale(self, operands: Iterable[Tensor], results: list[Tensor], exact: bool, report: Report) -> None:
        if not results or (wanted := scale(results[0])) is None:
            return
        relative = 0.0 if exact else self._rules["tolerances"]["same_scale"]["relative"]
        for t in (*operands, *results[1:]):
            given = scale(t)
            if given is None or t.dtype not in BYTES:
                continue
            if not abs(given - wanted) <= relative * abs(wanted) or zero_point(t) != zero_point(results[0]):
                text = (
                    f"scale and zero point are {given:.9g} and {zero_point(t)} where the result has {wanted:.9g} and "
                )
                text += f"{zero_point(results[0])}; give both the same, or requantize by QUANTIZE"
                report("unequal-scales", t, text)

    def _ratio(self, node: Node, most: int, report: Report) -> None:
        given, result = scale(node.input(0)), scale(node.output())
        if given is not None and result is not None and not given / (most * result) < 1:
            text = f"the scale of the operand is {most} times that of the result or more; widen the result's"
            report("scale-ratio", node.output(), text)

    # -- layers with a state -------------------------------------------------------------------------------

    def _recurrent(self, node: Node, rule: Rules, report: Report) -> None:
        first = node.input(0)
        if first is None or first.dtype in FLOATS:
            return
        for t in (*map(node.input, rule["activations"]), *node.outputs):
            if t is not None:
                if t.dtype != "INT8":
                    report("dtype", t, f"it is {t.dtype.lower()} where int8 is due")
                self._per_tensor(t, report)
        for at in rule["weights"]:
            t = node.input(at)
            if t is not None:
                self._weight(t, "INT8", axis=-1, report=report)
        for at in rule["int16"]:
            t = node.input(at)
            if t is not None and t.dtype != "INT16":
                report("dtype", t, f"it is {t.dtype.lower()} where int16 is due")
        for at, weight in rule["biases"].items():
            bias, weights = node.input(int(at)), node.input(weight)
            if bias is not None and weights is not None:
                self._bias(bias, first, weights, report)
        self._state(node, rule["state"], report)

    def _state(self, node: Node, rule: Rules, report: Report) -> None:
        state, cell, results = node.input(rule["same_as_output"]), node.input(rule["power_of_two"]), list(node.outputs)
        if state is not None:
            self._same_scale([state], results, exact=False, report=report)
        if cell is not None and (given := scale(cell)) is not None and np.frexp(given)[0] != 0.5:
            report("cell-scale", cell, f"the scale {given:.6g} of the cell state has to be a power of two")

"""Operators of floats in the forms that kernels of integers and NNAPI take: before parameters are inferred.

A square and a negation are products. Where numbers have 16 bits, what has a kernel of 8 only is written in several of
16: HARD_SWISH and PRELU. RSQRT interpolates between 256 places there, which is far off near 0: where its operand spans
more than a factor of 16, the lower part gets as many places of its own. A dense layer is a convolution of 1x1, whose
weights NNAPI takes with a scale for each channel, which it does not of FULLY_CONNECTED. What splits more than four axes
does it on three.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from math import prod, sqrt

import numpy as np

from compiler.quantize import represented, symmetric
from compiler.tensor import I16, Array
from targets.tflite import opset
from targets.tflite.model import Constant, Model, Operator, Options, Tensor
from targets.tflite.opset import ACTIVATION, RELU6, VALID

FLOAT = "FLOAT32"
MOST_AXES = 4
SPAN = 16.0
ACTIVATIONS = {opset.RELU: "RELU", RELU6: "RELU6", opset.RELU_N1_TO_1: "RELU_N1_TO_1"}
POINT: Options = {"Padding": VALID, "StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}


def reform(model: Model) -> None:
    """Rewrite the operators of a model of floats; what nobody reads any more is dropped."""
    forms = _Forms({id(t) for _, t in model.outputs})
    for o in model.operators:
        forms.take(o)
    model.operators = forms.operators
    model.drop_unread()


class _Forms:
    """The operators so far, and of what each tensor is only another shape."""

    def __init__(self, outputs: Container[int]) -> None:
        self.operators: list[Operator] = []
        self._outputs = outputs  # ids of the tensors that the model gives
        self._roots: dict[int, Tensor] = {}
        self._twins: dict[int, Tensor] = {}  # tensors that are another one, under the same shape
        self._kernels: dict[int, Tensor] = {}  # of dense layers, by ids of their weights
        self._biases: dict[int, Tensor] = {}  # of dense layers, by ids of their weights
        self._shapes: dict[tuple[int, ...], Tensor] = {}

    def take(self, o: Operator) -> None:
        """Add an operator, or what stands for it."""
        o = o._replace(inputs=tuple(None if t is None else self._twins.get(id(t), t) for t in o.inputs))
        x = o.inputs[0] if o.inputs else None
        if o.code == "RESHAPE" and x is not None:
            self._reshape(o)
        elif o.code in ("SQUARE", "NEG") and x is not None and x.dtype == FLOAT:
            self._add("MUL", [x, x if o.code == "SQUARE" else _number(-1.0)], o.outputs)
        elif o.code == "FULLY_CONNECTED" and x is not None and _is_constant(o.inputs[1]):
            self._dense(o, x)
        elif o.code in ("HARD_SWISH", "PRELU", "RSQRT") and x is not None and is_wide(x) and is_wide(o.outputs[0]):
            self._wide(o, x)
        elif o.code == "TRANSPOSE_CONV" and o.options.get(ACTIVATION):
            self._apart(o)
        elif o.code in ("SPLIT", "SPLIT_V") and len(o.outputs[0].shape) > MOST_AXES:
            self._split(o)
        elif o.code == "CONCATENATION" and len(o.outputs[0].shape) > MOST_AXES:
            self._concatenation(o)
        elif o.code == "STRIDED_SLICE" and len(o.outputs[0].shape) > MOST_AXES and self._sliced(o):
            return
        else:
            self.operators.append(o)

    def _add(
        self, code: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], options: Options | None = None
    ) -> None:
        version = opset.version(code, inputs, outputs, options or {})
        self.operators.append(Operator(code, tuple(inputs), tuple(outputs), options or {}, version))

    def _reshape(self, o: Operator) -> None:
        """From the first tensor of a chain of reshapes, whose parameters are those of any of them."""
        x, y = o.inputs[0], o.outputs[0]
        assert x is not None
        root = self._roots[id(y)] = self._roots.get(id(x), x)
        if root.constant is None and not root.real:
            root.quant = root.quant or y.quant
        if (
            root.shape == y.shape
            and y.quant in (None, root.quant)
            and root.real == y.real
            and id(y) not in self._outputs
        ):
            self._twins[id(y)] = root
        else:
            self.operators.append(o._replace(inputs=(root, *o.inputs[1:])))

    def _reshaped(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        root = self._roots.get(id(x), x)
        if root.shape == shape:
            return root
        y = Tensor(x.name, x.dtype, shape)
        y.quant, y.real = x.quant, x.real
        self._roots[id(y)] = root
        self._add("RESHAPE", [root, self._shape(shape)], [y], {"NewShape": shape})
        return y

    def _back(self, y: Tensor, result: Tensor) -> None:
        """`result` as another shape of `y`."""
        y.quant, y.real = result.quant, result.real
        self._roots[id(result)] = y
        self._add("RESHAPE", [y, self._shape(result.shape)], [result], {"NewShape": result.shape})

    def _dense(self, o: Operator, x: Tensor) -> None:
        """One row of the image for each row of the operand."""
        _, w, *bias = o.inputs
        assert w is not None
        count, width = w.shape
        b = bias[0] if bias and bias[0] is not None else self._no_bias(w)
        rows = prod(x.shape) // width
        y = Tensor(o.outputs[0].name, FLOAT, (1, rows, 1, count))
        options = {**POINT, ACTIVATION: o.options.get(ACTIVATION, 0)}
        self._add("CONV_2D", [self._reshaped(x, (1, rows, 1, width)), self._kernel(w), b], [y], options)
        self._back(y, o.outputs[0])

    def _no_bias(self, w: Tensor) -> Tensor:
        """Zeros for a dense layer without a bias; one tensor for all layers that share its weight."""
        if id(w) not in self._biases:
            self._biases[id(w)] = _zeros(w.shape[0])
        return self._biases[id(w)]

    def _kernel(self, w: Tensor) -> Tensor:
        """The weight of a dense layer as that of a convolution; one for all layers that share it."""
        kernel = self._kernels.get(id(w))
        if kernel is None:
            count, width = w.shape
            kernel = self._kernels[id(w)] = Tensor(w.name, w.dtype, (count, 1, 1, width), w.constant)
            kernel.quant = w.quant if w.quant is None or w.quant.axis == 0 else None
        return kernel

    def _shape(self, shape: tuple[int, ...]) -> Tensor:
        found = self._shapes.get(shape)
        if found is None:
            found = self._shapes[shape] = _ints(shape)
        return found

    def _apart(self, o: Operator) -> None:
        """An activation behind its operator: NNAPI does not know the version that has it inside."""
        y = Tensor(o.outputs[0].name, FLOAT, o.outputs[0].shape)
        y.quant = o.outputs[0].quant
        self._add(o.code, o.inputs, [y], {**o.options, ACTIVATION: 0})
        self._add(ACTIVATIONS[o.options[ACTIVATION]], [y], o.outputs)

    def _wide(self, o: Operator, x: Tensor) -> None:
        """x min(max(x + 3, 0), 6) / 6; max(x, 0) + a min(x, 0); for roots f(min(x, c)) + f(max(x, c)) - f(c)."""
        first, second, third, fourth = (Tensor(o.outputs[0].name, FLOAT, x.shape) for _ in range(4))
        if o.code == "HARD_SWISH":
            self._add("ADD", [x, _number(3.0)], [first], {ACTIVATION: RELU6})
            self._add("MUL", [first, _number(1 / 6)], [second])
            self._add("MUL", [x, second], o.outputs)
        elif o.code == "PRELU":
            self._add("MINIMUM", [x, _number(0.0)], [first])
            self._add("MUL", [first, o.inputs[1]], [second])
            self._add("MAXIMUM", [x, _number(0.0)], [third])
            self._add("ADD", [second, third], o.outputs)
        elif (c := _cut(x, o.outputs[0])) is None:
            self.operators.append(o)
        else:
            first.quant, third.quant = (symmetric([peak], None, I16) for peak in (c, c**-0.5))
            second.quant = o.outputs[0].quant
            self._add("MINIMUM", [x, _number(c)], [first])
            self._add("RSQRT", [first], [second])
            self._add("MAXIMUM", [x, _number(c)], [fourth])
            self._add("RSQRT", [fourth], [third])
            shifted = Tensor(o.outputs[0].name, FLOAT, x.shape)
            self._add("SUB", [third, _number(c**-0.5)], [shifted])
            self._add("ADD", [second, shifted], o.outputs)

    def _split(self, o: Operator) -> None:
        """Along the middle one of three axes."""
        place = 0 if o.code == "SPLIT" else 2
        x, number = o.inputs[1 - place // 2], o.inputs[place]
        assert x is not None and number is not None and number.constant is not None
        axis = int(number.constant.stored().item())
        before, after = prod(x.shape[:axis]), prod(x.shape[axis + 1 :])
        flat = self._reshaped(x, (before, x.shape[axis], after))
        parts = [Tensor(t.name, t.dtype, (before, t.shape[axis], after)) for t in o.outputs]
        middle = _ints(1)
        inputs = [middle, flat] if o.code == "SPLIT" else [flat, o.inputs[1], middle]
        self._add(o.code, inputs, parts, o.options)
        for part, result in zip(parts, o.outputs, strict=True):
            self._back(part, result)

    def _sliced(self, o: Operator) -> bool:
        """What cuts one axis alone, without masks, cuts the middle one of three; False for other slices."""
        x, result = o.inputs[0], o.outputs[0]
        bounds = [t.constant.stored() for t in o.inputs[1:] if t is not None and t.constant is not None]
        cut = [i for i, d in enumerate(result.shape) if x is not None and d != x.shape[i]]
        if x is None or len(bounds) != 3 or len(cut) != 1 or any(o.options.values()) or (bounds[2] < 1).any():
            return False
        (axis,) = cut
        before, after = prod(x.shape[:axis]), prod(x.shape[axis + 1 :])
        begin, end, step = (int(b[axis]) for b in bounds)
        y = Tensor(result.name, result.dtype, (before, result.shape[axis], after))
        inputs = [self._reshaped(x, (before, x.shape[axis], after))]
        inputs += [_ints(b) for b in ((0, begin, 0), (before, end, after), (1, step, 1))]
        self._add(o.code, inputs, [y], o.options)
        self._back(y, result)
        return True

    def _concatenation(self, o: Operator) -> None:
        """Along the middle one of three axes."""
        result, axis = o.outputs[0], o.options["Axis"]
        before, after = prod(result.shape[:axis]), prod(result.shape[axis + 1 :])
        flat = [self._reshaped(t, (before, t.shape[axis], after)) for t in o.inputs if t is not None]
        y = Tensor(result.name, result.dtype, (before, result.shape[axis], after))
        self._add(o.code, flat, [y], {**o.options, "Axis": 1})
        self._back(y, result)


def _is_constant(t: Tensor | None) -> bool:
    return t is not None and t.constant is not None and t.dtype == FLOAT


def _ints(values: int | Sequence[int]) -> Tensor:
    data: Array = np.array(values, np.int32)
    return Tensor("const", "INT32", data.shape, Constant(data, None, data.dtype))


def _number(value: float) -> Tensor:
    data = np.array(value, np.float32)
    return Tensor("number", FLOAT, (), Constant(data, None, data.dtype))


def _cut(x: Tensor, y: Tensor) -> float | None:
    """Where the operand of an inverse root is cut in two: the relative steps of both parts are alike. None if it is
    better left whole."""
    assert x.quant is not None and y.quant is not None
    low, high = represented(y.quant)[1] ** -2, represented(x.quant)[1]
    return sqrt(low * high) if high > SPAN * low else None


def is_wide(t: Tensor | None) -> bool:
    """Whether a tensor is to be stored in 16 bits."""
    return t is not None and t.quant is not None and t.quant.dtype is I16


def _zeros(count: int) -> Tensor:
    data = np.zeros(count, np.float32)
    return Tensor("zeros", FLOAT, data.shape, Constant(data, None, data.dtype))

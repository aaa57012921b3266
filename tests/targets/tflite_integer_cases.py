"""Random one-operator files for the integer evaluator: a builder for each family of operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from compiler.tensor import Array
from tests.targets.tflite_integer_harness import Spec, Step, constant, ints, step

ACTIVATIONS = (0, 1, 2, 3)


class Draw:
    """Shapes, scales, zero points and data of one example."""

    def __init__(self, data: st.DataObject) -> None:
        self._draw = data.draw

    def count(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def of(self, *choices: Any) -> Any:  # Any: whatever the choices are
        return self._draw(st.sampled_from(choices))

    def real(self, low: float, high: float) -> float:
        return self._draw(st.floats(np.float32(low).item(), np.float32(high).item(), width=32))

    def scale(self, low: float = 2.0**-12, high: float = 1.0) -> float:
        return self.real(low, high)

    def zero(self) -> int:
        return self.count(-128, 127)

    def shape(self, rank: int, most: int = 6) -> tuple[int, ...]:
        return tuple(self.count(1, most) for _ in range(rank))

    def tensor(self, *shape: int, dtype: str = "int8") -> Spec:
        return Spec(shape, dtype, self.scale(), self.zero())

    def weights(self, *shape: int) -> Array:
        return np.random.default_rng(self.count(0, 2**32)).integers(-127, 128, shape).astype(np.int8)

    def bias(self, count: int, source: float, scales: Sequence[float]) -> Spec:
        values = np.random.default_rng(self.count(0, 2**32)).integers(-20000, 20000, count).astype(np.int32)
        return constant(values, [source * s for s in scales])


def convolution(d: Draw, code: str) -> Step:
    groups = 1 if code == "DEPTHWISE_CONV_2D" else d.of(1, 1, 2, 3)
    h, w, lanes, parts = (d.count(1, n) for n in (9, 9, 4, 4))
    kernel, strides, same = d.shape(2, 3), d.shape(2, 2), d.of(True, False)
    dilations = d.shape(2, 2) if strides == (1, 1) else (1, 1)
    spans = [(k - 1) * r + 1 for k, r in zip(kernel, dilations, strict=True)]
    sizes = max(h, spans[0]), max(w, spans[1])
    axes = list(zip(sizes, spans, strides, strict=True))
    out = [-(-n // s) if same else (n - e) // s + 1 for n, e, s in axes]
    channels, results = groups * lanes, groups * parts
    shape, axis, more = (results, *kernel, lanes), 0, {}
    if code == "DEPTHWISE_CONV_2D":
        results = channels * parts
        shape, axis, more = (1, *kernel, results), 3, {"depthMultiplier": parts}
    x = Spec((d.count(1, 2), *sizes, channels), "int8", d.scale(), d.zero())
    scales = [d.scale() for _ in range(d.of(1, results))]
    y = Spec((x.shape[0], *out, results), "int8", d.scale(0.02, 4), d.zero())
    inputs = [x, constant(d.weights(*shape), scales, 0, axis), d.bias(results, x.unit, scales)]
    options = {
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "padding": 0 if same else 1,
        "fusedActivationFunction": d.of(*ACTIVATIONS),
    }
    return step(code, inputs, [y], 3, **options, **more)


def transposed(d: Draw, code: str) -> Step:
    h, w, channels, results = d.shape(4, 5)
    kernel, strides, same = d.shape(2, 4), d.shape(2, 3), d.of(True, False)
    axes = list(zip((h, w), kernel, strides, strict=True))
    out = [n * s - d.count(0, s - 1) if same else (n - 1) * s + k for n, k, s in axes]
    x = d.tensor(1, h, w, channels)
    scales = [d.scale() for _ in range(results)]
    inputs = [ints(1, *out, results), constant(d.weights(results, *kernel, channels), scales), x]
    if d.of(True, False):
        inputs.append(d.bias(results, x.unit, scales))
    y = Spec((1, *out, results), "int8", d.scale(0.02, 4), d.zero())
    return step(code, inputs, [y], len(inputs) - 1, strideH=strides[0], strideW=strides[1], padding=0 if same else 1)


def dense(d: Draw, code: str) -> Step:
    rows, columns, results = d.shape(3, 9)
    x = d.tensor(rows, columns)
    scales = [d.scale() for _ in range(d.of(1, results))]
    bias = d.of(None, d.bias(results, x.unit, scales))
    y = Spec((rows, results), "int8", d.scale(0.02, 4), d.zero())
    inputs = [x, constant(d.weights(results, columns), scales), bias]
    return step(code, inputs, [y], 4, fusedActivationFunction=d.of(*ACTIVATIONS))


def matrices(d: Draw, code: str) -> Step:
    n, rows, inner, columns = d.shape(4, 7)
    adjoint_x, adjoint_y = d.of(True, False), d.of(True, False)
    x = d.tensor(n, inner, rows) if adjoint_x else d.tensor(n, rows, inner)
    y = d.tensor(n, columns, inner) if adjoint_y else d.tensor(n, inner, columns)
    result = Spec((n, rows, columns), "int8", d.scale(0.02, 4), d.zero())
    return step(code, [x, y], [result], 2, adjX=adjoint_x, adjY=adjoint_y)


def binary(d: Draw, code: str) -> Step:
    """With a result scale that the kernel accepts, where it states a bound."""
    shape = d.shape(4)
    other = tuple(n if d.of(True, True, False) else 1 for n in shape)
    x, y = d.tensor(*shape), d.tensor(*other)
    scale, zero = d.scale(), d.zero()
    larger = max(x.unit, y.unit)
    if code in ("MAXIMUM", "MINIMUM"):
        y = Spec(other, "int8", x.scale, x.zero_point)
        scale, zero = x.unit, x.zero_point
    if code == "SQUARED_DIFFERENCE":
        scale = max(scale, (2 * larger) ** 2 / 2**13)
    if code in ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"):
        x, y = (t._replace(scale=min(t.unit, 0.99)) for t in (x, y))
        return step(code, [x, y], [Spec(shape, "bool")], 2)
    options = {"fusedActivationFunction": d.of(*ACTIVATIONS)} if code in ("ADD", "SUB", "MUL") else {}
    return step(code, d.of([x, y], [y, x]), [Spec(shape, "int8", scale, zero)], 2, **options)


FIXED = {
    "SOFTMAX": (1 / 256, -128),
    "LOG_SOFTMAX": (1 / 16, 127),
    "LOGISTIC": (1 / 256, -128),
    "TANH": (1 / 128, 0),
    "L2_NORMALIZATION": (1 / 128, 0),
}


def unary(d: Draw, code: str) -> Step:
    shape = d.shape(4, 9) if code in ("SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION") else (2, 300)
    scale, zero = d.scale(), d.zero()
    result, result_zero = FIXED.get(code, (d.scale(), d.zero()))
    options: dict[str, Any] = {}
    if code == "SOFTMAX":
        options["beta"] = d.of(1.0, 0.5)
    if code == "LEAKY_RELU":
        options["alpha"] = d.real(0, 1)
    if code == "GELU":
        options["approximate"] = d.of(True, False)
    if code == "HARD_SWISH":
        result = max(result, scale / 100)
    if code in ("SQRT", "RSQRT"):
        zero = -128
    if code == "NEG":
        zero, result, result_zero = 0, scale, 0
    version = 1 if code in ("RELU_N1_TO_1", "RELU_0_TO_1", "HARD_SWISH", "NEG") else 2
    return step(
        code, [Spec(shape, "int8", scale, zero)], [Spec(shape, "int8", result, result_zero)], version, **options
    )


def slopes(d: Draw, code: str) -> Step:
    shape = d.shape(4)
    slope = constant(d.weights(1, 1, shape[3]), d.scale(), d.zero())
    return step(code, [d.tensor(*shape), slope], [d.tensor(*shape)])


def pool(d: Draw, code: str) -> Step:
    kernel, strides, same = d.shape(2, 3), d.shape(2, 2), d.of(True, False)
    h, w, channels = d.count(3, 8), d.count(3, 8), d.count(1, 5)
    axes = list(zip((h, w), kernel, strides, strict=True))
    out = [-(-n // s) if same else (n - k) // s + 1 for n, k, s in axes]
    x = d.tensor(1, h, w, channels)
    options = {
        "filterHeight": kernel[0],
        "filterWidth": kernel[1],
        "strideH": strides[0],
        "strideW": strides[1],
        "padding": 0 if same else 1,
        "fusedActivationFunction": d.of(*ACTIVATIONS),
    }
    return step(code, [x], [x._replace(shape=(1, *out, channels))], 2, **options)


def reduction(d: Draw, code: str) -> Step:
    """SUM with elements that are the same as unsigned ones, and results below 128, see `LEAST`."""
    shape, keep = d.shape(d.count(2, 4), 7), d.of(True, False)
    axes = [a for a in range(len(shape)) if d.of(True, False)] or [d.count(0, len(shape) - 1)]
    x = d.tensor(*shape)
    scale, zero = d.of((x.scale, x.zero_point), (d.scale(), d.zero()))
    if code.startswith("REDUCE"):
        scale, zero = x.scale, x.zero_point
    if code == "SUM":
        count = int(np.prod([shape[a] for a in axes]))
        x = x._replace(zero_point=d.count(-128, 0))
        scale, zero = x.unit * count * 2.6, d.count(0, 20)
    kept = [1 if a in axes else n for a, n in enumerate(shape)]
    out = kept if keep else [n for a, n in enumerate(shape) if a not in axes]
    return step(code, [x, ints(*axes)], [Spec(tuple(out), "int8", scale, zero)], 2, keepDims=keep)


def border(d: Draw, code: str) -> Step:
    shape = d.shape(3)
    if code == "DEQUANTIZE":
        return step(code, [d.tensor(*shape)], [Spec(shape, "float32")], 2)
    source, result = d.of(("float32", "int8"), ("int8", "int8"), ("uint8", "int8"), ("int8", "uint8"))
    x, y = (
        Spec(shape, t, d.scale(), d.zero() + (128 if t == "uint8" else 0)) if t != "float32" else Spec(shape, t)
        for t in (source, result)
    )
    return step(code, [x], [y], 2)


def resize(d: Draw, code: str) -> Step:
    h, w, channels, rows, columns = d.shape(5, 9)
    x = d.tensor(1, h, w, channels)
    align, half = d.of((False, False), (True, False), (False, True))
    inputs = [x, ints(rows, columns)]
    return step(
        code, inputs, [x._replace(shape=(1, rows, columns, channels))], 3, alignCorners=align, halfPixelCenters=half
    )


CASES: dict[str, Callable[[Draw, str], Step]] = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), convolution),
    "TRANSPOSE_CONV": transposed,
    "FULLY_CONNECTED": dense,
    "BATCH_MATMUL": matrices,
    **dict.fromkeys(("ADD", "SUB", "MUL", "SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM"), binary),
    **dict.fromkeys(("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"), binary),
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "HARD_SWISH", "GELU"), unary),
    **dict.fromkeys(("SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "TANH", "L2_NORMALIZATION"), unary),
    **dict.fromkeys(("ABS", "NEG", "EXP", "LOG", "SQRT", "RSQRT"), unary),
    "PRELU": slopes,
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), pool),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), reduction),
    **dict.fromkeys(("QUANTIZE", "DEQUANTIZE"), border),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), resize),
}
LEAST = {"SUM": 0}  # of the elements; LiteRT 2.3 reads those of SUM as unsigned

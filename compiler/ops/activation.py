"""Activation functions, simple and composed, as single layers."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, pi, sqrt

import numpy as np

from compiler.op import Emitter, OnnxNode, Op, broadcast, expect, op
from compiler.ops.elementwise import Sample, Unary, erf_of, scalar_like
from compiler.ops.numeric import widen
from compiler.tensor import Array, TensorType


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


class Activation(Unary):
    """A function of one float operand, perhaps with parameters; `compute` is its formula on arrays."""

    def compute(self, x: Array) -> Array:
        raise NotImplementedError

    def evaluate(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.compute(widen(x))).astype(x.dtype, copy=False)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        if x.dtype.kind not in cls.kinds:
            return None
        numbers = {name: default for name, default in cls.fields.items() if isinstance(default, float)}
        return cls(**{name: float(rng.choice([default, 0.25, 1.0, 2.0])) for name, default in numbers.items()}), ()


@op("relu", onnx="Relu", since=6)
class Relu(Activation):
    """max(x, 0)."""

    kinds = "fi"

    def compute(self, x: Array) -> Array:
        return np.maximum(x, 0)


@op("sigmoid", onnx="Sigmoid", since=6)
class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    def compute(self, x: Array) -> Array:
        return _sigmoid(x)


@op("softplus", onnx="Softplus")
class Softplus(Activation):
    """log(1 + exp(x))."""

    def compute(self, x: Array) -> Array:
        return np.logaddexp(x, 0)


@op("softsign", onnx="Softsign")
class Softsign(Activation):
    """x / (1 + |x|)."""

    def compute(self, x: Array) -> Array:
        return x / (1 + np.abs(x))


@op("clip", onnx="Clip")
class Clip(Activation):
    """min(max(x, low), high); with low > high every element becomes `high` (ONNX Clip-13). NaN stays."""

    kinds = "fiu"
    low: float = -inf
    high: float = inf

    def compute(self, x: Array) -> Array:
        if x.dtype.kind == "f":
            return np.minimum(np.maximum(x, x.dtype.type(self.low)), x.dtype.type(self.high))
        info = np.iinfo(x.dtype)
        low, high = int(max(self.low, info.min)), int(min(self.high, info.max))
        return np.minimum(np.maximum(x, low), high)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Clip:
        return cls(low=node.scalar("min", 1, -inf), high=node.scalar("max", 2, inf))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        x = e.types[0]
        assert x is not None
        low = e.const(scalar_like(self.low, x)) if self.low > -inf else None
        high = e.const(scalar_like(self.high, x)) if self.high < inf else None
        return e.node("Clip", *inputs, low, high)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        low, high = (float(v) for v in rng.choice([-inf, -2.0, 0.0, 1.0, 6.0, inf], 2))
        return (cls(low=low, high=high), ()) if x.dtype.is_float else None


@op("leaky_relu", onnx="LeakyRelu", since=6)
class LeakyRelu(Activation):
    """x where x >= 0, else alpha * x."""

    alpha: float = 0.009999999776482582  # 0.01 as ONNX stores it

    def compute(self, x: Array) -> Array:
        return np.where(x >= 0, x, x * x.dtype.type(self.alpha))


@op("elu", onnx="Elu", since=6)
class Elu(Activation):
    """x where x >= 0, else alpha * (exp(x) - 1)."""

    alpha: float = 1.0

    def compute(self, x: Array) -> Array:
        return np.where(x >= 0, x, x.dtype.type(self.alpha) * np.expm1(np.minimum(x, 0)))


@op("selu", onnx="Selu", since=6)
class Selu(Activation):
    """gamma * (x where x > 0, else alpha * (exp(x) - 1))."""

    alpha: float = 1.67326319217681884765625
    gamma: float = 1.05070102214813232421875

    def compute(self, x: Array) -> Array:
        alpha, gamma = x.dtype.type(self.alpha), x.dtype.type(self.gamma)
        return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


@op("celu", onnx="Celu", since=12)
class Celu(Activation):
    """max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))."""

    alpha: float = 1.0

    def compute(self, x: Array) -> Array:
        alpha = x.dtype.type(self.alpha)
        return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha))


@op("thresholded_relu", onnx="ThresholdedRelu", since=10)
class ThresholdedRelu(Activation):
    """x where x > alpha, else 0."""

    alpha: float = 1.0

    def compute(self, x: Array) -> Array:
        return np.where(x > self.alpha, x, 0)


@op("hard_sigmoid", onnx="HardSigmoid", since=6)
class HardSigmoid(Activation):
    """min(max(alpha * x + beta, 0), 1)."""

    alpha: float = 0.20000000298023224
    beta: float = 0.5

    def compute(self, x: Array) -> Array:
        return np.clip(x * x.dtype.type(self.alpha) + x.dtype.type(self.beta), 0, 1)


@op("hard_swish", onnx="HardSwish", since=14)
class HardSwish(Activation):
    """x * min(max(x / 6 + 0.5, 0), 1)."""

    def compute(self, x: Array) -> Array:
        return x * np.clip(x * x.dtype.type(1 / 6) + x.dtype.type(0.5), 0, 1)

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        if e.opset >= 14:
            return e.node("HardSwish", *inputs)
        return e.node("Mul", *inputs, e.node("HardSigmoid", *inputs, alpha=1 / 6, beta=0.5)[0])


@op("mish", onnx="Mish", since=18)
class Mish(Activation):
    """x * tanh(log(1 + exp(x)))."""

    def compute(self, x: Array) -> Array:
        return x * np.tanh(np.logaddexp(x, 0))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        if e.opset >= 18:
            return e.node("Mish", *inputs)
        return e.node("Mul", *inputs, e.node("Tanh", e.node("Softplus", *inputs)[0])[0])


@op("silu", onnx="Swish", since=24)
class Silu(Activation):
    """x * sigmoid(alpha * x)."""

    alpha: float = 1.0

    def compute(self, x: Array) -> Array:
        return x * _sigmoid(x * x.dtype.type(self.alpha))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        if e.opset >= 24:
            return e.node("Swish", *inputs, alpha=self.alpha)
        x = e.types[0]
        assert x is not None
        scaled = inputs if self.alpha == 1.0 else e.node("Mul", *inputs, e.const(scalar_like(self.alpha, x)))
        return e.node("Mul", *inputs, e.node("Sigmoid", *scaled)[0])


@op("gelu", onnx="Gelu", since=20)
class Gelu(Activation):
    """x * Phi(x) (approximate "none"), or its tanh form (approximate "tanh"); Hendrycks & Gimpel, arXiv:1606.08415."""

    approximate: str = "none"

    def compute(self, x: Array) -> Array:
        if self.approximate == "tanh":
            wide = x.astype(np.float64)
            return 0.5 * wide * (1 + np.tanh(sqrt(2 / pi) * (wide + 0.044715 * wide**3)))
        return x * (0.5 * (1 + erf_of(x / sqrt(2))))

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        if e.opset >= 20:
            return e.node("Gelu", *inputs, approximate=self.approximate)
        x = e.types[0]
        assert x is not None
        (name,) = inputs
        if self.approximate == "tanh":
            cube = e.node("Mul", e.node("Mul", name, name)[0], name)[0]
            inner = e.node("Add", name, e.node("Mul", cube, e.const(scalar_like(0.044715, x)))[0])[0]
            gate = e.node("Tanh", e.node("Mul", inner, e.const(scalar_like(sqrt(2 / pi), x)))[0])[0]
        else:
            gate = e.node("Erf", e.node("Div", name, e.const(scalar_like(sqrt(2), x)))[0])[0]
        half = e.node("Mul", name, e.const(scalar_like(0.5, x)))[0]
        return e.node("Mul", half, e.node("Add", gate, e.const(scalar_like(1, x)))[0])

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return (cls(approximate=str(rng.choice(["none", "tanh"]))), ()) if x.dtype.is_float else None


@op("shrink", onnx="Shrink", since=9)
class Shrink(Activation):
    """x + bias where x < -lambd, x - bias where x > lambd, else 0."""

    kinds = "fiu"
    bias: float = 0.0
    lambd: float = 0.5

    def compute(self, x: Array) -> Array:
        return np.where(x < -self.lambd, x + self.bias, np.where(x > self.lambd, x - self.bias, 0))


@op("prelu", onnx="PRelu", since=9)
class PRelu(Op):
    """x where x >= 0, else slope * x; the slope broadcasts to x."""

    elementwise = True

    def infer(self, x: TensorType, slope: TensorType) -> TensorType:
        expect(x.dtype is slope.dtype, f"operands differ in element type: {x.dtype} and {slope.dtype}")
        expect(broadcast(x.shape, slope.shape) == x.shape, f"slope {slope} does not broadcast to {x}")
        return x

    def evaluate(self, x: Array, slope: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.where(x >= 0, x, widen(x) * widen(slope)).astype(x.dtype)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        return (cls(), (x.with_shape(tuple(1 for _ in x.shape)),)) if x.dtype.is_float else None

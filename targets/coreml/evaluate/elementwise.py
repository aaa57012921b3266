"""Elementwise unary, binary, comparison and logical operations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from targets.coreml.evaluate.registry import FUNCTIONS, Tensor, mil
from targets.coreml.evaluate.special import erf

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "erf": erf,
    "exp": np.exp,
    "exp2": np.exp2,
    "floor": np.floor,
    "logical_not": np.logical_not,
    "round": np.rint,
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": np.add,
    "equal": np.equal,
    "floor_div": np.floor_divide,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,
    "mul": np.multiply,
    "not_equal": np.not_equal,
    "pow": np.power,
    "real_div": np.divide,
    "sub": np.subtract,
}


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def evaluate(x: Tensor) -> Tensor:
        return function(x)

    return evaluate


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def evaluate(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    return evaluate


FUNCTIONS.update({name: _unary(function) for name, function in _UNARY.items()})
FUNCTIONS.update({name: _binary(function) for name, function in _BINARY.items()})


@mil("inverse")
def inverse(x: Tensor, epsilon: float) -> Tensor:
    """1 / (x + epsilon)."""
    return 1 / (x + epsilon)


@mil("log")
def log(x: Tensor, epsilon: float) -> Tensor:
    """The logarithm of x + epsilon."""
    return np.log(x + epsilon)


@mil("rsqrt")
def rsqrt(x: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return 1 / np.sqrt(x + epsilon)


@mil("threshold")
def threshold(x: Tensor, alpha: float) -> Tensor:
    """max(x, alpha)."""
    return np.maximum(x, alpha)


@mil("clip")
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Elementwise min(max(x, alpha), beta)."""
    return np.minimum(np.maximum(x, alpha), beta)


@mil("cast")
def cast(x: Tensor, dtype: str) -> Tensor:
    """The operand; the conversion to the declared type follows."""
    return x


@mil("select", moves=True)
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """`a` where `cond`, else `b`."""
    return np.where(cond, a, b)

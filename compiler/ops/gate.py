"""Activations of the gates of recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from compiler.tensor import Array


class GateFunction(NamedTuple):
    """An activation of a gate: its formula of x, alpha and beta, and the defaults of those that it has."""

    formula: Callable[[Array, float, float], Array]
    alpha: float | None = None
    beta: float | None = None


def _sigmoid(x: Array, *_: float) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


GATE_FUNCTIONS = {
    "Sigmoid": GateFunction(_sigmoid),
    "Tanh": GateFunction(lambda x, *_: np.tanh(x)),
    "Relu": GateFunction(lambda x, *_: np.maximum(x, 0)),
    "Softsign": GateFunction(lambda x, *_: x / (1 + np.abs(x))),
    "Softplus": GateFunction(lambda x, *_: np.logaddexp(x, 0)),
    "Affine": GateFunction(lambda x, a, b: x * a + b, 1.0, 0.0),
    "LeakyRelu": GateFunction(lambda x, a, _: np.where(x >= 0, x, x * a), 0.01),
    "ThresholdedRelu": GateFunction(lambda x, a, _: np.where(x >= a, x, 0), 1.0),
    "ScaledTanh": GateFunction(lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "HardSigmoid": GateFunction(lambda x, a, b: np.clip(x * a + b, 0, 1), 0.2, 0.5),
    "Elu": GateFunction(lambda x, a, _: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))), 1.0),
}


def parameters_of(functions: Sequence[str], name: str, given: Sequence[float]) -> tuple[float, ...]:
    """The alpha or beta of each activation: from `given`, which has only those that are used, then the defaults."""
    rest = list(given)
    defaults = [getattr(GATE_FUNCTIONS[f], name) for f in functions]
    values = [0.0 if v is None else float(rest.pop(0)) if rest else v for v in defaults]
    return tuple(values) if any(v is not None for v in defaults) else ()


BY_LOWER_NAME = {name.lower(): name for name in GATE_FUNCTIONS}

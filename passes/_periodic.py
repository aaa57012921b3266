"""The sine by a polynomial, and other functions by those that accelerators have.

The coefficients are the minimax fit of sin(r) / r by an even polynomial on [-pi/2, pi/2] (weighed by r); `BOUNDS` are
the largest absolute errors, which tests measure anew: of the sine in real arithmetic, of the others in 16-bit floats.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi

from compiler import ops
from compiler.graph import Value
from compiler.op import Op
from passes._decompose import Layers

SINE = (0.9999966159, -0.1666482838, 0.0083063252, -0.00018363654)
HIGH, LOW = 3.140625, pi - 3.140625  # pi in two parts, so that small multiples of the first are exact in 16 bits
BOUNDS = {"sin": 6e-7, "sin_half": 0.0021, "composed": 0.0028}


def sine(add: Layers, x: Value) -> Value:
    """(-1)^n sin(x - n pi), n the nearest whole number to x / pi."""
    n = add(ops.Round(), add(ops.Mul(), x, 1 / pi))
    r = add(ops.Sub(), add(ops.Sub(), x, add(ops.Mul(), n, HIGH)), add(ops.Mul(), n, LOW))
    odd = add(ops.Sub(), n, add(ops.Mul(), add(ops.Floor(), add(ops.Mul(), n, 0.5)), 2.0))
    sign = add(ops.Sub(), 1.0, add(ops.Mul(), odd, 2.0))
    square = add(ops.Mul(), r, r)
    total = add(ops.Add(), add(ops.Mul(), square, SINE[3]), SINE[2])
    for c in (SINE[1], SINE[0]):
        total = add(ops.Add(), add(ops.Mul(), square, total), c)
    return add(ops.Mul(), add(ops.Mul(), r, total), sign)


def _tan(add: Layers, x: Value) -> Value:
    return add(ops.Div(), add(ops.Sin(), x), add(ops.Cos(), x))


def _asin(add: Layers, x: Value) -> Value:
    """2 atan(x / (1 + sqrt(1 - x^2))), of which nothing is infinite."""
    square = add(ops.Mul(), add(ops.Sub(), 1.0, x), add(ops.Add(), x, 1.0))
    slope = add(ops.Div(), x, add(ops.Add(), add(ops.Sqrt(), square), 1.0))
    return add(ops.Mul(), add(ops.Atan(), slope), 2.0)


def _acos(add: Layers, x: Value) -> Value:
    return add(ops.Sub(), pi / 2, _asin(add, x))


def _sinh(add: Layers, x: Value) -> Value:
    """(e^x - e^-x) / 2; the halves are taken first, which loses no range."""
    return add(ops.Sub(), *_halves(add, x))


def _cosh(add: Layers, x: Value) -> Value:
    return add(ops.Add(), *_halves(add, x))


def _halves(add: Layers, x: Value) -> list[Value]:
    return [add(ops.Mul(), add(ops.Exp(), v), 0.5) for v in (x, add(ops.Mul(), x, -1.0))]


def _atanh(add: Layers, x: Value) -> Value:
    ratio = add(ops.Div(), add(ops.Add(), x, 1.0), add(ops.Sub(), 1.0, x))
    return add(ops.Mul(), add(ops.Log(), ratio), 0.5)


COMPOSED: dict[type[Op], Callable[[Layers, Value], Value]] = {
    ops.Tan: _tan,
    ops.Asin: _asin,
    ops.Acos: _acos,
    ops.Sinh: _sinh,
    ops.Cosh: _cosh,
    ops.Atanh: _atanh,
}

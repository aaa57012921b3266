"""Functions by logistic functions of straight pieces, which every accelerator of integers has.

The numbers are fits for the smallest largest error (minimax) over all real numbers, by differential evolution on
[-12, 12], beyond which both sides have the same asymptote; `BOUNDS` are the errors, which a test measures anew.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.activation import Clip, Relu, Sigmoid
from compiler.ops.elementwise import Add, Min, Mul, Sub
from passes._decompose import Layers

GELU = (1.6733, 0.5349, 1.1946)  # slope at 0, slope that is added beyond the turn, turn
MISH = (1.0858, 0.2598, 0.5112, -0.0686)  # slope, offset, slope that is added beyond the turn, turn
SOFTPLUS = (0.92206, 0.91219)
EXPONENTIAL = (1.0981, 3.5849)
BOUNDS = {"gelu": 0.0043, "mish": 0.0064, "softplus": 0.0041, "elu": 0.0029}  # gelu in both forms, elu's alpha is 1


def gelu(add: Layers, x: Value) -> Value:
    """x s(q), s the logistic function, q = a x + b (x - clip(x, -c, c)) = (a + b) x - b c clip(x / c, -1, 1)."""
    slope, more, turn = GELU
    inner = add(Mul(), add(Clip(low=-1.0, high=1.0), add(Mul(), x, 1 / turn)), more * turn)
    return add(Mul(), x, add(Sigmoid(), add(Sub(), add(Mul(), x, slope + more), inner)))


def mish(add: Layers, x: Value) -> Value:
    """x s(a x + b + c max(x - d, 0)): tanh(log(1 + e^x)) is s(x + log(1 + e^x / 2))."""
    slope, offset, more, turn = MISH
    line = add(Add(), add(Mul(), x, slope), offset)
    bend = add(Mul(), add(Relu(), add(Sub(), x, turn)), more)
    return add(Mul(), x, add(Sigmoid(), add(Add(), line, bend)))


def softplus(add: Layers, x: Value) -> Value:
    """max(x, 0) + log(1 + e^-|x|), which is -log(1 - u) with u = s(-|x|), by u (a + b u)."""
    first, second = SOFTPLUS
    u = add(Sigmoid(), add(Min(), x, add(Mul(), x, -1.0)))
    tail = add(Mul(), u, add(Add(), add(Mul(), u, second), first))
    return add(Add(), add(Relu(), x), tail)


def elu(add: Layers, x: Value, alpha: float) -> Value:
    """max(x, 0) + alpha (e^m - 1), m = min(x, 0): e^m is s / (1 - s) with s = s(m), by s (a + b s^2)."""
    first, third = EXPONENTIAL
    s = add(Sigmoid(), add(Min(), x, 0.0))
    factor = add(Add(), add(Mul(), add(Mul(), s, s), third * alpha), first * alpha)
    return add(Add(), add(Relu(), x), add(Sub(), add(Mul(), s, factor), alpha))

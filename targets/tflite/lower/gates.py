"""One time step of a recurrent layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.ops.recurrent import Recurrent
from compiler.tensor import Array
from targets.tflite.lower.lowering import Lowering
from targets.tflite.model import Tensor

Gate = Callable[[Lowering, Tensor, float, float], Tensor]  # of x, alpha and beta
RECURRENT = 2  # the operand r


def _softplus(p: Lowering, x: Tensor, a: float, b: float) -> Tensor:
    tail = p.unary("LOG", p.plus(p.unary("EXP", p.unary("NEG", p.unary("ABS", x))), 1.0))
    return p.binary("ADD", p.unary("RELU", x), tail)


def _elu(p: Lowering, x: Tensor, a: float, b: float) -> Tensor:
    return p.binary("ADD", p.unary("RELU", x), p.times(p.unary("ELU", p.binary("MINIMUM", x, p.scalar(0.0))), a))


GATES: dict[str, Gate] = {
    "Sigmoid": lambda p, x, _a, _b: p.unary("LOGISTIC", x),
    "Tanh": lambda p, x, _a, _b: p.unary("TANH", x),
    "Relu": lambda p, x, _a, _b: p.unary("RELU", x),
    "Softsign": lambda p, x, _a, _b: p.binary("DIV", x, p.plus(p.unary("ABS", x), 1.0)),
    "Softplus": _softplus,
    "Affine": lambda p, x, a, b: p.plus(p.times(x, a), b),
    "LeakyRelu": lambda p, x, a, _b: p.unary("LEAKY_RELU", x, Alpha=a),
    "ThresholdedRelu": lambda p, x, a, _b: p.select(p.binary("GREATER_EQUAL", x, p.scalar(a)), x, p.scalar(0.0)),
    "ScaledTanh": lambda p, x, a, b: p.times(p.unary("TANH", p.times(x, b)), a),
    "HardSigmoid": lambda p, x, a, b: p.unary("RELU_0_TO_1", p.plus(p.times(x, a), b)),
    "Elu": _elu,
}


class Step:
    """What the steps of some directions share: one, or both at once, whose states stand side by side.

    Rows of w [G*H,I], r [G*H,H] and the biases [2*G*H] are read as parameters of single gates, which are constants if
    the operands are. Of two directions, which must have constants, those of a gate follow one another, and the
    recurrent weights are blocks along a diagonal.
    """

    def __init__(self, p: Lowering, node: Node, directions: tuple[int, ...]) -> None:
        op = node.op
        assert isinstance(op, Recurrent) and node.inputs[2] is not None
        self.op = op
        self.directions = directions
        self._size = node.inputs[2].type.dims[2]
        self.hidden = self._size * len(directions)
        self._node = node
        self._p = p

    def rows(self, operand: int, first: int, last: int) -> Tensor | None:
        """The parameters of gates `first` to `last`, without the latter; None if the operand is absent."""
        v = self._node.inputs[operand] if operand < len(self._node.inputs) else None
        if v is None:
            return None
        p, d, span = self._p, self.directions[0], slice(first * self._size, last * self._size)

        def make() -> Tensor:
            if v.data is not None and len(self.directions) > 1:
                return p.weight(self._paired(v.data[:, span], operand), "FLOAT32", v.name or "gates")
            if v.data is not None:
                return p.weight(np.ascontiguousarray(v.data[d, span]), "FLOAT32", v.name or "gate")
            x = p.part(p.part(p.get(v), 0, d, d + 1), 1, span.start, span.stop)
            return p.reshape(x, x.shape[1:])

        return p.shared((self._node, self.directions, operand, first, last), make)

    def _paired(self, data: Array, operand: int) -> Array:
        """Parameters [D,G*H,*] by gate and direction, in blocks if they are recurrent weights."""
        n, count = self._size, len(self.directions)
        gates = data.reshape(count, -1, n, *data.shape[2:]).swapaxes(0, 1)
        if operand != RECURRENT:
            return np.ascontiguousarray(gates.reshape(-1, *data.shape[2:]))
        blocks = np.zeros((len(gates), count, n, count, n), data.dtype)
        for d in range(count):
            blocks[:, d, :, d] = gates[:, d]
        return blocks.reshape(-1, count * n)

    def product(self, x: Tensor, operand: int, first: int, last: int) -> Tensor:
        """x times the rows of w (1) or r (2), plus their biases."""
        weight = self.rows(operand, first, last)
        assert weight is not None
        shift = self.op.gates if operand == RECURRENT else 0
        return self._p.fully_connected(x, weight, self.rows(3, first + shift, last + shift))

    parts: tuple[tuple[int, int], ...] = ()  # the gates that a step takes together; by default all

    def seen(self, xs: Sequence[Tensor]) -> list[Tensor]:
        """What the gates see of the inputs [T*B,I] of all steps, one for each direction, in the parts that a step
        takes."""
        parts = self.parts or ((0, self.op.gates),)
        if len(xs) == 1:
            return [self.product(xs[0], 1, *part) for part in parts]
        sides = [type(self)(self._p, self._node, (d,)) for d in self.directions]
        products = [
            [side.product(x, 1, g, g + 1) for g in range(*part) for side, x in zip(sides, xs, strict=True)]
            for part in parts
        ]
        return [self._p.concat(gates, 1) for gates in products]

    def advance(self, p: Lowering, seen: tuple[Tensor, ...], states: list[Tensor]) -> list[Tensor]:
        """The states after a step. Here H = f(seen + H r + b)."""
        return [self.function(0, p.binary("ADD", seen[0], self.product(states[0], 2, 0, 1)))]

    def function(self, i: int, x: Tensor) -> Tensor:
        """The i-th activation of the direction; all but the third clip their operand."""
        op, p = self.op, self._p
        at = self.directions[0] * len(op.default_functions) + i
        if op.clip < inf and i < 2:
            x = p.binary("MINIMUM", p.binary("MAXIMUM", x, p.scalar(-op.clip)), p.scalar(op.clip))
        alpha, beta = (v[at] if v else 0.0 for v in (op.alpha, op.beta))
        return GATES[op.functions[at]](p, x, alpha, beta)


class GruStep(Step):
    """Gates z and r together, then the candidate: H = (1 - z) h + z H. Each product has operators of its own for the
    two: slices of a common one would cost more."""

    parts = ((0, 2), (2, 3))

    def advance(self, p: Lowering, seen: tuple[Tensor, ...], states: list[Tensor]) -> list[Tensor]:
        (gates, candidate), (h,), n = seen, states, self.hidden
        assert isinstance(self.op, ops.GRU)
        opened = self.function(0, p.binary("ADD", gates, self.product(h, 2, 0, 2)))
        z, reset = p.split(opened, [n, n], 1)
        if self.op.linear_before_reset:
            rest = p.binary("MUL", reset, self.product(h, 2, 2, 3))
        else:
            rest = self.product(p.binary("MUL", reset, h), 2, 2, 3)
        new = self.function(1, p.binary("ADD", candidate, rest))
        return [p.binary("ADD", new, p.binary("MUL", z, p.binary("SUB", h, new)))]


class LstmStep(Step):
    """C = f C + i g(c), H = o h(C); gates stand in the order i, o, f, c."""

    def advance(self, p: Lowering, seen: tuple[Tensor, ...], states: list[Tensor]) -> list[Tensor]:
        (hidden, cell), n = states, self.hidden
        assert isinstance(self.op, ops.LSTM)
        total = p.binary("ADD", seen[0], self.product(hidden, 2, 0, 4))
        i, o, f, c = p.split(total, [n] * 4, 1)
        i = self.function(0, self._peeped(i, cell, 0))
        f = p.binary("SUB", p.scalar(1.0), i) if self.op.input_forget else self.function(0, self._peeped(f, cell, 2))
        cell = p.binary("ADD", p.binary("MUL", f, cell), p.binary("MUL", i, self.function(1, c)))
        o = self.function(0, self._peeped(o, cell, 1))
        return [p.binary("MUL", o, self.function(2, cell)), cell]

    def _peeped(self, gate: Tensor, cell: Tensor, place: int) -> Tensor:
        peephole = self.rows(7, place, place + 1)
        return gate if peephole is None else self._p.binary("ADD", gate, self._p.binary("MUL", cell, peephole))


def make_step(p: Lowering, node: Node, directions: tuple[int, ...]) -> Step:
    """The steps of one direction of a recurrent layer, or of both."""
    kind = LstmStep if isinstance(node.op, ops.LSTM) else GruStep if isinstance(node.op, ops.GRU) else Step
    return kind(p, node, directions)

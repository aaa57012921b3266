"""One time step of a recurrent layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import numpy as np

from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.recurrent import Recurrent
from compiler.tensor import Array
from passes._decompose import Layers

Gate = Callable[[Layers, Value, float, float], Value]  # of x, alpha and beta
SEEN, RECURRENT, BIASES, PEEPHOLES = 1, 2, 3, 7  # operands

GATES: dict[str, Gate] = {
    "Sigmoid": lambda add, x, _a, _b: add(ops.Sigmoid(), x),
    "Tanh": lambda add, x, _a, _b: add(ops.Tanh(), x),
    "Relu": lambda add, x, _a, _b: add(ops.Relu(), x),
    "Softsign": lambda add, x, _a, _b: add(ops.Softsign(), x),
    "Softplus": lambda add, x, _a, _b: add(ops.Softplus(), x),
    "Affine": lambda add, x, a, b: add(ops.Add(), add(ops.Mul(), x, a), b),
    "LeakyRelu": lambda add, x, a, _b: add(ops.LeakyRelu(alpha=a), x),
    "ThresholdedRelu": lambda add, x, a, _b: add(ops.Where(), add(ops.GreaterOrEqual(), x, a), x, 0.0),
    "ScaledTanh": lambda add, x, a, b: add(ops.Mul(), add(ops.Tanh(), add(ops.Mul(), x, b)), a),
    "HardSigmoid": lambda add, x, a, b: add(ops.HardSigmoid(alpha=a, beta=b), x),
    "Elu": lambda add, x, a, _b: add(ops.Elu(alpha=a), x),
}


def operand(node: Node, index: int) -> Value | None:
    """An operand; None if it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def pieces(add: Layers, x: Value, sizes: Sequence[int], axis: int) -> Sequence[Value]:
    """`x` cut along an axis."""
    if len(sizes) > 1 and x.data is None:
        return add.many(ops.Split(axis=axis, sizes=tuple(sizes)), x)
    ends = np.cumsum(sizes).tolist()
    return [add.cut(x, axis, end - size, end) for size, end in zip(sizes, ends, strict=True)]


class Step:
    """What the steps of some directions share: one, or both at once, whose states stand side by side.

    Rows of w [G*H,I], r [G*H,H] and the biases [2*G*H] are read as parameters of single gates, which are constants if
    the operands are. Of two directions, which must have constants, those of a gate follow one another, and the
    recurrent weights are blocks along a diagonal.

    Constant biases of r that only add to what the gates see of the inputs are added to the biases of w, once for all
    steps.
    """

    parts: tuple[tuple[int, int], ...] = ()  # the gates that a step takes together; by default all

    def __init__(self, add: Layers, node: Node, directions: tuple[int, ...]) -> None:
        op, r = node.op, node.inputs[RECURRENT]
        assert isinstance(op, Recurrent) and r is not None
        self.op = op
        self.directions = directions
        self._size = r.type.dims[2]
        biases = operand(node, BIASES)
        self._joined = 0 if biases is None or biases.data is None else self.added(op)
        self.hidden = self._size * len(directions)
        self.add = add
        self._rows: dict[tuple[int, int, int], Value] = {}

    @staticmethod
    def added(op: Recurrent) -> int:
        """How many gates, from the first on, add their biases of r to what they see of the inputs."""
        return op.gates

    def rows(self, index: int, first: int, last: int) -> Value | None:
        """The parameters of gates `first` to `last`, without the latter; None if the operand is absent."""
        v = operand(self.add.node, index)
        if v is not None and (index, first, last) not in self._rows:
            self._rows[index, first, last] = self._parameters(v, index, first * self._size, last * self._size)
        return self._rows.get((index, first, last))

    def _parameters(self, v: Value, index: int, begin: int, end: int) -> Value:
        d = self.directions[0]
        if v.data is not None:
            part = (self._summed(v.data) if index == BIASES else v.data)[:, begin:end]
            single = len(self.directions) == 1
            return self.add.like(np.ascontiguousarray(part[d]) if single else self._paired(part), v)
        x = self.add.cut(self.add.cut(v, 0, d, d + 1), 1, begin, end)
        return self.add.reshape(x, x.type.dims[1:])

    def _summed(self, biases: Array) -> Array:
        """Biases [D,2*G*H], those of r added to those of w for gates that have no others."""
        own, recurrent = np.split(biases, 2, axis=1)
        end = self._joined * self._size
        return np.concatenate([own[:, :end] + recurrent[:, :end], own[:, end:], recurrent], 1)

    def _paired(self, data: Array) -> Array:
        """Parameters [D,G*H,*] by gate and direction, in blocks if they are weights."""
        n, count = self._size, len(self.directions)
        gates = data.reshape(count, -1, n, *data.shape[2:]).swapaxes(0, 1)
        if data.ndim == 2:
            return np.ascontiguousarray(gates.reshape(-1))
        blocks = np.zeros((len(gates), count, n, count, n), data.dtype)
        for d in range(count):
            blocks[:, d, :, d] = gates[:, d]
        return blocks.reshape(-1, count * n)

    def product(self, x: Value, index: int, first: int, last: int) -> Value:
        """x times the rows of w (1) or r (2), plus those of their biases that are not elsewhere."""
        shift = self.op.gates if index == RECURRENT else 0
        elsewhere = index == RECURRENT and last <= self._joined
        biases = None if elsewhere else self.rows(BIASES, first + shift, last + shift)
        given = () if biases is None else (biases,)
        return self.add(ops.Dense(transposed=True), x, self.rows(index, first, last), *given)

    def seen(self, xs: Sequence[Value]) -> Sequence[Value]:
        """What the gates see of the inputs [T*B,I] of all steps, one for each direction, in the parts that a step
        takes."""
        parts = self.parts or ((0, self.op.gates),)
        if len(xs) == 1:
            return [self.product(xs[0], SEEN, *part) for part in parts]
        gates, rows = self.op.gates, xs[0].type.dims[0]
        sides = [type(self)(self.add, self.add.node, (d,)) for d in self.directions]
        products = [side.product(x, SEEN, 0, gates) for side, x in zip(sides, xs, strict=True)]
        apart = [self.add.reshape(v, (rows, gates, 1, self._size)) for v in products]
        both = self.add.reshape(self.add(ops.Concat(axis=2), *apart), (rows, gates * self.hidden))
        return pieces(self.add, both, [(last - first) * self.hidden for first, last in parts], 1)

    def advance(self, seen: Sequence[Value], states: Sequence[Value]) -> list[Value]:
        """The states after a step. Here H = f(seen + H r + b)."""
        return [self.function(0, self.add(ops.Add(), seen[0], self.product(states[0], RECURRENT, 0, 1)))]

    def function(self, i: int, x: Value) -> Value:
        """The i-th activation of the direction; all but the third clip their operand."""
        op, at = self.op, self.directions[0] * len(self.op.default_functions) + i
        if op.clip < inf and i < 2:
            x = self.add(ops.Clip(low=-op.clip, high=op.clip), x)
        alpha, beta = (v[at] if v else 0.0 for v in (op.alpha, op.beta))
        return GATES[op.functions[at]](self.add, x, alpha, beta)


class GruStep(Step):
    """Gates z and r together, then the candidate: H = (1 - z) h + z H. Each product has layers of its own for the two:
    slices of a common one would cost more."""

    parts = ((0, 2), (2, 3))

    @staticmethod
    def added(op: Recurrent) -> int:
        assert isinstance(op, ops.GRU)
        return 2 if op.linear_before_reset else op.gates

    def advance(self, seen: Sequence[Value], states: Sequence[Value]) -> list[Value]:
        (gates, candidate), (h,), add = seen, states, self.add
        assert isinstance(self.op, ops.GRU)
        opened = self.function(0, add(ops.Add(), gates, self.product(h, RECURRENT, 0, 2)))
        z, reset = pieces(add, opened, [self.hidden] * 2, 1)
        if self.op.linear_before_reset:
            rest = add(ops.Mul(), reset, self.product(h, RECURRENT, 2, 3))
        else:
            rest = self.product(add(ops.Mul(), reset, h), RECURRENT, 2, 3)
        new = self.function(1, add(ops.Add(), candidate, rest))
        return [add(ops.Add(), new, add(ops.Mul(), z, add(ops.Sub(), h, new)))]


class LstmStep(Step):
    """C = f C + i g(c), H = o h(C); gates stand in the order i, o, f, c."""

    def advance(self, seen: Sequence[Value], states: Sequence[Value]) -> list[Value]:
        (hidden, cell), add = states, self.add
        assert isinstance(self.op, ops.LSTM)
        total = add(ops.Add(), seen[0], self.product(hidden, RECURRENT, 0, 4))
        i, o, f, c = pieces(add, total, [self.hidden] * 4, 1)
        i = self.function(0, self._peeped(i, cell, 0))
        f = add(ops.Sub(), 1.0, i) if self.op.input_forget else self.function(0, self._peeped(f, cell, 2))
        cell = add(ops.Add(), add(ops.Mul(), f, cell), add(ops.Mul(), i, self.function(1, c)))
        o = self.function(0, self._peeped(o, cell, 1))
        return [add(ops.Mul(), o, self.function(2, cell)), cell]

    def _peeped(self, gate: Value, cell: Value, place: int) -> Value:
        peephole = self.rows(PEEPHOLES, place, place + 1)
        return gate if peephole is None else self.add(ops.Add(), gate, self.add(ops.Mul(), cell, peephole))


def make_step(add: Layers, node: Node, directions: tuple[int, ...]) -> Step:
    """The steps of one direction of a recurrent layer, or of both."""
    kind = LstmStep if isinstance(node.op, ops.LSTM) else GruStep if isinstance(node.op, ops.GRU) else Step
    return kind(add, node, directions)

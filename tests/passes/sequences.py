"""Random networks of the layers that transformers are made of, with heads split and merged in many ways."""

from __future__ import annotations

from math import prod

import numpy as np

from compiler.graph import Graph
from compiler.ops import (
    Add,
    Attention,
    BatchNorm,
    Concat,
    Conv,
    Dense,
    Gather,
    LayerNorm,
    Mul,
    Neg,
    Pad,
    ReduceMean,
    Reshape,
    RmsNorm,
    Sigmoid,
    Slice,
    Softmax,
    Split,
    Tanh,
    Transpose,
)
from tests.passes.composed import Net, Term

Rng = np.random.Generator


class Sequences:
    """A network that grows by one random layer at a time; each layer reads what was computed before."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.net = Net()
        length, width = (int(rng.choice(n)) for n in ((1, 3, 4, 6), (4, 8, 12)))
        batch = int(rng.choice([1, 1, 2]))
        self.terms = [self.net.input(*dims) for dims in ((batch, length, width), (batch, length, width))]
        self.terms.append(self.dense(self.terms[0]))

    def dims(self, x: Term) -> tuple[int, ...]:
        return x.value.type.dims

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape)

    def pick(self, rank: int = 0) -> Term:
        found = [t for t in self.terms if not rank or t.value.type.rank == rank]
        return found[int(self.rng.integers(len(found)))] if found else self.terms[0]

    def dense(self, x: Term) -> Term:
        inner, columns = self.dims(x)[-1], int(self.rng.choice([1, 4, 8, 12, 24]))
        bias = [self.normal(columns)] if self.rng.random() < 0.6 else []
        if self.rng.random() < 0.3:
            return self.net(Dense(transposed=True), x, self.normal(columns, inner) / 3, *bias)
        return self.net(Dense(), x, self.normal(inner, columns) / 3, *bias)

    def norm(self, x: Term) -> Term:
        dims = self.dims(x)
        if self.rng.random() < 0.5:
            return self.net(LayerNorm(axis=len(dims) - 1, eps=0.1), x, self.normal(dims[-1]), self.normal(dims[-1]))
        return self.net(RmsNorm(axis=len(dims) - 1, eps=0.1), x, self.normal(dims[-1]))

    def reshape(self, x: Term) -> Term:
        dims = list(self.dims(x))
        at = int(self.rng.integers(len(dims)))
        factors = [f for f in (2, 3, 4) if dims[at] % f == 0]
        kind = self.rng.random()
        if kind < 0.5 and factors and len(dims) < 5:
            f = int(self.rng.choice(factors))
            dims[at : at + 1] = [f, dims[at] // f] if self.rng.random() < 0.5 else [dims[at] // f, f]
        elif kind < 0.9 and at + 1 < len(dims) > 2:
            dims[at : at + 2] = [dims[at] * dims[at + 1]]
        elif len(dims) < 5:
            dims.insert(at, 1)
        return self.net(Reshape(shape=tuple(dims)), x)

    def transpose(self, x: Term) -> Term:
        return self.net(Transpose(perm=tuple(map(int, self.rng.permutation(len(self.dims(x)))))), x)

    def unary(self, x: Term) -> Term:
        return self.net([Neg(), Tanh(), Sigmoid()][int(self.rng.integers(3))], x)

    def binary(self, x: Term) -> Term:
        dims = self.dims(x)
        like = [t for t in self.terms if self.dims(t) == dims]
        op = Add() if self.rng.random() < 0.5 else Mul()
        if self.rng.random() < 0.6:
            return self.net(op, x, like[int(self.rng.integers(len(like)))])
        first = int(self.rng.integers(len(dims) + 1))
        constant = self.normal(*(d if self.rng.random() < 0.6 else 1 for d in dims[first:]))
        return self.net(op, *((x, constant) if self.rng.random() < 0.5 else (constant, x)))

    def softmax(self, x: Term) -> Term:
        return self.net(Softmax(axis=int(self.rng.integers(len(self.dims(x))))), x)

    def mean(self, x: Term) -> Term:
        axis, keep = int(self.rng.integers(len(self.dims(x)))), bool(self.rng.random() < 0.6)
        y = self.net(ReduceMean(axes=(axis,), keepdims=keep or len(self.dims(x)) < 3), x)
        return x + y if keep and self.rng.random() < 0.5 else y

    def part(self, x: Term) -> Term:
        dims = self.dims(x)
        axis = int(self.rng.integers(len(dims)))
        kind, n = self.rng.random(), dims[axis]
        if kind < 0.3 and n > 1:
            cut = int(self.rng.integers(1, n))
            parts = self.net.many(Split(axis=axis, sizes=(cut, n - cut)), x)
            self.terms.append(parts[1])
            return parts[0]
        if kind < 0.5 and len(dims) > 2:
            return self.net(Gather(axis=axis), x, np.array(int(self.rng.integers(-n, n))))
        if kind < 0.6:
            return self.net(Gather(axis=axis), x, self.rng.integers(-n, n, int(self.rng.integers(1, 4))))
        start, step = int(self.rng.integers(n)), int(self.rng.choice([1, 1, 2, -1]))
        end = n if step > 0 else -n - 1
        return self.net(Slice.of(x.value.type, [axis], [start], [end], [step]), x)

    def concat(self, x: Term) -> Term:
        dims = self.dims(x)
        axis = int(self.rng.integers(len(dims)))
        rest = [t for t in self.terms if len(self.dims(t)) == len(dims)]
        fitting = [
            t for t in rest if all(a == b for i, (a, b) in enumerate(zip(self.dims(t), dims, strict=True)) if i != axis)
        ]
        others = [fitting[int(self.rng.integers(len(fitting)))] for _ in range(int(self.rng.integers(1, 3)))]
        constant = [self.normal(*dims)] if self.rng.random() < 0.3 else []
        return self.net(Concat(axis=axis), *constant, x, *others)

    def attention(self, x: Term) -> Term:
        if len(self.dims(x)) != 4:
            return x
        batch, heads, length, width = self.dims(x)
        fits = [
            t for t in self.terms if len(self.dims(t)) == 4 and self.dims(t)[0] == batch and self.dims(t)[3] == width
        ]
        keys = [t for t in fits if heads % self.dims(t)[1] == 0]
        k = keys[int(self.rng.integers(len(keys)))]
        values = [t for t in self.terms if len(self.dims(t)) == 4 and self.dims(t)[:3] == self.dims(k)[:3]]
        v = values[int(self.rng.integers(len(values)))]
        count, kind = self.dims(k)[2], self.rng.random()
        causal = bool(self.rng.random() < 0.3 and count == length)
        mask: list[Term | np.ndarray] = []
        if kind < 0.2:
            mask = [self.normal(length, count)]
        elif kind < 0.3:
            mask = [self.rng.random((heads, length, count)) < 0.6]
        elif kind < 0.4:
            mask = [self.net.input(batch, 1, 1, count)]
        op = Attention(
            scale=float(self.rng.choice([1.0, 0.5, 0.3])), causal=causal, softcap=float(self.rng.choice([0, 0, 3]))
        )
        return self.net(op, x, k, v, *mask)

    def split_heads(self, x: Term) -> Term:
        dims = self.dims(x)
        if len(dims) != 3 or dims[2] % 4:
            return x
        y = self.net(Reshape(shape=(dims[0], dims[1], 4, dims[2] // 4)), x)
        return self.net(Transpose(perm=(0, 2, 1, 3)), y)

    def merge_heads(self, x: Term) -> Term:
        dims = self.dims(x)
        if len(dims) != 4:
            return x
        y = self.net(Transpose(perm=(0, 2, 1, 3)), x)
        return self.net(Reshape(shape=(dims[0], dims[2], dims[1] * dims[3])), y)

    def convolution(self, x: Term) -> Term:
        dims = self.dims(x)
        if len(dims) != 3 or dims[2] < 2:
            return x
        channels = dims[1]
        if self.rng.random() < 0.3:
            return self.net(
                BatchNorm(), x, *(self.normal(channels) for _ in range(3)), self.rng.uniform(0.5, 2, channels)
            )
        op = Conv(strides=(1,), pads=(1, 0), dilations=(1,), groups=channels if self.rng.random() < 0.5 else 1)
        return self.net(op, x, self.normal(channels, channels // op.groups, 2), self.normal(channels))

    def pad(self, x: Term) -> Term:
        rank = len(self.dims(x))
        pads = [0] * 2 * rank
        pads[int(self.rng.integers(2 * rank))] = 1
        return self.net(Pad(pads=tuple(pads), value=float(self.rng.integers(2))), x)


LAYERS = (
    "dense", "dense", "norm", "reshape", "reshape", "transpose", "transpose", "unary", "binary", "binary", "softmax",
    "mean", "part", "part", "concat", "attention", "attention", "split_heads", "split_heads", "merge_heads",
    "convolution", "pad",
)  # fmt: skip


def sequences(rng: Rng, layers: int) -> Graph:
    """A graph of about that many layers, the last few of which are its results."""
    grown = Sequences(rng)
    for _ in range(layers):
        recent = grown.terms[-4:]
        x = recent[int(rng.integers(len(recent)))] if rng.random() < 0.7 else grown.pick()
        y = getattr(grown, str(rng.choice(LAYERS)))(x)
        if y is not x and 0 < prod(grown.dims(y)) <= 20000:
            grown.terms.append(y)
    return grown.net.returns(*grown.terms[-3:])

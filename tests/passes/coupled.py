"""Networks with channels that are coupled in every way that trained ones have, for the tests of pruning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler import ops
from compiler.graph import Graph
from compiler.op import Op
from tests.passes.composed import Net, Term

Maker = Callable[[np.random.Generator], Graph]


class Builder:
    """Layers with random weights. `smooth`: activations that do not give 0 for 0, and biases."""

    def __init__(self, rng: np.random.Generator, smooth: bool) -> None:
        self.rng = rng
        self.net = Net()
        self.smooth = smooth

    def weights(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))

    def conv(self, x: Term, filters: int, kernel: int = 3, groups: int = 1, stride: int = 1) -> Term:
        op = ops.Conv(strides=(stride,) * 2, pads=(kernel // 2,) * 4, dilations=(1, 1), groups=groups)
        w = self.weights(filters, x.value.type.dims[1] // groups, kernel, kernel)
        bias = self.rng.normal(size=filters) if self.smooth or self.rng.random() < 0.5 else None
        return self.net(op, x, w, bias) if bias is not None else self.net(op, x, w)

    def dense(self, x: Term, width: int, bias: bool = True) -> Term:
        fan = x.value.type.dims[-1]
        w = self.weights(width, fan)
        if not bias:
            return self.net(ops.MatMul(), x, w.T)
        turned = bool(self.rng.random() < 0.5)
        return self.net(ops.Dense(transposed=turned), x, w if turned else w.T, self.rng.normal(size=width))

    def act(self, x: Term) -> Term:
        kinds: list[Op] = [ops.Relu(), ops.LeakyRelu(alpha=0.1), ops.Clip(low=0.0, high=6.0), ops.Silu()]
        return self.net(ops.Sigmoid() if self.smooth and self.rng.random() < 0.3 else kinds[self.rng.integers(4)], x)

    def norm(self, x: Term) -> Term:
        c = x.value.type.dims[1]
        r = self.rng
        kind = r.choice(["none", "batch", "instance", "group", "mul"])
        if kind == "batch":
            return self.net(
                ops.BatchNorm(), x, r.uniform(0.5, 2, c), r.normal(size=c), r.normal(size=c), r.uniform(0.5, 2, c)
            )
        if kind == "instance" and x.value.type.dims[2] > 1:
            return self.net(ops.InstanceNorm(), x, r.uniform(0.5, 2, c), r.normal(size=c))
        if kind == "group" and c % 4 == 0:
            return self.net(
                ops.GroupNorm(groups=c // 4 if c > 8 else c // 2), x, r.uniform(0.5, 2, c), r.normal(size=c)
            )
        return x * r.uniform(0.5, 2, (1, c, 1, 1)) if kind == "mul" else x

    def unit(self, x: Term, filters: int, kernel: int = 3, groups: int = 1) -> Term:
        return self.act(self.norm(self.conv(x, filters, kernel, groups)))

    def head(self, x: Term) -> Graph:
        """Pooled or flattened, then two dense layers."""
        if self.rng.random() < 0.5:
            x = self.net(ops.GlobalAveragePool(), x)
        flat = self.net(ops.Reshape(shape=(x.value.type.dims[0], x.value.type.size // x.value.type.dims[0])), x)
        return self.net.returns(self.dense(self.act(self.dense(flat, 12)), 3))


def resnet(b: Builder) -> Graph:
    """Residual sums, one with a projection, and a squeezed gate."""
    x = b.unit(b.net.input(1, 3, 6, 6), 8)
    for filters in (8, 12):
        y = b.conv(b.unit(x, 6), filters)
        if b.rng.random() < 0.5:
            pooled = b.net(ops.GlobalAveragePool(), y)
            y = y * b.net(ops.Sigmoid(), b.conv(b.act(b.conv(pooled, 4, 1)), filters, 1))
        x = b.act(b.norm(y) + (x if filters == 8 else b.conv(x, filters, 1)))
    return b.head(x)


def mobilenet(b: Builder) -> Graph:
    """Depthwise convolutions, one with a multiplier, between wide and narrow ones."""
    x = b.unit(b.net.input(2, 3, 6, 6), 8)
    for _ in range(2):
        y = b.unit(x, 12, 1)
        y = b.act(b.conv(y, 12 * int(b.rng.integers(1, 3)), 3, groups=12))
        x = b.conv(y, 8, 1) + x
    return b.head(x)


def densenet(b: Builder) -> Graph:
    """Everything before is read by everything behind."""
    x = b.unit(b.net.input(1, 3, 6, 6), 8)
    for _ in range(3):
        x = b.net(ops.Concat(axis=1), x, b.conv(b.act(b.norm(x)), 4))
    pool = ops.AveragePool(kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0), dilations=(1, 1))
    return b.head(b.net(pool, b.unit(x, 10, 1)))


def inception(b: Builder) -> Graph:
    """Branches side by side, one of them the image itself, and parts of what they give."""
    image = b.net.input(1, 3, 6, 6)
    x = b.unit(image, 8)
    pool = ops.MaxPool(kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
    x = b.net(ops.Concat(axis=1), b.unit(x, 5, 1), b.unit(b.unit(x, 4, 1), 6), b.unit(b.net(pool, x), 3, 1), image)
    one, two = b.net.many(ops.Split(axis=1, sizes=(9, 8)), x)
    rank = 4
    cut = ops.Slice(starts=(0, 2, 0, 0), ends=(1, 8, 6, 6), steps=(1,) * rank)
    return b.head(b.net(ops.Concat(axis=1), b.unit(one, 6), b.net(cut, two)))


def shuffled(b: Builder, x: Term, groups: int) -> Term:
    n, c, h, w = x.value.type.dims
    split = b.net(ops.Reshape(shape=(n, groups, c // groups, h, w)), x)
    return b.net(ops.Reshape(shape=(n, c, h, w)), b.net(ops.Transpose(perm=(0, 2, 1, 3, 4)), split))


def shufflenet(b: Builder) -> Graph:
    """Grouped convolutions with a shuffle between them, and halves of channels that are shuffled."""
    groups = int(b.rng.choice([2, 3]))
    x = b.unit(b.net.input(1, 3, 6, 6), 24)
    y = shuffled(b, b.unit(x, 12, 1, groups), groups)
    x = b.act(b.conv(b.conv(y, 12, 3, groups=12), 24, 1, groups) + x)
    for _ in range(2):
        one, two = b.net.many(ops.Split(axis=1, sizes=(12, 12)), x)
        x = shuffled(b, b.net(ops.Concat(axis=1), one, b.unit(b.unit(two, 12, 1), 12, 3, 12)), 2)
    return b.head(x)


def resnext(b: Builder) -> Graph:
    """A grouped convolution with more groups than channels in each, and pixels from channels."""
    x = b.unit(b.net.input(1, 3, 6, 6), 8)
    x = b.unit(b.unit(b.unit(x, 24, 1), 24, 3, groups=8), 8, 1) + x
    mode = str(b.rng.choice(["DCR", "CRD"]))
    x = b.unit(b.net(ops.DepthToSpace(blocksize=2, mode=mode), b.conv(x, 24, 1)), 5)
    return b.head(b.net(ops.SpaceToDepth(blocksize=2, mode=mode), x))


def attention(b: Builder, x: Term, heads: int, shared: int, depth: int) -> Term:
    """Attention by products and softmax, or as one layer; `shared` heads of keys and values."""
    n, s, width = x.value.type.dims

    def split(t: Term, count: int) -> Term:
        t = b.net(ops.Reshape(shape=(n, s, count, depth)), t)
        return b.net(ops.Transpose(perm=(0, 2, 1, 3)), t)

    def spread(t: Term) -> Term:
        if heads == shared:
            return t
        t = b.net(ops.Reshape(shape=(n, shared, 1, s, depth)), t)
        t = b.net(ops.Expand(shape=(n, shared, heads // shared, s, depth)), t)
        return b.net(ops.Reshape(shape=(n, heads, s, depth)), t)

    if heads == shared and b.rng.random() < 0.5:
        whole = b.net(ops.Reshape(shape=(n, s, 3, heads, depth)), b.dense(x, 3 * heads * depth))
        parts = b.net.many(ops.Split(axis=0, sizes=(1, 1, 1)), b.net(ops.Transpose(perm=(2, 0, 3, 1, 4)), whole))
        q, k, v = (b.net(ops.Reshape(shape=(n, heads, s, depth)), p) for p in parts)
    else:
        q, k, v = (split(b.dense(x, h * depth), h) for h in (heads, shared, shared))
    scale = depth**-0.5
    if b.rng.random() < 0.5:
        y = b.net(ops.Attention(scale=scale), q, k, v)
    else:
        turned = b.net(ops.Transpose(perm=(0, 1, 3, 2)), spread(k))
        scores = b.net(ops.MatMul(), q * scale, turned) + b.rng.normal(size=(1, heads, s, s))
        y = b.net(ops.MatMul(), b.net(ops.Softmax(axis=3), scores), spread(v))
    y = b.net(ops.Reshape(shape=(n, s, heads * depth)), b.net(ops.Transpose(perm=(0, 2, 1, 3)), y))
    return b.dense(y, width)


def transformer(b: Builder) -> Graph:
    """Attention and gated layers around a stream with layer or root mean square normalisation."""
    root = bool(b.rng.random() < 0.5)
    heads = int(b.rng.choice([2, 4]))
    x = b.net.input(1, 5, 7)
    x = b.dense(x, 16) * b.rng.uniform(0.5, 1.5, 16)
    for _ in range(2):

        def norm(t: Term) -> Term:
            scale = b.rng.uniform(0.5, 2, 16)
            return (
                b.net(ops.RmsNorm(axis=2), t, scale)
                if root
                else b.net(ops.LayerNorm(axis=2), t, scale, b.rng.normal(size=16))
            )

        x = x + attention(b, norm(x), heads, int(b.rng.choice([2, heads])), 4)
        y = norm(x)
        x = x + b.dense(b.net(ops.Silu(), b.dense(y, 12)) * b.dense(y, 12, bias=False), 16)
    return b.net.returns(b.dense(norm(x), 3))


FAMILIES: dict[str, Callable[[Builder], Graph]] = {
    f.__name__: f for f in (resnet, mobilenet, densenet, inception, shufflenet, resnext, transformer)
}


def coupled(family: str, seed: int, smooth: bool) -> Graph:
    """A network of a family."""
    return FAMILIES[family](Builder(np.random.default_rng(seed), smooth))

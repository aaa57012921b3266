"""Layers with weights for the tests of the passes that merge into them."""

from __future__ import annotations

import numpy as np

from compiler.ops.conv import Conv, ConvTranspose
from compiler.ops.matmul import Dense
from compiler.ops.norm import BatchNorm
from tests.passes.composed import Term

KINDS = (
    "conv",
    "grouped conv",
    "depthwise conv",
    "conv 1d",
    "conv_transpose",
    "grouped conv_transpose",
    "dense",
    "transposed dense",
)


def _rng(x: Term) -> np.random.Generator:
    """The same for the same place in a network, whatever was built before."""
    return np.random.default_rng([7, len(x.net.graph)])


def conv(x: Term, filters: int, *, groups: int = 1, pad: int = 0, bias: bool = True) -> Term:
    """A convolution with a window of 2 and random weights."""
    rng = _rng(x)
    n = x.value.type.rank - 2
    op = Conv(strides=(1,) * n, pads=(pad,) * 2 * n, dilations=(1,) * n, groups=groups)
    w = rng.normal(size=(filters, x.value.type.dims[1] // groups, *[2] * n))
    return x.net(op, x, w, rng.normal(size=filters) if bias else None)


def conv_transpose(x: Term, filters: int, *, groups: int = 1, bias: bool = True) -> Term:
    """A transposed convolution with a window of 3, stride 2 and random weights."""
    rng = _rng(x)
    n = x.value.type.rank - 2
    window = {"strides": (2,) * n, "pads": (1,) * 2 * n, "dilations": (1,) * n, "output_padding": (0,) * n}
    w = rng.normal(size=(x.value.type.dims[1], filters // groups, *[3] * n))
    return x.net(ConvTranspose(groups=groups, **window), x, w, rng.normal(size=filters) if bias else None)


def dense(x: Term, filters: int, *, transposed: bool = False, bias: bool = True) -> Term:
    """A dense layer with random weights."""
    rng = _rng(x)
    w = rng.normal(size=(int(x.value.type.shape[-1]), filters))
    return x.net(Dense(transposed=transposed), x, w.T if transposed else w, rng.normal(size=filters) if bias else None)


def batch_norm(x: Term, *, eps: float = 1e-3) -> Term:
    """A batch normalisation with random statistics."""
    rng = _rng(x)
    c = x.value.type.dims[1]
    scale, bias, mean = (rng.normal(size=c) for _ in range(3))
    return x.net(BatchNorm(eps=eps), x, scale, bias, mean, rng.uniform(0.5, 2, c))


def linear(x: Term, kind: str, *, bias: bool = True) -> Term:
    """A layer of one of the KINDS with six output channels, on an operand with six channels of the right rank."""
    groups = {"grouped conv": 3, "depthwise conv": 6, "grouped conv_transpose": 2}.get(kind, 1)
    if kind.endswith("dense"):
        return dense(x, 6, transposed=kind.startswith("transposed"), bias=bias)
    return (conv_transpose if kind.endswith("transpose") else conv)(x, 6, groups=groups, bias=bias)


def shape_of(kind: str) -> tuple[int, ...]:
    """A shape that a layer of one of the KINDS takes."""
    return {"dense": (5, 6), "transposed dense": (5, 6), "conv 1d": (2, 6, 7)}.get(kind, (2, 6, 5, 4))

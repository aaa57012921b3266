"""Small graphs in 8-bit integers: each kind of layer stays an integer one, and is as near as 8 bits allow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path

import numpy as np
import pytest

from compiler import ops
from compiler.evaluate import evaluate
from compiler.pass_manager import PassManager
from compiler.tensor import Array
from targets.tflite.target import TfLiteTarget
from tests.passes.composed import Net, Term
from tests.passes.weighted import KINDS, batch_norm, conv, dense, linear

Make = Callable[[Net, Term], Term]  # what is tried, on an image of 6 channels or rows of 6 features
RNG = np.random.default_rng(11)
MAX = ops.MaxPool(kernel=(3, 3), strides=(2, 2), dilations=(1, 1), pads=(1, 1, 0, 1))
MEAN = ops.AveragePool(kernel=(3, 3), strides=(2, 2), dilations=(1, 1), pads=(1, 1, 1, 1))


def _linear(kind: str, net: Net, x: Term) -> Term:
    """A layer with weights, on the image in the rank that it takes."""
    if kind.endswith("1d"):
        x = net(ops.Reshape(shape=(1, 6, 64)), x)
    elif kind.endswith("dense"):
        x = net(ops.Transpose(perm=(0, 2, 3, 1)), x)
    return linear(x, kind)


def _signals(net: Net, x: Term) -> Term:
    """Two convolutions of signals, of which the first applies a rectifier."""
    return linear(net(ops.Relu(), _linear("conv 1d", net, x)), "conv 1d")


UNARY: dict[str, Make] = {
    "relu": lambda n, x: n(ops.Relu(), x),
    "relu6": lambda n, x: n(ops.Clip(low=0.0, high=6.0), x * 3.0),
    "clip": lambda n, x: n(ops.Clip(low=-0.4, high=1.2), x),
    "leaky_relu": lambda n, x: n(ops.LeakyRelu(alpha=0.1), x),
    "prelu": lambda n, x: n(ops.PRelu(), x, RNG.uniform(0, 1, (6, 1, 1))),
    "elu": lambda n, x: n(ops.Elu(), x),
    "hard_swish": lambda n, x: n(ops.HardSwish(), x),
    "hard_sigmoid": lambda n, x: n(ops.HardSigmoid(), x),
    "sixth": lambda n, x: n(ops.HardSigmoid(alpha=1 / 6), x),
    "silu": lambda n, x: n(ops.Silu(), x),
    "mish": lambda n, x: n(ops.Mish(), x),
    "gelu": lambda n, x: n(ops.Gelu(), x),
    "tanh": lambda n, x: n(ops.Tanh(), x),
    "sigmoid": lambda n, x: n(ops.Sigmoid(), x),
    "softplus": lambda n, x: n(ops.Softplus(), x),
    "abs": lambda n, x: n(ops.Abs(), x),
    "neg": lambda n, x: n(ops.Neg(), x),
    "exp": lambda n, x: n(ops.Exp(), x),
    "square": lambda _, x: x * x,
    "softmax": lambda n, x: n(ops.Softmax(axis=1), x),
}
MOVES: dict[str, Make] = {
    "pad": lambda n, x: n(ops.Pad(pads=(0, 0, 1, 2, 0, 0, 0, 1), value=0.5), x),
    "mirror": lambda n, x: n(ops.Pad(pads=(0, 0, 1, 2, 0, 0, 0, 1), mode="reflect"), x),
    "max_pool": lambda n, x: n(MAX, x),
    "average_pool": lambda n, x: n(MEAN.with_(pads=(1, 1, 0, 1)), x),
    "padded_average": lambda n, x: n(MEAN.with_(count_include_pad=True), x),
    "global_average": lambda n, x: n(ops.GlobalAveragePool(), x),
    "global_max": lambda n, x: n(ops.GlobalMaxPool(), x),
    "mean": lambda n, x: n(ops.ReduceMean(axes=(1,), keepdims=False), x),
    "sum": lambda n, x: n(ops.ReduceSum(axes=(2,), keepdims=True), x),
    "concat": lambda n, x: n(ops.Concat(axis=1), x, n(ops.Relu(), x), n(ops.Sigmoid(), x)),
    "slice": lambda n, x: n(ops.Slice(starts=(0, 1, 2, 0), ends=(1, 6, 8, 8), steps=(1, 2, 1, 3)), x),
    "transpose": lambda n, x: n(ops.Transpose(perm=(0, 2, 3, 1)), x),
    "tile": lambda n, x: n(ops.Tile(repeats=(1, 1, 2, 1)), x),
    "gather": lambda n, x: n(ops.Gather(axis=1), x, np.array([3, 0, -1])),
    "depth_to_space": lambda n, x: n(ops.DepthToSpace(blocksize=2), conv(x, 8)),
    "where": lambda n, x: n(ops.Where(), RNG.random((8, 8)) < 0.5, x, n(ops.Relu(), x)),
    "max": lambda n, x: n(ops.Max(), x, x * -0.5),
    "min": lambda n, x: n(ops.Min(), x, x * -0.5),
}
PRODUCTS: dict[str, Make] = {
    **{kind: partial(_linear, kind) for kind in KINDS},
    "conv relu": lambda n, x: n(ops.Relu(), conv(x, 5, pad=1)),
    "convs of signals": _signals,
    "conv without bias": lambda _, x: conv(x, 5, bias=False),
    "batch_norm": lambda n, x: batch_norm(n(ops.Relu(), x)),
    "residual": lambda n, x: n(ops.Relu(), conv(conv(x, 6, pad=1), 6) + x),
    "matmul": lambda n, x: n(ops.MatMul(), x, n(ops.Transpose(perm=(0, 1, 3, 2)), x * 0.3)),
    "difference": lambda n, x: x - n(ops.Sigmoid(), x),
    "scaled": lambda _, x: x * RNG.normal(size=(6, 1, 1)) + RNG.normal(size=(6, 1, 1)),
    "norm": lambda n, x: n(ops.LayerNorm(axis=3, eps=1e-5), x, RNG.normal(size=8), RNG.normal(size=8)),
    "local response": lambda n, x: n(ops.LocalResponseNorm(size=3, alpha=0.3), x),
    "classifier": lambda n, x: dense(n(ops.Reshape(shape=(1, 6)), n(ops.GlobalAveragePool(), conv(x, 6))), 4),
    "attention": lambda n, x: n(ops.Attention(scale=0.35, causal=True), x, x, x),
}
EVERY = {**UNARY, **MOVES, **PRODUCTS}
LEAST_DB = {"softmax": 22.0, "local response": 22.0, "norm": 22.0, "mish": 24.0, "exp": 22.0, "attention": 22.0}
ELSE_DB = 27.0


def integers(make: Make, folder: Path) -> tuple[dict[str, int], Array, Array]:
    """The operators of a graph in int8, what it should give, and what it gives."""
    net = Net()
    graph = net.returns(make(net, net.input(1, 6, 8, 8)))
    rows = np.random.default_rng(5).normal(size=(6, 1, 6, 8, 8)).astype(np.float32)
    expected = np.concatenate([evaluate(graph, {"x0": r})["y0"].reshape(1, -1) for r in rows])
    target = TfLiteTarget("int8", calibrate=[{"x0": r} for r in rows], observer="minmax")
    rewritten, _ = PassManager(target.pipeline()).run(graph)
    artifact = target.emit(target.prepare(rewritten), folder / "m.tflite")
    assert [w for w in artifact.warnings if "INTEGER" in w] == []
    return artifact.operators, expected, np.concatenate([artifact.run({"x0": r})["y0"].reshape(1, -1) for r in rows])


@pytest.mark.parametrize("name", EVERY)
def test_layer(name: str, tmp_path: Path) -> None:
    operators, expected, measured = integers(EVERY[name], tmp_path)
    assert not {"DEQUANTIZE", "FILL", "FULLY_CONNECTED"} & set(operators)
    noise = np.square(expected - measured, dtype=np.float64).sum()
    snr = 10 * np.log10(np.square(expected, dtype=np.float64).sum() / noise) if noise else inf
    assert snr > LEAST_DB.get(name, ELSE_DB), f"{snr:.1f} dB with {operators}"


def small_beside(n: Net, x: Term) -> Term:
    """A sum whose step is far below that of its operands."""
    large = x * 1e9
    return n(ops.Sub(), large, large + 0.0) + x * 1e-3


STAY: dict[str, Make] = {
    "comparison": lambda n, x: n(ops.Where(), n(ops.Less(), x * 1e4, x * -1e4), x, 0.0),
    "root": lambda n, x: n(ops.Relu(), n(ops.Sqrt(), x)),
    "difference": small_beside,
}


@pytest.mark.parametrize("name", STAY)
def test_what_would_end_the_process_stays_float(name: str, tmp_path: Path) -> None:
    net = Net()
    graph = net.returns(STAY[name](net, net.input(1, 6, 8, 8)))
    row = np.random.default_rng(5).uniform(-0.9, 1, (1, 6, 8, 8)).astype(np.float32)
    target = TfLiteTarget("int8", calibrate=[{"x0": row}], observer="minmax")
    artifact = target.emit(target.prepare(PassManager(target.pipeline()).run(graph)[0]), tmp_path / "m.tflite")
    assert any("NOT FULL INTEGER" in w for w in artifact.warnings)
    assert artifact.run({"x0": row})["y0"].shape == row.shape


def test_a_comparison_with_zero_is_one_of_integers(tmp_path: Path) -> None:
    operators, expected, measured = integers(
        lambda n, x: n(ops.Where(), n(ops.Less(), x, 0.0), n(ops.Relu(), x * -1.0), x), tmp_path
    )
    assert "LESS" in operators
    assert np.abs(expected - measured).max() < 0.03 * np.abs(expected).max()

"""LimitProduct: clips that change nothing but what the engine makes of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from compiler.ops.activation import Clip
from compiler.ops.quant import DequantizeLinear, QuantizeLinear
from passes.limit_product import LimitProduct
from tests.passes.composed import Net, Term, stays
from tests.passes.windowed import fires
from tests.strategies import seeds


def rounded(x: Term, scale: float, zero: int = 0) -> Term:
    """Quantized and dequantized, in i8."""
    point = np.array(zero, np.int8)
    return x.net(DequantizeLinear(), x.net(QuantizeLinear(dtype="i8"), x, scale, point), scale, point)


@settings(max_examples=20)
@given(seed=seeds())
def test_what_integers_express(seed: int) -> None:
    rng, net = np.random.default_rng(seed), Net()
    zero = int(rng.integers(-128, 128))
    y = rounded(rounded(net.input(20), 0.05) * rounded(net.input(20), 0.03, 7), 0.01, zero)
    (clip,) = fires(LimitProduct(), net.returns(y), rng).after.of(Clip)
    assert isinstance(clip.op, Clip)
    assert np.allclose((clip.op.low, clip.op.high), ((-128 - zero) * 0.01, (127 - zero) * 0.01))


def test_sums_and_products_of_floats_stay() -> None:
    net = Net()
    x, y = net.input(4), net.input(4)
    stays(LimitProduct(), net.returns(rounded(x * y, 0.1), rounded(rounded(x, 0.1) + rounded(y, 0.1), 0.1)))

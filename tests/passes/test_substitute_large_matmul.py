"""SubstituteLargeMatmul: parts of the inner axis."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from compiler.ops.matmul import Dense, MatMul
from passes.substitute_large_matmul import SubstituteLargeMatmul
from tests.passes.composed import Net, stays
from tests.passes.windowed import fires
from tests.strategies import seeds

FEW = SubstituteLargeMatmul(most=7)


@settings(max_examples=30)
@given(seed=seeds())
def test_parts_sum_to_the_product(seed: int) -> None:
    rng, net = np.random.default_rng(seed), Net()
    inner = int(rng.integers(8, 40))
    left, right = ((inner,), (3, inner)), ((inner,), (inner, 4), (2, inner, 4))
    x = net.input(*left[int(rng.integers(2))])
    product = net(MatMul(), x, net.input(*right[int(rng.integers(3))]))
    turned = bool(rng.random() < 0.5)
    w = rng.normal(size=(5, inner) if turned else (inner, 5))
    dense = net(Dense(transposed=turned), net.input(2, 3, inner), w, *([rng.normal(size=5)] if seed % 2 else []))
    after = fires(FEW, net.returns(product, dense), rng).after
    widths = [n.inputs[0].type.dims[-1] for n in after.of(MatMul, Dense) if n.inputs[0] is not None]
    assert max(widths) <= 7 and sum(widths) == 2 * inner


def test_at_the_limit_they_stay() -> None:
    net = Net()
    stays(FEW, net.returns(net(MatMul(), net.input(2, 7), net.input(7, 9))))

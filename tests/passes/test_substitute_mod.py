"""SubstituteMod: the remainder, and how far from it quotients near whole numbers lead."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.evaluate import evaluate
from compiler.ops.elementwise import Mod
from compiler.rewrite import Unobserved
from compiler.tensor import F16, F64, DType
from passes.substitute_mod import SubstituteMod
from tests.passes.composed import Net, becomes, stays


def test_layers() -> None:
    net = Net()
    graph = net.returns(net(Mod(), net.input(5), net.input(5)))
    becomes(SubstituteMod(), graph, {"div": 1, "floor": 1, "mul": 1, "sub": 1})


@pytest.mark.parametrize(("dtype", "step"), [(F64, 1e-12), (F16, 2e-2)])
def test_the_bound_holds(dtype: DType, step: float) -> None:
    """Either the remainder, or a divisor more or less of it."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-20, 20, 20000), rng.uniform(0.5, 4, 20000) * rng.choice([-1, 1], 20000)
    feeds = {"x0": x.astype(dtype.numpy), "x1": y.astype(dtype.numpy)}
    net = Net(dtype)
    graph = net.returns(net(Mod(), net.input(20000), net.input(20000)))
    exact = np.mod(*(v.astype(np.float64) for v in feeds.values()))
    SubstituteMod().run(graph, Unobserved())
    (found,) = evaluate(graph, feeds).values()
    off = np.abs(found.astype(np.float64) - exact)
    whole = np.abs(off - np.abs(feeds["x1"].astype(np.float64)))
    assert np.minimum(off, whole).max() <= step
    assert (off > step).mean() <= (0 if dtype is F64 else 2e-3)


def test_the_other_sign_stays() -> None:
    net = Net()
    stays(SubstituteMod(), net.returns(net(Mod(fmod=True), net.input(5), net.input(5))))

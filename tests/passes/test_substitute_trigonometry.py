"""SubstituteTrigonometry: the same functions, and what is lost in 16 bits."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.op import Op
from compiler.ops.elementwise import Acos, Asin, Atanh, Cosh, Sinh, Tan
from compiler.tensor import F16
from passes._periodic import BOUNDS
from passes.substitute_trigonometry import SubstituteTrigonometry
from tests.passes.approximated import distance
from tests.passes.composed import Net, stays

RANGES = [(Tan(), 1.3), (Asin(), 1.0), (Acos(), 1.0), (Sinh(), 2.0), (Cosh(), 2.0), (Atanh(), 0.999)]


@pytest.mark.parametrize(("op", "end"), RANGES, ids=str)
def test_in_real_arithmetic_they_are_the_same(op: Op, end: float) -> None:
    assert distance(SubstituteTrigonometry(), op, np.linspace(-end, end, 20001)) < 1e-12


def test_the_bound_holds_in_16_bits_and_is_told() -> None:
    found = [distance(SubstituteTrigonometry(), op, np.linspace(-end, end, 20001), F16) for op, end in RANGES]
    assert 0.9 * BOUNDS["composed"] < max(found) <= BOUNDS["composed"]
    assert str(BOUNDS["composed"]) in SubstituteTrigonometry.bound


def test_only_what_is_named() -> None:
    net = Net()
    stays(SubstituteTrigonometry(layers=("tan",)), net.returns(net(Sinh(), net.input(3))))

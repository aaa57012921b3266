"""SubstitutePad: slices and constants next to each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ops.parts import Pad
from passes.substitute_pad import SubstitutePad
from tests.passes.composed import Net, becomes, stays
from tests.passes.windowed import fires

WIDTHS = st.tuples(*[st.integers(0, 8)] * 4).filter(any)


@pytest.mark.parametrize("op", [Pad(pads=(), mode="reflect"), Pad(pads=(), value=-2.5)], ids=("reflect", "constant"))
@settings(max_examples=25)
@given(widths=WIDTHS)
def test_borders(op: Pad, widths: tuple[int, ...]) -> None:
    net = Net()
    pads = (0, *widths[:2], 0, *widths[2:])
    y = net(op.with_(pads=pads), net.input(2, 9, 10))
    assert not fires(SubstitutePad(), net.returns(y), np.random.default_rng(0)).after.of(Pad)


def test_layers() -> None:
    net = Net()
    y = net(Pad(pads=(0, 3, 0, 6), mode="reflect"), net.input(2, 9))
    becomes(SubstitutePad(), net.returns(y), {"concat": 1, "slice": 4})


@pytest.mark.parametrize(
    "op", [Pad(pads=(1, 0, 0, 1)), Pad(pads=(1, 0, 0, 1), mode="edge"), Pad(pads=(2, 0, 0, 1), mode="reflect")], ids=str
)
def test_others_stay(op: Pad) -> None:
    """Zeros and edges; and mirrors that reach around."""
    net = Net()
    stays(SubstitutePad(), net.returns(net(op, net.input(2, 9))))


def test_only_modes_that_are_named() -> None:
    net = Net()
    y = net(Pad(pads=(0, 3, 0, 6), mode="reflect"), net.input(2, 9))
    stays(SubstitutePad(modes=("constant",)), net.returns(y))

"""SubstituteDepthToSpace: a transposed convolution that copies."""

from __future__ import annotations

import pytest

from compiler.ops.shape import DepthToSpace
from passes.substitute_depth_to_space import SubstituteDepthToSpace
from tests.passes.composed import Net, becomes


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("block", [2, 3])
def test_blocks(mode: str, block: int) -> None:
    net = Net()
    x = net.input(2, 2 * block**2, 3, 4)
    graph = net.returns(net(DepthToSpace(blocksize=block, mode=mode), x))
    becomes(SubstituteDepthToSpace(), graph, {"conv_transpose": 1})

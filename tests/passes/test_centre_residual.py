"""CentreResidual: layer normalisations of a stream without mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.graph import Value
from compiler.ops.conv import Conv
from compiler.ops.index import Gather
from compiler.ops.matmul import Dense
from compiler.ops.parts import Concat, Slice
from compiler.ops.shape import Reshape, Transpose
from compiler.tensor import F16, I64
from passes import _stream
from passes.centre_residual import CentreResidual
from tests.passes.blocks import block, layer_norm
from tests.passes.composed import Net, Term, run, stays
from tests.passes.weighted import conv, dense

RNG = np.random.default_rng(3)


def renamed(p: CentreResidual, net: Net, *results: Term) -> int:
    """How many layer normalisations become RMS normalisations; all must."""
    graph = net.returns(*results)
    norms = graph.op_counts["layer_norm"]
    assert run(p, graph).rules == ["stream"]
    assert graph.op_counts["rms_norm"] == norms and "layer_norm" not in graph.op_counts
    return norms


def test_a_vision_transformer() -> None:
    net = Net()
    image = conv(net.input(2, 3, 4, 4), 6)
    rows = net(Transpose(perm=(0, 2, 1)), net(Reshape(shape=(2, 6, 9)), image))
    tokens = net(Concat(axis=1), RNG.normal(size=(2, 1, 6)), rows) + RNG.normal(size=(1, 10, 6)) * 5
    last = layer_norm(block(block(tokens)), bias=False)
    graph_output = dense(net(Gather(axis=1), last, np.array(0)), 3)
    assert renamed(CentreResidual(), net, graph_output) == 5


def test_a_language_model() -> None:
    net = Net()
    table = net(Gather(axis=0), RNG.normal(size=(7, 6)) + 3, np.array([[1, 2, 6, 0]]))
    x = table + RNG.normal(size=(4, 6)) - RNG.normal(size=6)
    assert renamed(CentreResidual(), net, layer_norm(block(x))) == 3


def test_ids_are_inputs() -> None:
    net = Net()
    ids = net.input(2, 4, dtype=I64)
    x = net(Gather(axis=0), RNG.normal(size=(9, 6)) + 3, ids)
    assert renamed(CentreResidual(), net, layer_norm(block(x))) == 3


def test_a_part_of_the_stream() -> None:
    net = Net()
    x = block(dense(net.input(2, 4, 5), 6))
    first = net(Slice(starts=(0, 0, 0), ends=(2, 1, 6), steps=(1, 1, 1)), x)
    assert renamed(CentreResidual(), net, layer_norm(first), layer_norm(x)) == 4


def test_weights_are_centred_once_and_others_stay() -> None:
    net = Net()
    x = dense(net.input(2, 4, 5), 6)
    graph = net.returns(dense(layer_norm(x), 3), dense(layer_norm(x), 3))
    run(CentreResidual(), graph)
    weights = [n.inputs[1].data for n in graph.of(Dense) if n.inputs[1] is not None and n.inputs[1].data is not None]
    means = {w.shape[1]: np.abs(w.mean(1)).max() for w in weights}
    assert means[6] < 1e-6
    assert means[3] > 1e-3


def test_one_normalisation_is_too_few() -> None:
    net = Net()
    graph = net.returns(layer_norm(dense(net.input(2, 4, 5), 6)))
    stays(CentreResidual(), graph)
    assert run(CentreResidual(min_norms=1), graph).rules == ["stream"]


GROUPED = Conv(strides=(1, 1), pads=(0,) * 4, dilations=(1, 1), groups=2)
OTHER: dict[str, Callable[[Term], tuple[Term, ...]]] = {
    "the stream is an output": lambda x: (layer_norm(block(x)), x),
    "read by another layer": lambda x: (layer_norm(block(x)), x * x),
    "written by another layer": lambda x: (layer_norm(block(x) + x.net.input(2, 4, 6)),),
    "written by a normalisation": lambda x: (layer_norm(block(x + layer_norm(x))),),
    "scaled on the way": lambda x: (layer_norm(block(x) * 2),),
    "cut along its features": lambda x: (
        layer_norm(block(x)),
        layer_norm(x.net(Slice(starts=(0, 0, 0), ends=(2, 4, 3), steps=(1, 1, 1)), x)),
    ),
    "joined along its features": lambda x: (layer_norm(block(x)), layer_norm(x.net(Concat(axis=2), x, x))),
    "spread along its features": lambda x: (layer_norm(block(x) + dense(x.net.input(2, 4, 5), 1)),),
    "a computed weight": lambda x: (layer_norm(block(x) + x.net(Dense(), x.net.input(2, 4, 5), x.net.input(5, 6))),),
}


@pytest.mark.parametrize("readers", OTHER.values(), ids=OTHER.keys())
def test_others_stay(readers: Callable[[Term], tuple[Term, ...]]) -> None:
    net = Net()
    stays(CentreResidual(), net.returns(*readers(dense(net.input(2, 4, 5), 6))))


def test_groups_of_features_stay() -> None:
    net = Net()
    image = net(GROUPED, net.input(2, 4, 2, 2), RNG.normal(size=(6, 2, 1, 1)))
    rows = net(Transpose(perm=(0, 2, 1)), net(Reshape(shape=(2, 6, 4)), image))
    stays(CentreResidual(), net.returns(layer_norm(block(rows))))


def test_half_precision_stays() -> None:
    net = Net(F16)
    stays(CentreResidual(), net.returns(layer_norm(block(dense(net.input(2, 4, 5), 6)))))


def test_a_stream_that_stays_is_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Value] = []

    def counted(stream: _stream.Stream, v: Value, axis: int) -> list[tuple[Value, int]] | None:
        seen.append(v)
        return neighbours(stream, v, axis)

    neighbours = _stream._neighbours
    monkeypatch.setattr(_stream, "_neighbours", counted)
    net = Net()
    x = first = dense(net.input(2, 4, 5), 6)
    for _ in range(20):
        x = x + dense(layer_norm(x), 6)
    stays(CentreResidual(), net.returns(layer_norm(x), first))
    assert len(seen) <= 5 * 21


def test_a_stream_beside_one_that_stays() -> None:
    net = Net()
    shared = RNG.normal(size=(4, 6))
    left, right = (dense(net.input(2, 4, 5), 6) + shared for _ in range(2))
    graph = net.returns(layer_norm(left), left, layer_norm(block(right)))
    run(CentreResidual(), graph)
    assert graph.op_counts["rms_norm"] == 3 and graph.op_counts["layer_norm"] == 1

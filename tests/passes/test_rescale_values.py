"""RescaleValues: what halves cannot hold is stored smaller by a power of two, and the results stay what they were."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.compare import compare_all
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.tensor import Array
from passes.rescale_values import RescaleValues
from tests.passes.composed import Net, Record, Term

HALF = 65504.0


def values_of(graph: Graph, feeds: Mapping[str, Array]) -> dict[Value, Array]:
    """What a run gives for every value."""
    twin = graph.clone()
    values = [v for node in twin.nodes for v in node.outputs]
    twin.set_outputs(values, [f"y{i}" for i in range(len(values))])
    own = [v for node in graph.nodes for v in node.outputs]
    return dict(zip(own, evaluate(twin, dict(feeds)).values(), strict=True))


def peaks_of(graph: Graph, feeds: Mapping[str, Array]) -> dict[Value, float]:
    return {v: float(np.abs(a).max()) for v, a in values_of(graph, feeds).items() if a.dtype.kind == "f"}


def repaired(graph: Graph, scale: float = 1.0, limit: float = HALF, inside: int = 0) -> Record:
    """The pass with the peaks of one run: fp32 results above 120 dB of what they were, and all values that hold."""
    rng = np.random.default_rng(0)
    feeds = {v.name: (rng.standard_normal(v.type.dims) * scale).astype(np.float32) for v in graph.inputs}
    before, record = evaluate(graph, feeds), Record()
    RescaleValues(accumulator=limit, peaks=lambda g: peaks_of(g, feeds)).run(graph, record)
    graph.verify()
    assert min(c.psnr_db for c in compare_all(before, evaluate(graph, feeds))) > 120
    beyond = [v for v, peak in peaks_of(graph, feeds).items() if peak > HALF and not v.n_out]
    assert len(beyond) <= inside
    return record


def weight(*shape: int, size: float = 1.0) -> Array:
    return (np.random.default_rng(5).standard_normal(shape) * size).astype(np.float32)


def conv(net: Net, x: Term, channels: int, size: float) -> Term:
    op = ops.Conv(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
    return net(op, x, weight(channels, 4, 3, 3, size=size), weight(channels))


def test_a_chain_is_scaled_and_undone_in_the_next_layer() -> None:
    net = Net()
    x = net(ops.Relu(), conv(net, net.input(1, 4, 8, 8), 4, 1e4))
    x = net(ops.MaxPool(kernel=(2, 2), strides=(2, 2), pads=(0,) * 4, dilations=(1, 1)), x)
    graph = net.returns(conv(net, x, 4, 1e-4))
    assert repaired(graph).rules == ["rescale"]
    assert graph.op_counts == {"conv": 2, "max_pool": 1, "relu": 1}  # no layer more
    assert repaired(graph).rules == []


def test_a_power_of_two_keeps_the_bits() -> None:
    net = Net()
    graph = net.returns(conv(net, net(ops.Relu(), conv(net, net.input(1, 4, 8, 8), 4, 3e4)), 4, 1e-4))
    feeds = {"x0": weight(1, 4, 8, 8)}
    before = evaluate(graph, feeds)["y0"]
    RescaleValues(peaks=lambda g: peaks_of(g, feeds)).run(graph, Record())
    assert np.array_equal(evaluate(graph, feeds)["y0"], before)


def test_residual_sums_share_their_exponent() -> None:
    net = Net()
    x = conv(net, net.input(1, 4, 8, 8), 4, 1.0)
    y = x + conv(net, net(ops.Relu(), x), 4, 1e4)
    graph = net.returns(net(ops.Sigmoid(), conv(net, y, 4, 1e-6)))
    assert repaired(graph).rules == ["rescale"]
    assert graph.op_counts == {"add": 1, "conv": 3, "relu": 1, "sigmoid": 1}


def test_normalisations_take_the_factor_into_their_epsilon() -> None:
    net = Net()
    x = net(ops.Dense(), net.input(4, 8), weight(8, 8, size=1e5))
    graph = net.returns(net(ops.LayerNorm(axis=1), x, np.ones(8, np.float32)))
    repaired(graph)
    (norm,) = graph.of(ops.LayerNorm)
    assert isinstance(norm.op, ops.LayerNorm)
    assert norm.op.eps < 1e-7
    assert len(graph) == 2


def test_local_response_norm_takes_it_into_alpha() -> None:
    net = Net()
    x = net(ops.LocalResponseNorm(size=3, alpha=1e-9), conv(net, net.input(1, 4, 8, 8), 4, 1e5))
    graph = net.returns(conv(net, x, 4, 1e-5))
    repaired(graph)
    assert graph.op_counts == {"conv": 2, "local_response_norm": 1}


def test_logits_are_compared_before_they_are_restored() -> None:
    net = Net()
    graph = net.returns(net(ops.Softmax(axis=1), net(ops.Dense(), net.input(4, 8), weight(8, 8, size=1e6))))
    repaired(graph)
    assert graph.op_counts["reduce_max"] == 1


def test_a_large_output_is_restored() -> None:
    net = Net()
    graph = net.returns(net(ops.Relu(), net(ops.Dense(), net.input(4, 8), weight(8, 8, size=1e7))))
    repaired(graph)
    assert graph.op_counts["mul"] == 1


def test_squares_products_and_moves() -> None:
    net = Net()
    x = net.input(4, 8) * 1000.0
    y = net(ops.ReduceMean(axes=(1,)), x * x)
    z = net(ops.Concat(axis=1), net(ops.Reshape(shape=(4, 1)), net(ops.Relu(), y)), y + 3.0)
    graph = net.returns(net(ops.Tanh(), net(ops.Dense(), z, weight(2, 3, size=1e-6))))
    assert repaired(graph).rules == ["rescale"]


def test_weights_that_halves_lack_are_split() -> None:
    net = Net()
    x = net(ops.Dense(), net.input(4, 8), weight(8, 8))
    y = x + net(ops.Dense(), x, weight(8, 8, size=1e6))
    graph = net.returns(net(ops.LayerNorm(axis=1, eps=0.0), y, np.ones(8, np.float32)))
    repaired(graph)
    assert max(float(np.abs(v.data).max()) for v in graph.constants if v.data is not None) <= HALF
    assert graph.op_counts["mul"] == 1


def test_without_data_only_what_is_proved_is_repaired() -> None:
    net = Net()
    x = net(ops.Sigmoid(), net.input(4, 8))
    graph = net.returns(net(ops.Dense(), (x + 1e6), weight(8, 8, size=1e-6)))
    record = Record()
    assert RescaleValues().run(graph, record) == 1
    net = Net()
    assert RescaleValues().run(net.returns(net(ops.Dense(), net.input(4, 8), weight(8, 8, size=1e6))), record) == 0


KINDS = ("dense", "relu", "add", "sub", "max", "norm", "sigmoid", "gate", "softmax")


def layer(net: Net, kind: str, x: Term, other: Term, size: float) -> Term:
    """One more layer of a kind."""
    if kind == "dense":
        return net(ops.Dense(), x, weight(4, 4, size=size), weight(4))
    if kind == "norm":
        return net(ops.LayerNorm(axis=1), x, np.ones(4, np.float32))
    if kind == "softmax":
        return net(ops.Softmax(axis=1), x * 1e-6)
    if kind == "gate":
        return x * net(ops.Tanh(), other)
    if kind in ("relu", "sigmoid"):
        return net(ops.Relu() if kind == "relu" else ops.Sigmoid(), x)
    return {"add": x + other, "sub": x - other * 0.5, "max": net(ops.Max(), x, other)}[kind]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_random_chains_are_what_they_were(data: st.DataObject) -> None:
    net = Net()
    sizes = st.sampled_from([1e-4, 1.0, 1e4])
    terms = [net(ops.Dense(), net.input(3, 4), weight(4, 4, size=data.draw(st.sampled_from([1.0, 300.0, 1e5]))))]
    for _ in range(data.draw(st.integers(1, 7))):
        x, other = (data.draw(st.sampled_from(terms)) for _ in range(2))
        terms.append(layer(net, data.draw(st.sampled_from(KINDS)), x, other, data.draw(sizes)))
    repaired(net.returns(terms[-1]), inside=len(net.graph))

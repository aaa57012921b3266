"""The doctor names a cause only where its numbers show it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from compiler.calibrate.trial import Trial
from compiler.doctor.causes import CAUSES
from compiler.doctor.examine import examine
from compiler.graph import Graph, Value
from compiler.ops.activation import HardSwish, Relu
from compiler.ops.elementwise import Add, Mul, Pow, Sub
from compiler.ops.matmul import Dense
from compiler.ops.parts import Concat, Pad
from compiler.ops.pool import AveragePool
from compiler.ops.reduce import ReduceMean
from compiler.ops.softmax import Softmax
from compiler.quantize import asymmetric, symmetric
from compiler.tensor import Array
from tests.doctor_graphs import (
    IMAGES,
    ROWS,
    VECTORS,
    Make,
    all_causes,
    causes,
    conv,
    dense,
    diagnosis,
    gated,
    normal,
    number,
    quantized_graph,
    shifted,
    through,
    uniform,
)

SPIKED = np.where(np.arange(ROWS * 64).reshape(ROWS, 64) % 1531 == 7, 60, VECTORS).astype(np.float32)
COLUMNS = (VECTORS * np.geomspace(1, 1e3, 64)).astype(np.float32)


def padded(fill: float) -> Make:
    def make(graph: Graph, x: Value) -> Value:
        (y,) = graph.add(Pad(pads=(0, 0, 0, 2), value=fill), dense(graph, x), names=["pad"])
        return y

    return make


def joined(times: float) -> Make:
    def make(graph: Graph, x: Value) -> Value:
        parts = [dense(graph, x, 8), dense(graph, x, 8, scale=times)]
        parts[0].name = "narrow"
        return graph.add(Concat(axis=1), *parts)[0]

    return make


def pooled(size: int) -> Make:
    def make(graph: Graph, x: Value) -> Value:
        pool = AveragePool(kernel=(size, size), strides=(size, size), pads=(0, 0, 0, 0), dilations=(1, 1))
        return graph.add(pool, conv(graph, x, normal(4, 2, 3, 3)), names=["pool"])[0]

    return make


def swished(low: float) -> Make:
    def make(graph: Graph, x: Value) -> Value:
        w = np.eye(8, dtype=np.float32)
        shifted = graph.add(Add(), dense(graph, x, w=w), number(graph, low), names=["before"])[0]
        return graph.add(HardSwish(), shifted)[0]

    return make


def spread(times: float) -> Make:
    def make(graph: Graph, x: Value) -> Value:
        scales = np.geomspace(1, times, 8).astype(np.float32)
        y = conv(graph, x, np.ones((8, 1, 3, 3), np.float32) * scales[:, None, None, None], groups=8)
        return conv(graph, y, (1 / scales)[None, :, None, None].astype(np.float32))

    return make


def dead(share: float) -> Make:
    def make(graph: Graph, x: Value) -> Value:
        bias = np.where(np.arange(8) < 8 * share, -100, 1).astype(np.float32)
        (y,) = graph.add(Relu(), conv(graph, x, normal(8, 2, 3, 3), bias))
        return y

    return make


def attended(scale: float) -> Make:
    def make(graph: Graph, x: Value) -> Value:
        return graph.add(Softmax(axis=1), dense(graph, x, 8, scale=scale))[0]

    return make


def biased(bias: float) -> Make:
    """The bias is in a channel that is worth nothing but for it."""

    def make(graph: Graph, x: Value) -> Value:
        w = normal(8, 8)
        operands = [x, graph.const(w), graph.const(np.full(8, bias, np.float32))]
        (y,) = graph.add(Dense(), *operands, names=["dense"])
        return graph.add(Sub(), y, number(graph, bias))[0]

    return make


def masked(mask: float) -> Make:
    def make(graph: Graph, x: Value) -> Value:
        hidden = np.where(np.arange(8) == 7, mask, 0).astype(np.float32)
        return graph.add(Add(), dense(graph, x), graph.const(hidden), names=["masked"])[0]

    return make


def weighed(outlier: float) -> Make:
    def make(graph: Graph, x: Value) -> Value:
        w = uniform(64, 8, low=-1, high=1) / 8
        w[3] = outlier  # of every channel
        return dense(graph, x, w=w)

    return make


def added(times: float) -> Make:
    def make(graph: Graph, x: Value) -> Value:
        small, large = dense(graph, x), dense(graph, x, scale=times)
        return graph.add(Add(), small, large, names=["sum"])[0]

    return make


def varied(mean: float) -> Make:
    """A variance as the difference of two means."""

    def make(graph: Graph, x: Value) -> Value:
        (x,) = graph.add(Add(), x, number(graph, mean))
        (square,) = graph.add(Mul(), x, x)
        (first,) = graph.add(ReduceMean(axes=(1,)), square, names=["mean of squares"])
        (second,) = graph.add(ReduceMean(axes=(1,)), x)
        return graph.add(Sub(), first, graph.add(Mul(), second, second)[0], names=["variance"])[0]

    return make


def inverted(least: float) -> Make:
    def make(graph: Graph, x: Value) -> Value:
        (y,) = graph.add(Mul(), x, x)
        (y,) = graph.add(Add(), y, number(graph, least), names=["sum"])
        return graph.add(Pow(), y, number(graph, -0.5))[0]

    return make


CASES: Sequence[tuple[str, str, Make, Array, Make, Array]] = [
    ("padding", "dense", padded(-300.0), VECTORS, padded(0.5), VECTORS),
    ("concat-of-unlike-ranges", "narrow", joined(50.0), VECTORS, joined(1.1), VECTORS),
    ("shared-scale", "pool", pooled(8), IMAGES, pooled(1), IMAGES),
    ("activation-tail", "before", swished(-30.0), VECTORS[:, :8] * 33, swished(0.0), VECTORS[:, :8] * 2),
    ("channel-spread", "conv", spread(1e3), uniform(ROWS, 8, 6, 6), spread(2.0), uniform(ROWS, 8, 6, 6)),
    ("channel-spread", "x", through, COLUMNS, through, VECTORS),
    ("dead-channels", "?", dead(0.5), IMAGES, dead(0.0), IMAGES),
    ("softmax-logits", "dense", attended(40.0), VECTORS, attended(1.0), VECTORS),
    ("fixed-scale", "gate", gated(-5.0), VECTORS, gated(0.0), VECTORS),
    ("bias-scale", "dense", biased(3e6), VECTORS[:, :8] * 1e-3, biased(1.0), VECTORS[:, :8]),
    ("mask-values", "masked", masked(-1e6), VECTORS, masked(-1.0), VECTORS),
    ("weight-outlier", "dense", weighed(30.0), VECTORS, weighed(0.1), VECTORS),
    ("outlier", "x", through, SPIKED, through, VECTORS),
    ("unlike-terms", "sum", added(300.0), VECTORS, added(1.0), VECTORS),
    ("cancellation", "mean of squares", varied(20.0), VECTORS, varied(0.0), VECTORS),
    ("inverse-of-zero", "sum", inverted(1e-4), VECTORS[:, :8], inverted(0.5), VECTORS[:, :8]),
]


@pytest.mark.parametrize(("cause", "layer", "ill", "rows", "sound", "others"), CASES, ids=[c[0] for c in CASES])
def test_the_cause_is_named_where_it_is_one(
    cause: str, layer: str, ill: Make, rows: Array, sound: Make, others: Array
) -> None:
    found = diagnosis(ill, rows)
    blamed = [p for p in found.layers if cause in causes(p)]
    assert blamed, [(p.op, p.name, causes(p), p.known) for p in found.layers]
    finding = next(f for f in blamed[0].findings if f.cause == cause)
    assert layer in ("?", *(p.name for p in blamed))
    assert finding.words and finding.remedy and finding.evidence
    assert cause not in all_causes(diagnosis(sound, others))


def saturating(share: float) -> tuple[Graph, Trial]:
    """A dense layer whose integers reach only a share of its numbers."""
    graph, trial = quantized_graph(through, VECTORS)
    (y,) = graph.outputs
    low, high = trial.ranges(graph)[y]
    y.type = y.type._replace(quant=asymmetric(share * low, share * high))
    return graph, trial


def test_saturation_is_told_from_rounding() -> None:
    found = examine(*saturating(0.3))
    assert found.layers[0].op == "dense" and causes(found.layers[0]) == ["saturation"]
    finding = found.layers[0].findings[0]
    assert finding.evidence["share"] > 0.1 and finding.gain is not None and finding.gain > 6
    assert "saturation" not in all_causes(examine(*saturating(1.0)))


def test_a_range_that_nobody_uses_is_told() -> None:
    found = examine(*saturating(16.0))
    assert causes(found.layers[0]) == ["unused-range"]
    assert found.layers[0].findings[0].gain == pytest.approx(24, abs=2)


def test_weights_with_one_scale_for_unlike_channels() -> None:
    def make(graph: Graph, x: Value) -> Value:
        return dense(graph, x, w=normal(64, 8) * np.geomspace(1e-3, 1, 8).astype(np.float32))

    graph, trial = quantized_graph(make, VECTORS)
    (w,) = [v for v in graph.constants if v.type.quant is not None]
    assert "weight-spread" not in all_causes(examine(graph, trial))
    w.type = w.type._replace(quant=symmetric([float(np.abs(np.asarray(w.data)).max())], None))
    graph.outputs[0].type = graph.outputs[0].type._replace(quant=None)
    (finding, *_) = examine(graph, trial).layers[-1].findings or examine(graph, trial).layers[0].findings
    assert finding.cause == "weight-spread" and finding.evidence["axis"] == 1


def test_weights_alone_are_a_cause_where_nothing_is_wrong_with_them() -> None:
    graph, trial = quantized_graph(through, VECTORS)
    for v in (*graph.inputs, *graph.outputs):
        v.type = v.type._replace(quant=None)
    (layer,) = examine(graph, trial).layers
    assert causes(layer) == ["coarse-weights"] and layer.dtype == "f32"
    assert layer.share == 1.0


def test_errors_of_one_sign_are_told_in_layers_and_in_reductions() -> None:
    graph, trial, floats = shifted(0.05)
    found = examine(graph, trial, floats)
    by_op = {p.op: causes(p) for p in found.layers}
    assert "shifted-errors" in by_op["conv"] and "long-reduction" in by_op["reduce_mean"]
    graph, trial, floats = shifted(0.0)
    assert not all_causes(examine(graph, trial, floats)) & {"shifted-errors", "long-reduction"}


def test_every_cause_has_a_test() -> None:
    named = {c[0] for c in CASES} | {"saturation", "unused-range", "weight-spread", "coarse-weights"}
    assert set(CAUSES) == named | {"shifted-errors", "long-reduction"}


def test_a_tail_that_saturates_on_purpose_is_no_fault() -> None:
    found = examine(*quantized_graph(swished(-30.0), VECTORS[:, :8] * 33, saturate=True))
    assert not {"saturation", "activation-tail"} & all_causes(found)

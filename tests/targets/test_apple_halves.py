"""16-bit floats in executed Core ML packages: overflow is repaired, what stays is named, nothing is left in 32 bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.api import Compiled, compile_model
from compiler.errors import UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.onnx_export import export_bytes
from compiler.tensor import Array
from passes.rescale_values import RescaleValues
from targets.apple import engine, halves
from targets.coreml.package import read_package
from targets.coreml.values import tensor_type
from tests.passes.composed import Net, Term

WITHOUT = ("rescale-values", "rescale-norms", "raise-epsilons", "bound-masks", "scale-scores")
MODELS = Path(__file__).parent.parent / "models"
PORTS = ("cast", "reshape", "expand_dims", "squeeze")
Make = Callable[[Net, Term], Term]


def weight(*shape: int, size: float = 1.0) -> Array:
    return (np.random.default_rng(5).standard_normal(shape) * size).astype(np.float32)


def graph_of(make: Make, *shape: int) -> Graph:
    net = Net()
    return net.returns(make(net, net.input(*shape)))


def feeds_of(graph: Graph, scale: float = 1.0, seed: int = 3) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {v.name: (rng.standard_normal(v.type.dims) * scale).astype(np.float32) for v in graph.inputs}


def worst(graph: Graph, feeds: Mapping[str, Array], **options: Any) -> tuple[float, Compiled]:  # Any: what targets take
    """PSNR of the executed package in dB."""
    done = compile_model(export_bytes(graph), "ane", verify_data=feeds, **options)
    return min(c.psnr_db for c in done.report.verification or ()), done


def exploding(net: Net, x: Term) -> Term:
    """Layers whose numbers grow by a hundred each, and a normalisation."""
    conv = ops.Conv(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
    for i in range(4):
        x = net(ops.Relu(), net(conv, x, weight(8, 8, 3, 3, size=12.0), weight(8) * float(10**i)))
    x = net(ops.Reshape(shape=(1, 8)), net(ops.GlobalAveragePool(), x))
    return net(ops.LayerNorm(axis=1), x, weight(8), weight(8))


FAULTS: dict[str, tuple[Make, tuple[int, ...], float]] = {
    "growing sums": (exploding, (1, 8, 8, 8), 1.0),
    "root mean square": (lambda n, x: n(ops.RmsNorm(axis=1), x, weight(16)), (4, 16), 500.0),
    "length": (lambda n, x: n(ops.LpNormalize(axis=1), x), (4, 16), 3000.0),
    "small epsilon": (lambda n, x: n(ops.LayerNorm(axis=1, eps=1e-12), x * 0.0, weight(16), weight(16)), (4, 16), 1.0),
    "scores": (
        lambda n, x: n(ops.Softmax(axis=1), n(ops.MatMul(), x, n(ops.Transpose(perm=(1, 0)), x)) / 1e4), (4, 16), 200.0,
    ),
    "mask": (lambda n, x: n(ops.Softmax(axis=1), x + np.array([0, -1e38, 0, -np.inf], np.float32)), (4, 4), 1.0),
    "certain": (lambda n, x: n(ops.Dense(), n(ops.Sigmoid(), x) + 1e6, weight(16, 4) * 1e-6), (4, 16), 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_repaired(name: str) -> None:
    make, shape, scale = FAULTS[name]
    graph = graph_of(make, *shape)
    feeds = feeds_of(graph, scale)
    after, done = worst(graph, feeds)
    assert after > 50, done.report.losses
    assert np.isfinite(done.run(feeds)["y0"]).all()


@pytest.mark.parametrize("name", ["growing sums", "root mean square", "small epsilon", "scores"])
def test_without_the_passes_they_are_faults(name: str) -> None:
    make, shape, scale = FAULTS[name]
    graph = graph_of(make, *shape)
    before, _ = worst(graph, feeds_of(graph, scale), skip=WITHOUT)
    assert before < 45


@settings(deadline=None, max_examples=15)
@given(sizes=st.lists(st.integers(-2, 7), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_dense_chains_of_any_size(sizes: list[int], seed: int) -> None:
    """Weights of 10^-2 to 10^7 one after another, with residual sums, and a normalisation at the end."""

    def make(net: Net, x: Term) -> Term:
        rng = np.random.default_rng(seed)
        for size in sizes:
            w = (rng.standard_normal((8, 8)) * 10.0**size / 3).astype(np.float32)
            y = net(ops.Relu(), net(ops.Dense(), x, w))
            x = y if rng.random() < 0.5 else y + x
        return net(ops.LayerNorm(axis=1, eps=0.0), x, np.ones(8, np.float32))

    graph = graph_of(make, 4, 8)
    feeds = feeds_of(graph)
    if not np.isfinite(evaluate(graph, feeds)["y0"]).all() or sum(sizes) > 18:
        return
    db, done = worst(graph, feeds, calibrate=[feeds])
    assert np.isfinite(done.run(feeds)["y0"]).all()
    assert db > 35  # weights and sums in halves, and differences of a few numbers


def test_data_shows_what_random_inputs_do_not() -> None:
    graph = graph_of(lambda n, x: n(ops.LayerNorm(axis=1), n(ops.Dense(), x, weight(16, 16)), weight(16)), 4, 16)
    feeds = feeds_of(graph, 1e4)
    blind, _ = worst(graph, feeds)
    sighted, done = worst(graph, feeds, calibrate=[feeds])
    assert blind < 0
    assert sighted > 50
    assert [e.pass_name for e in done.ledger.entries if e.status == "applied"].count("rescale-values") == 1


def test_random_inputs_are_not_tried_on_models_that_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def peaks() -> Mapping[Value, float]:
        (step,) = (s for s in halves.steps(engine.chip("A14")) if isinstance(s, RescaleValues))
        assert step.peaks is not None
        return step.peaks(graph)

    graph = graph_of(exploding, 1, 8, 8, 8)
    assert max(peaks().values()) > 1e5
    monkeypatch.setattr(halves, "MOST_WORK", 1)
    assert peaks() == {}


def test_what_stays_risky_is_named() -> None:
    graph = graph_of(lambda n, x: n(ops.Log(), n(ops.Sigmoid(), x) + 1e-10), 4, 16)
    _, done = worst(graph, feeds_of(graph))
    assert any("constant proved" in w for w in done.artifact.warnings)
    found = halves.found(done.graph, engine.chip("A14"))
    assert "lost constant" in {r.kind for r in found}


def test_other_processors_hold_no_more() -> None:
    """Re-authored layers are for the engine; what 16-bit floats need is for the GPU as well."""
    counts = [
        compile_model(MODELS / "engine" / "bert_encoder.onnx", "ane", units=units, verify="off").ledger.counts()
        for units in ("all", "cpu-and-gpu")
    ]
    assert all(count["bound-masks"] == 1 and count["raise-epsilons"] == 5 for count in counts)
    assert ["channels-first" in count for count in counts] == [True, False]


def test_data_is_for_halves_and_integers() -> None:
    graph = graph_of(lambda n, x: n(ops.Relu(), x), 4, 4)
    with pytest.raises(UsageError, match="--calibrate is for"):
        compile_model(export_bytes(graph), "ane", precision="fp32", calibrate="synthetic")


def test_limits_are_those_of_the_family() -> None:
    old, new = halves.limits(engine.chip("A14")), halves.limits(engine.chip("M4"))
    assert (old.sliced, new.sliced) == (4094.0, 65504.0)
    assert old.accumulator == new.accumulator == 32768.0
    assert old.exponential == 11.094


def wide_tensors(path: Path) -> list[str]:
    """Tensors of 32-bit floats in a package, but for inputs, outputs, and what only gives these another shape."""
    spec, _ = read_package(path)
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    given, results = {entry.name for entry in function.inputs}, set(block.outputs)
    left = []
    for operation in block.operations:
        reads = {b.name for argument in operation.inputs.values() for b in argument.arguments if b.name}
        for output in operation.outputs:
            if tensor_type(output.type)[0] != "fp32":
                continue
            if operation.type in PORTS and (output.name in results or reads & given):
                given.add(output.name)
                continue
            left.append(f"{operation.type} {output.name}")
    return left


HALF_MODELS = sorted([*MODELS.glob("*.onnx"), *(MODELS / "engine").glob("*.onnx")])


@pytest.mark.parametrize("path", HALF_MODELS, ids=lambda p: p.stem)
def test_no_tensor_of_32_bits_survives(path: Path, tmp_path: Path) -> None:
    if path.stem.endswith("_dyn") or path.stem == "ppocr_v2_angle_cls":
        pytest.skip("its sizes are not fixed")
    done = compile_model(path, "ane", tmp_path / "m.mlpackage", precision="fp16", verify="off")
    assert wide_tensors(done.path) == []

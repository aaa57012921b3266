"""Weights with zeros in Core AI assets: a mask and the numbers that are left, executed by Apple's runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.api import compile_model
from compiler.compare import compare
from compiler.errors import UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ops.matmul import Dense
from compiler.rewrite import Unobserved
from compiler.simulate import simulated
from passes._sparse import bytes_of
from passes.annotate_weights import AnnotateWeights
from targets.coreai.artifact import CoreAIArtifact
from targets.coreai.target import CoreAITarget
from tests.passes.composed import Net, inputs_of
from tests.real_models import real_model
from tests.targets.test_coreml_sparse import net, thinned

pytest.importorskip("coreai")

MASKED = (None, "int8", "palette2", "palette3", "palette4", "palette6", "palette8")


def emitted(
    graph: Graph, path: Path, precision: str = "fp16", weights: str | None = None, sparse: str | None = None
) -> CoreAIArtifact:
    target = CoreAITarget(precision, weights, sparse=sparse)
    for step in target.pipeline():
        if isinstance(step, AnnotateWeights):
            step.run(graph, Unobserved())
    return target.emit(target.prepare(graph), path / "m.aimodel")


def size(path: Path) -> int:
    return (path / "m.aimodel" / "main.mlirb").stat().st_size


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("kind", MASKED)
def test_the_executed_asset_computes_with_these_weights(kind: str | None, precision: str, tmp_path: Path) -> None:
    graph = net(0.6, seed=1)
    feeds = inputs_of(graph, seed=2)
    artifact = emitted(graph, tmp_path, precision, weights=kind)
    expected = evaluate(simulated(graph).graph, feeds)
    for name, result in artifact.run(feeds).items():
        assert compare(name, expected[name], result).psnr_db > (55 if precision == "fp16" else 90)
    assert len(artifact.savings) == 6
    masked = size(tmp_path)
    assert emitted(net(0.6, seed=1), tmp_path, precision, weights=kind, sparse="off").savings == []
    assert masked < size(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=10)
@given(
    seed=st.integers(0, 999),
    rows=st.integers(30, 70),
    columns=st.integers(61, 97),
    share=st.sampled_from([0.3, 0.5, 0.75, 0.95, 1.0]),
    transposed=st.booleans(),
)
def test_floats_come_back_to_the_bit(
    seed: int, rows: int, columns: int, share: float, transposed: bool, tmp_path: Path
) -> None:
    """A unit matrix times a weight; of all zeros one is stored."""
    w, made = thinned(np.random.default_rng(seed), (rows, columns), share), Net()
    graph = made.returns(made(Dense(transposed=transposed), made.input(rows, rows), w.T.copy() if transposed else w))
    artifact = emitted(graph, tmp_path, "fp32")
    assert len(artifact.savings) == (w.size >= 2048)
    (result,) = artifact.run({graph.inputs[0].name: np.eye(rows, dtype=np.float32)}).values()
    np.testing.assert_array_equal(result, w)


def test_integers_of_4_bits_have_no_mask(tmp_path: Path) -> None:
    target = CoreAITarget(weights="int4")
    assert target.sparse_from is None and CoreAITarget(weights="int8").sparse_from == CoreAITarget().sparse_from == 0.25
    assert emitted(net(0.7), tmp_path, weights="int4").savings == []


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_what_has_few_zeros_is_stored_as_ever(share: float, tmp_path: Path) -> None:
    emitted(net(share), tmp_path)
    found = (tmp_path / "m.aimodel" / "main.mlirb").read_bytes()
    emitted(net(share), tmp_path, sparse="off")
    assert (tmp_path / "m.aimodel" / "main.mlirb").read_bytes() == found


@pytest.mark.parametrize(("kind", "bits"), [(None, 16), ("int8", 8), ("palette6", 6)])
def test_what_a_weight_is_said_to_take_is_what_it_takes(kind: str | None, bits: int, tmp_path: Path) -> None:
    w = thinned(np.random.default_rng(0), (256, 128), 0.7)

    def built(sparse: str | None) -> int:
        made = Net()
        emitted(made.returns(made(Dense(), made.input(2, 256), w)), tmp_path, weights=kind, sparse=sparse)
        return size(tmp_path)

    saved = bytes_of(w, bits, None) - bytes_of(w, bits)
    assert built("off") - built(None) == pytest.approx(saved, rel=0.1)


def test_a_pruned_network_is_smaller_and_the_same(tmp_path: Path) -> None:
    model = real_model("vit_fashion_b1")
    pruned = tmp_path / "p.onnx"
    passes = "default,prune-weights(amount=0.7)"
    compile_model(model.path, "onnx", pruned, inputs=model.bind, passes=passes, verify="off")
    whole = compile_model(pruned, "coreai", tmp_path / "o.aimodel", sparse="off", verify="off")
    result = compile_model(pruned, "coreai", tmp_path / "m.aimodel")
    assert result.report.passed and min(c.psnr_db for c in result.report.verification or ()) > 50
    assert result.report.size < 0.6 * whole.report.size
    assert any("weights are stored sparse" in note for note in result.report.notes)
    split = compile_model(pruned, "coreai", tmp_path / "m.aimodel", split="100KB")
    assert split.report.passed and any("weights are stored sparse" in note for note in split.report.notes)


def test_no_share_of_zeros_is_refused() -> None:
    with pytest.raises(UsageError, match="--sparse 'all' is not a share"):
        CoreAITarget(sparse="all")

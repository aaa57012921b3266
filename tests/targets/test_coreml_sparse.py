"""Weights with zeros: packages hold a mask and the numbers left, which coremltools and our evaluator put back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.api import Compiled, compile_model
from compiler.cli import main
from compiler.compare import compare
from compiler.errors import UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ops import Add
from compiler.ops.conv import Conv
from compiler.ops.index import Gather
from compiler.ops.matmul import Dense, MatMul
from compiler.rewrite import Unobserved
from compiler.simulate import simulated
from compiler.tensor import I8, I32, U8, Array, QuantParams
from passes._sparse import bytes_of
from passes._weight_bits import LEAST
from passes.annotate_weights import AnnotateWeights
from targets.apple.sparse import Saving
from targets.coreml.artifact import CoreMLArtifact
from targets.coreml.compressed import form
from targets.coreml.package import weight_bytes
from targets.coreml.placed import placed
from targets.coreml.sparse import masked, stored_bytes
from targets.coreml.target import CoreMLTarget
from tests.passes.composed import Net, Term, inputs_of
from tests.passes.weighted import conv_transpose
from tests.real_models import real_model
from tests.targets.coreml_harness import _read, reload

KINDS = (None, "int8", "int4", "palette2", "palette3", "palette4", "palette6", "palette8")
FIRST = {None: "sparse_to_dense", "int8": "sparse_blockwise_shift_scale", "int4": "sparse_blockwise_shift_scale"}


def thinned(rng: np.random.Generator, shape: tuple[int, ...], share: float) -> Array:
    """Numbers of which a share are zeros."""
    w = (rng.standard_t(5, shape) * 0.1).astype(np.float32)
    w.reshape(-1)[rng.permutation(w.size)[: round(share * w.size)]] = 0
    return w


def net(share: float, seed: int = 0) -> Graph:
    """Every layer with a weight, each in its orientations; odd sizes, so that bits do not end on bytes."""
    rng = np.random.default_rng(seed)
    made = Net()
    x, rows, index = made.input(1, 35, 9, 9), made.input(2, 35), made.input(3, dtype=I32)
    op = Conv(strides=(1, 1), pads=(1,) * 4, dilations=(1, 1), groups=1)
    transposed = conv_transpose(x, 20)
    return made.returns(
        made(op, x, thinned(rng, (8, 35, 3, 3), share), np.ones(8, np.float32)),
        transposed,
        made(Dense(), rows, thinned(rng, (35, 61), share), np.ones(61, np.float32)),
        made(Dense(transposed=True), rows, thinned(rng, (61, 35), share)),
        made(MatMul(), rows, thinned(rng, (35, 61), share)),
        made(MatMul(), thinned(rng, (61, 35), share), made.input(35, 3)),
        made(Gather(), thinned(rng, (61, 35), share), index),
    )


def emitted(graph: Graph, path: Path, ios: str = "iOS18", precision: str = "fp16", **options: Any) -> CoreMLArtifact:
    target = CoreMLTarget(precision, ios, **options)
    for step in target.pipeline():
        if isinstance(step, AnnotateWeights):
            step.run(graph, Unobserved())
    artifact = target.emit(target.prepare(graph), path)
    assert isinstance(artifact, CoreMLArtifact)
    return artifact


def restored(path: Path) -> list[Array]:
    """What coremltools makes of the sparse weights of a package, in the order of the program."""
    operations = _read(path).functions["main"].operations
    kind = "constexpr_sparse_to_dense"
    return [np.asarray(op.materialized_val_inference()) for op in operations if op.op_type == kind]


def packed(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("ios", ["iOS16", "iOS17", "iOS18", "iOS26"])
def test_floats_come_back_to_the_bit(ios: str, precision: str, tmp_path: Path) -> None:
    graph, dtype = net(0.6), np.float16 if precision == "fp16" else np.float32
    wanted = [c.data.astype(dtype) for c in graph.constants if c.data is not None and (c.data == 0).mean() > 0.5]
    artifact = emitted(graph, tmp_path / "m.mlpackage", ios, precision)
    found = restored(tmp_path / "m.mlpackage")
    assert len(wanted) == len(found) == len(artifact.savings) == 6
    for data, w in zip(wanted, found, strict=True):
        assert w.dtype == dtype and np.array_equal(w if w.shape == data.shape else w.T, data)
    text = reload(tmp_path / "m.mlpackage")
    assert text.count("constexpr_") == text.count("constexpr_sparse_to_dense") == 6


@pytest.mark.parametrize("kind", KINDS)
def test_the_executed_package_computes_with_these_weights(kind: str | None, tmp_path: Path) -> None:
    """In fewer bits too; the operation that expands what is left comes first."""
    graph = net(0.6, seed=1)
    feeds = inputs_of(graph, seed=2)
    artifact = emitted(graph, tmp_path / "m.mlpackage", weights=kind)
    expected = evaluate(simulated(graph).graph, feeds)
    for name, result in artifact.run(feeds).items():
        assert compare(name, expected[name], result).psnr_db > 55
    assert len(artifact.savings) == 6
    text = reload(tmp_path / "m.mlpackage")
    assert text.count("constexpr_sparse_to_dense") == 6
    assert text.count(f"constexpr_{FIRST.get(kind, 'lut_to_sparse')}") == 6


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 999),
    rows=st.integers(1, 70),
    columns=st.integers(31, 97),
    taps=st.sampled_from([(), (3, 3), (1, 1), (5,)]),
    share=st.sampled_from([0.25, 0.3, 0.5, 0.75, 0.95, 1.0]),
    kind=st.sampled_from(KINDS),
    old=st.booleans(),
    precision=st.sampled_from(["fp16", "fp32"]),
)
def test_any_weight_of_any_share_is_what_it_was(
    seed: int, rows: int, columns: int, taps: tuple[int, ...], share: float, kind: str | None, old: bool,
    precision: str, tmp_path: Path,
) -> None:  # fmt: skip
    """Of all zeros one is stored; where a mask would not take fewer bytes there is none."""
    rng = np.random.default_rng(seed)
    w, made = thinned(rng, (rows, columns, *taps), share), Net()
    if taps:
        op = Conv(strides=(1,) * len(taps), pads=(2,) * 2 * len(taps), dilations=(1,) * len(taps), groups=1)
        graph = made.returns(made(op, made.input(1, columns, *(3 for _ in taps)), w))
    else:
        graph = made.returns(made(Dense(), made.input(2, rows), w))
    ios = "iOS17" if old and kind is None else "iOS18"
    artifact = emitted(graph, tmp_path / "m.mlpackage", ios, precision, weights=kind)
    found = restored(tmp_path / "m.mlpackage")
    assert len(found) == len(artifact.savings) == (w.size >= LEAST and share >= 0.25 and len(artifact.savings))
    dense = weight_bytes(emitted(graph, tmp_path / "d.mlpackage", ios, precision, weights=kind, sparse="off").path)
    if not found:
        assert w.size < LEAST or share < 0.5 or kind in ("palette2", "palette3", "int4")
        assert weight_bytes(tmp_path / "m.mlpackage") == dense
        return
    twins = simulated(graph).values
    (stored,) = (np.asarray(twins[c].data) for c in graph.constants if c.data is not None and c.data.size == w.size)
    restored_w = found[0] if taps else found[0].T
    assert not restored_w[w == 0].any()
    exact = stored.astype(np.float16 if precision == "fp16" else np.float32).astype(np.float64)
    np.testing.assert_allclose(restored_w.astype(np.float64), exact, rtol=2e-3 if kind else 0, atol=1e-6 if kind else 0)
    assert weight_bytes(tmp_path / "m.mlpackage") < dense


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_few_zeros_is_stored_as_ever(kind: str | None, tmp_path: Path) -> None:
    for share in (0.0, 0.2):
        with_, without = (tmp_path / f"{name}.mlpackage" for name in ("with", "without"))
        assert emitted(net(share), with_, weights=kind).savings == []
        emitted(net(share), without, weights=kind, sparse="off")
        assert packed(with_) == packed(without)


def test_only_weights_of_layers_are_sparse(tmp_path: Path) -> None:
    """Not what a layer adds, what two layers read in different ways, what is an output, and what is small."""
    rng, made = np.random.default_rng(0), Net()
    x = made.input(64, 64)
    shared, added, given_back = (Term(made, made.value(thinned(rng, (64, 64), 0.9))) for _ in range(3))
    small = thinned(rng, (64, 31), 0.9)
    y = made(MatMul(), made(MatMul(), x, shared), made(Add(), made(MatMul(), shared, x), added))
    graph = made.returns(made(MatMul(), y, small), made(MatMul(), x, given_back), given_back)
    assert emitted(graph, tmp_path / "m.mlpackage").savings == []


def test_the_share_is_asked_for_by_name(tmp_path: Path) -> None:
    graph = net(0.4)
    assert len(emitted(graph.clone(), tmp_path / "m.mlpackage").savings) == 6
    assert len(emitted(graph.clone(), tmp_path / "m.mlpackage", sparse="0.4").savings) == 6
    assert len(emitted(graph.clone(), tmp_path / "m.mlpackage", sparse=0.41).savings) == 0
    assert len(emitted(graph.clone(), tmp_path / "m.mlpackage", "iOS15").savings) == 0
    for wrong in ("0", "1.5", "many", "nan"):
        with pytest.raises(UsageError, match="is not a share of zeros"):
            CoreMLTarget(sparse=wrong)
    with pytest.raises(UsageError, match="--sparse needs --deployment-target iOS16, not iOS15"):
        CoreMLTarget(deployment_target="iOS15", sparse="0.5")
    CoreMLTarget(deployment_target="iOS15", sparse="off")


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({}, 0.25),
        ({"sparse": "0.5"}, 0.5),
        ({"sparse": "off"}, None),
        ({"deployment_target": "iOS15"}, None),
        ({"weights": "int8"}, None),
        ({"weights": "int8", "deployment_target": "iOS18"}, 0.25),
        ({"precision": "int8", "deployment_target": "iOS18", "calibrate": "synthetic"}, None),
    ],
)
def test_a_target_says_what_it_stores_sparse(options: dict[str, Any], share: float | None) -> None:
    assert CoreMLTarget(**options).sparse_from == share


@pytest.mark.parametrize(("kind", "bits"), [(None, 16), ("int8", 8), ("int4", 4), ("palette4", 4), ("palette6", 6)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.8])
def test_what_a_weight_is_said_to_take_is_what_it_takes(
    kind: str | None, bits: int, share: float, tmp_path: Path
) -> None:
    w, made = thinned(np.random.default_rng(0), (256, 128), share), Net()
    graph = made.returns(made(Dense(), made.input(2, 256), w))
    emitted(graph, tmp_path / "m.mlpackage", weights=kind, block_size=None if kind is None else 0)
    file, said = weight_bytes(tmp_path / "m.mlpackage"), bytes_of(w, bits)
    assert file <= said + 1024  # headers, a bias, scales or a table
    if bits > 4 or share == 0:  # else what is rounded to 0 is left out too
        assert file >= 0.97 * said
    if kind in (None, "int8") and share == 0.5:
        assert file < 0.7 * bytes_of(w, bits, None)


@pytest.mark.parametrize("zero", [0, 3])
@pytest.mark.parametrize("dtype", [I8, U8])
def test_integers_about_another_zero_keep_it(dtype: Any, zero: int) -> None:
    """As weights of quantized models may have."""
    w = thinned(np.random.default_rng(3), (64, 40), 0.7)
    params = QuantParams((0.01,) * 64, tuple(128 * (dtype is U8) + zero * (i % 2) for i in range(64)), 0, dtype)
    dense = form(w, params, "fp32", 18)
    sparse = masked(dense, 18)
    assert sparse.operation == "constexpr_sparse_blockwise_shift_scale" and stored_bytes(sparse) < stored_bytes(dense)
    mask = sparse.operands["data_mask"]
    assert isinstance(mask, tuple)
    np.testing.assert_array_equal(np.asarray(mask[0]) == 0, np.rint(w / np.float32(0.01)) == 0)
    assert ("offset" in sparse.operands) == (zero > 0 or dtype is U8)


def test_a_placement_sees_what_the_numbers_are(tmp_path: Path) -> None:
    """The form and the scales of what is left, and the bytes of all parts."""
    graph = net(0.7)
    target = CoreMLTarget(deployment_target="iOS18", weights="int4")
    for step in target.pipeline()[-1:]:
        assert isinstance(step, AnnotateWeights)
        step.run(graph, Unobserved())
    program = placed(target._lowered(target.prepare(graph))[0].program)
    weights = {t.form: t for o in program.operations for ts in o.inputs.values() for t in ts if t.form}
    found = weights["constexpr_sparse_blockwise_shift_scale"]
    assert max(found.scales) > 1 and found.stored > 35 * 61 / 8
    target.emit(graph, tmp_path / "m.mlpackage")
    assert program.weight_bytes == pytest.approx(weight_bytes(tmp_path / "m.mlpackage"), rel=0.05)


def compiled(name: str, path: Path, passes: str, **options: Any) -> Compiled:
    model = real_model(name)
    return compile_model(model.path, "onnx", path / "p.onnx", inputs=model.bind, passes=passes, verify="off", **options)


@pytest.mark.parametrize("prune", ["amount=0.7", "pattern='2:4'"])
@pytest.mark.parametrize("name", ["mlperf_tiny_kws_dscnn", "vit_fashion_b1"])
def test_a_pruned_network_is_smaller_and_the_same(name: str, prune: str, tmp_path: Path) -> None:
    compiled(name, tmp_path, f"default,prune-weights({prune})")
    sizes = {}
    for kind, sparse in ((None, "off"), (None, None), ("int8", "off"), ("int8", None)):
        result = compile_model(
            tmp_path / "p.onnx", "ane", tmp_path / "m.mlpackage", deployment_target="iOS18", weights=kind, sparse=sparse
        )
        assert result.report.passed
        if kind is None:
            assert min(c.psnr_db for c in result.report.verification or ()) > 50
        sizes[kind, sparse] = weight_bytes(tmp_path / "m.mlpackage")
        assert any("are stored sparse" in note for note in result.report.notes) == (sparse is None)
    reload(tmp_path / "m.mlpackage")
    left = {"amount=0.7": 0.3, "pattern='2:4'": 0.5}[prune]
    others = {"mlperf_tiny_kws_dscnn": 0.3, "vit_fashion_b1": 0.15}[name]  # of what is not pruned
    assert sizes[None, None] < (left + 1 / 16 + others) * sizes[None, "off"]
    assert sizes["int8", None] < (left + 1 / 8 + 1.3 * others) * sizes["int8", "off"]


def test_the_report_adds_up_what_was_saved(tmp_path: Path) -> None:
    compiled("vit_fashion_b1", tmp_path, "default,prune-weights(amount=0.7)")
    result = compile_model(tmp_path / "p.onnx", "ane", tmp_path / "m.mlpackage", verify="off")
    assert isinstance(result.artifact, CoreMLArtifact)
    savings = result.artifact.savings
    total = Saving(sum(s.dense for s in savings), sum(s.sparse for s in savings))
    told = f"{len(savings)} weights are stored sparse: {total.dense:,} -> {total.sparse:,} bytes"
    assert told in result.report.notes and len(savings) > 10
    whole = weight_bytes(tmp_path / "m.mlpackage")
    split = compile_model(tmp_path / "p.onnx", "ane", tmp_path / "m.mlpackage", verify="off", split="60KB")
    assert told in split.report.notes and any("split into" in note for note in split.report.notes)
    off = compile_model(tmp_path / "p.onnx", "ane", tmp_path / "o.mlpackage", verify="off", sparse="off")
    assert weight_bytes(off.path) - whole == pytest.approx(total.dense - total.sparse, rel=0.02)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compiled("mlperf_tiny_kws_dscnn", tmp_path, "default,prune-weights(amount=0.6)")
    output = [str(tmp_path / "p.onnx"), "-o", str(tmp_path / "m.mlpackage"), "--json", "--verify", "off"]
    assert main([*output, "--sparse", "0.5"]) == 0
    assert any("are stored sparse" in note for note in json.loads(capsys.readouterr().out)["notes"])
    assert main([*output, "--sparse", "off"]) == 0
    assert not any("sparse" in note for note in json.loads(capsys.readouterr().out)["notes"])
    assert main([*output, "--sparse", "2"]) == 2
    assert "share of zeros" in json.loads(capsys.readouterr().out)["error"]

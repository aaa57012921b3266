"""Weights in few bits: packages hold what the annotations say, by coremltools' own reading and expansion, and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.api import compile_model
from compiler.cli import main
from compiler.compare import compare
from compiler.errors import UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ops.conv import Conv
from compiler.ops.index import Gather
from compiler.ops.matmul import Dense, MatMul
from compiler.quantize import dequantized
from compiler.rewrite import Unobserved
from compiler.simulate import simulated
from compiler.tensor import I32, Array
from passes.annotate_weights import AnnotateWeights
from targets.coreml.artifact import CoreMLArtifact
from targets.coreml.target import CoreMLTarget
from tests.passes.composed import Net, inputs_of
from tests.passes.weighted import conv_transpose
from tests.real_models import real_model
from tests.targets.coreml_harness import expansions, reload

CASES: list[tuple[str, int | None, str]] = [  # kind, block, the oldest deployment target
    ("int8", None, "iOS16"),
    ("int8", 16, "iOS18"),
    ("int4", None, "iOS18"),
    ("int4", 0, "iOS18"),
    *((f"palette{bits}", None, "iOS16") for bits in (1, 2, 4, 6, 8)),
    *((f"palette{bits}", None, "iOS18") for bits in (1, 2, 3, 4, 6, 8)),
    ("palette4", 4, "iOS18"),
]
OLDER = {"iOS16": "iOS15", "iOS18": "iOS17"}


def net(seed: int = 0) -> Graph:
    """Every layer with a weight, each in its orientations; odd sizes, so that bits do not end on bytes."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> Array:
        return (rng.standard_t(5, shape) * 0.1).astype(np.float32)

    made = Net()
    x, rows, index = made.input(1, 35, 9, 9), made.input(2, 35), made.input(3, dtype=I32)
    op = Conv(strides=(1, 1), pads=(1,) * 4, dilations=(1, 1), groups=1)
    return made.returns(
        made(op, x, numbers(8, 35, 3, 3), numbers(8)),
        conv_transpose(x, 20),
        made(Dense(), rows, numbers(35, 64), numbers(64)),
        made(Dense(transposed=True), rows, numbers(64, 35)),
        made(MatMul(), rows, numbers(35, 64)),
        made(MatMul(), numbers(64, 35), made.input(35, 3)),
        made(Gather(), numbers(64, 35), index),
    )


def emitted(graph: Graph, path: Path, kind: str, block: int | None, ios: str, precision: str = "fp16") -> Any:
    target = CoreMLTarget(precision, ios, weights=kind, block_size=block)
    for step in target.pipeline()[-1:]:
        assert isinstance(step, AnnotateWeights) and step.run(graph, Unobserved()) == 1
    return target.emit(target.prepare(graph), path)


def stored(graph: Graph) -> list[Array]:
    """The numbers that annotated constants stand for."""
    twins = simulated(graph).values
    return [np.asarray(twins[c].data) for c in graph.constants if c.type.quant or c.type.palette]


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize(("kind", "block", "ios"), CASES)
def test_coremltools_expands_what_was_annotated(
    kind: str, block: int | None, ios: str, precision: str, tmp_path: Path
) -> None:
    graph = net()
    artifact = emitted(graph, tmp_path / "m.mlpackage", kind, block, ios, precision)
    assert isinstance(artifact, CoreMLArtifact)
    wanted, found = stored(graph), expansions(tmp_path / "m.mlpackage")
    assert len(wanted) == 7 and len(found) == 7
    for given_numbers, expanded in zip(wanted, found, strict=True):
        assert expanded.dtype == {"fp16": np.float16, "fp32": np.float32}[precision]
        reals = expanded.astype(np.float32)
        same = given_numbers if reals.shape == given_numbers.shape else given_numbers.T
        np.testing.assert_allclose(reals, same, rtol=2.0**-10 if precision == "fp16" else 1e-6, atol=1e-7)


@pytest.mark.parametrize(("kind", "block", "ios"), CASES)
def test_the_executed_package_computes_with_these_weights(
    kind: str, block: int | None, ios: str, tmp_path: Path
) -> None:
    graph = net(1)
    given_inputs = inputs_of(graph, seed=2)
    artifact = emitted(graph, tmp_path / "m.mlpackage", kind, block, ios)
    expected = evaluate(simulated(graph).graph, given_inputs)
    for name, result in artifact.run(given_inputs).items():
        assert compare(name, expected[name], result).psnr_db > 55
    text = reload(tmp_path / "m.mlpackage")
    wanted = "affine_dequantize" if (kind, block) == ("int8", None) else "lut_to_dense"
    assert text.count("constexpr_") == text.count("blockwise" if ios == "iOS18" and "int" in kind else wanted) == 7


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(seed=st.integers(0, 999), case=st.sampled_from(CASES), exponent=st.integers(-7, 3))
def test_weights_of_any_size_are_rounded_within_bounds(
    seed: int, case: tuple[str, int | None, str], exponent: int, tmp_path: Path
) -> None:
    """Also where scales are so small that fp16 has few digits for them, or would take them for 0: they are rounded up
    before the integers are chosen."""
    kind, block, ios = case
    w = (np.random.default_rng(seed).normal(size=(35, 64)) * 10.0**exponent).astype(np.float32)
    made = Net()
    graph = made.returns(made(Dense(), made.input(2, 35), w))
    emitted(graph, tmp_path / "m.mlpackage", kind, block, ios)
    (expanded,) = expansions(tmp_path / "m.mlpackage")
    error = np.abs(expanded.T.astype(np.float64) - w)
    grain = 2.0**-11 * np.abs(stored(graph)[0]) + 2.0**-24  # what fp16 rounds by
    t = graph.constants[0].type
    assert (error <= np.abs(stored(graph)[0] - w) + grain).all()
    if t.quant is not None:
        steps = dequantized(np.ones(w.shape, np.int8), t.quant)
        assert (error <= steps * 0.5005 + grain).all()
        assert np.array_equal(np.array(t.quant.scale, np.float16), np.array(t.quant.scale))


@pytest.mark.parametrize(("kind", "block", "ios"), CASES)
def test_an_older_deployment_target_is_refused_by_name(kind: str, block: int | None, ios: str) -> None:
    CoreMLTarget(deployment_target=ios, weights=kind, block_size=block)
    if kind.startswith("palette") and ios == "iOS18" and kind != "palette3" and not block:
        return  # these have an older form
    with pytest.raises(UsageError, match=f"needs --deployment-target {ios}, not {OLDER[ios]}"):
        CoreMLTarget(deployment_target=OLDER[ios], weights=kind, block_size=block)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "int5"}, "cannot be stored as 'int5'"),
        ({"weights": "palette5"}, "weights cannot be stored as 'palette5'"),
        ({"weights": "palette7"}, "weights cannot be stored as 'palette7'"),
        ({"block_size": 32}, "is for --weights"),
        ({"weights": "int8", "block_size": -1}, "blocks of -1"),
        ({"weights": "int8", "precision": "int8", "calibrate": "synthetic"}, "stores weights as int8"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CoreMLTarget(**options)


SIZES = {"int8": 0.64, "int4": 0.43, "palette6": 0.52, "palette4": 0.42}


@pytest.mark.parametrize(("kind", "least_db"), [("int8", 40), ("int4", 20), ("palette6", 30), ("palette4", 20)])
def test_a_trained_transformer_keeps_its_answers(kind: str, least_db: float, tmp_path: Path) -> None:
    model = real_model("vit_fashion_b1")
    path = tmp_path / "m.mlpackage"
    full = compile_model(model.path, "ane", path, inputs=model.bind, verify="off").report.size
    target = CoreMLTarget(weights=kind, deployment_target="iOS18")
    compiled = compile_model(model.path, target, path, inputs=model.bind)
    assert compiled.report.passed and compiled.report.size < SIZES[kind] * full
    assert min(c.psnr_db for c in compiled.report.verification or ()) > least_db
    assert compiled.ledger.measured["weights"]["weights"] > 10
    assert any("of all numbers in constants, are in fewer bits" in w for w in compiled.report.warnings)
    assert any("refuses scales" in w for w in compiled.report.warnings) == (kind == "int4")
    assert any("--verify-data" in w for w in compiled.report.warnings) == (kind != "int8")
    reload(path)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(real_model("vit_fashion_b1").path)
    output = ["-o", str(tmp_path / "m.mlpackage"), "--json", "--verify", "off"]
    assert main([model, "--weights", "int4", *output]) == 2
    assert "needs --deployment-target iOS18" in json.loads(capsys.readouterr().out)["error"]
    assert main([model, "--weights", "int4", "--block-size", "0", "--deployment-target", "iOS18", *output]) == 0
    assert "annotate-weights" in [p["pass"] for p in json.loads(capsys.readouterr().out)["passes"]]

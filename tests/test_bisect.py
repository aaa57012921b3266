"""Bisection names the rewrite that broke a model, and writes it down as a model of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from compiler.api import find_culprit
from compiler.bisect import bisect, write_reproducer
from compiler.compare import compare_all
from compiler.errors import VerificationError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.onnx_export import export_bytes
from compiler.ops import Clip, Exp, Sub, Tanh
from compiler.oracle import run_graph
from compiler.pass_base import Pass
from compiler.pass_manager import PassManager
from compiler.pattern import Layer, Match
from compiler.rewrite import Builder
from compiler.text import print_graph
from compiler.text_parse import parse_graph
from passes.centre_residual import CentreResidual
from passes.contract_heads import ContractHeads
from passes.fold_norm_affine import FoldNormAffine
from passes.lift_rows import LiftRows
from passes.project_heads import ProjectHeads
from targets.tflite.target import TfLiteTarget
from tests import wrong
from tests.passes.blocks import block, layer_norm
from tests.passes.composed import Net
from tests.passes.weighted import dense
from tests.real_models import real_model
from tests.wrong import GivenExactPass, GivenPass, X

LENGTH, GUILTY = 60, 41
BLOCKS = (FoldNormAffine(), CentreResidual(), ProjectHeads(), ContractHeads(), LiftRows())


def chain() -> Graph:
    """Many layers, at one of which the rewrite below goes wrong."""
    lines = [f'  %v{k + 1} = relu(%v{k}) : f32[3,4]  from "n{k + 1}"' for k in range(LENGTH)]
    return parse_graph(f'graph(%v0: f32[3,4]) {{\n{chr(10).join(lines)}\n  return %v{LENGTH} as "y"\n}}')


def mostly_right(m: Match, g: Builder) -> Value:
    if m.root.origin == {f"n{GUILTY}"}:
        return g.add(Sub(), g.add(Exp(), m.value(X)), g.const(np.float32(1)))
    return g.add(Clip(low=0.0), m.value(X))


FAULTY = PassManager(
    [GivenPass(find=Layer(Tanh, X), replace=wrong.negated), GivenPass(find=wrong.RELU, replace=mostly_right)]
)


def test_bisection_names_the_rewrite_and_reproduces_it(rng: np.random.Generator, tmp_path: Path) -> None:
    inputs = {"v0": rng.standard_normal((3, 4), np.float32)}
    reference = run_graph(chain(), inputs)
    runs = 0

    def broken(graph: Graph) -> bool:
        nonlocal runs
        runs += 1
        return any(c.psnr_db < c.limit_db for c in compare_all(reference, run_graph(graph, inputs)))

    culprit = bisect(chain, FAULTY, broken)
    assert culprit is not None and culprit.number == GUILTY and culprit.entry.origin == {f"n{GUILTY}"}
    assert culprit.entry.before == ("relu",) and culprit.entry.after == ("exp", "sub")
    assert culprit.before.op_counts == {"relu": 1} and culprit.after.op_counts == {"exp": 1, "sub": 1}
    assert runs <= np.log2(LENGTH) + 3

    before, after = write_reproducer(culprit, tmp_path / "culprit.onnx")
    assert [p.name for p in (before, after)] == ["culprit.onnx", "culprit.after.onnx"]
    x = np.array([[0, 1, -1, 2]] * 3, np.float32)
    results = []
    for path in (before, after):
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        results.append(session.run(None, {"in0": x})[0])
    assert np.array_equal(results[0], np.maximum(x, 0)) and np.allclose(results[1], np.exp(x) - 1)


def test_bisection_of_a_model_file() -> None:
    culprit = find_culprit(export_bytes(chain()), FAULTY, seed=3).culprit
    assert culprit is not None and culprit.number == GUILTY
    sound = PassManager([GivenExactPass(find=wrong.RELU, replace=wrong.clipped)])
    assert find_culprit(export_bytes(chain()), sound) == (None, ())


def test_bisection_does_not_blame_a_rewrite_for_a_model_that_was_broken_before() -> None:
    with pytest.raises(VerificationError, match="broken before any rewrite"):
        bisect(chain, FAULTY, lambda _: True)


def test_the_reproducer_shares_inputs_between_before_and_after() -> None:
    text = """graph(%x: f32[2], %y: f32[2]) {
      %a = tanh(%x) : f32[2]
      %b = relu(%y) : f32[2]
      %c = add(%a, %b) : f32[2]
      return %c
    }"""

    def turned(m: Match, g: Builder) -> Value:
        return g.add(Sub(), m.value(wrong.Y), m.value(X))

    manager = PassManager([GivenPass(find=wrong.SUM, replace=turned)])
    culprit = bisect(lambda: parse_graph(text), manager, lambda g: bool(g.of(Sub)))
    assert culprit is not None
    feeds = {"in0": np.array([1, 2], np.float32), "in1": np.array([30, 40], np.float32)}
    assert evaluate(culprit.before, feeds)["out0"].tolist() == [31, 42]
    assert evaluate(culprit.after, feeds)["out0"].tolist() == [29, 38]


@pytest.mark.parametrize("allowed", [0, 1])
@pytest.mark.parametrize(
    "p", [FoldNormAffine(), CentreResidual(), ProjectHeads(), ContractHeads(), LiftRows()], ids=str
)
def test_a_rewrite_that_is_not_allowed_leaves_nothing(p: Pass, allowed: int) -> None:
    net = Net()
    graph = net.returns(dense(layer_norm(block(block(dense(net.input(2, 4, 5), 6)))), 3))
    before = print_graph(graph)
    ledger = PassManager([p]).run(graph, debug=True, limit=allowed).ledger
    assert ledger.applied == allowed
    assert all(any(v.is_read for v in node.outputs) for node in graph.nodes)
    assert allowed or print_graph(graph) == before


def test_bisection_of_a_quantized_model_follows_the_target() -> None:
    """Its own passes keep the scales, with which results differ by the rounding of sums alone."""
    model, target = real_model("mlperf_tiny_resnet8_int8"), TfLiteTarget()
    manager = PassManager(target.pipeline())
    assert find_culprit(model.path, manager, target=target, inputs=model.bind) == (None, ())
    assert target.keeps_scales and "absorb-qdq" not in manager.names
    other = TfLiteTarget()
    assert find_culprit(model.path, PassManager("default"), target=other, own=False, inputs=model.bind) == (None, ())
    assert not other.keeps_scales

"""Networks as PyTorch exports them, re-authored for the Neural Engine: what becomes of them, in exact numbers, in
packages and assets that are executed from disk."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from compiler import ops
from compiler.api import Compiled, compile_model, dry_run
from compiler.graph import Graph, Node
from targets.coreml.package import read_package
from tests.command import ROOT

MODELS = ROOT / "tests" / "models"
DECIBELS = {"fp32": 90.0, "fp16": 50.0}
SUFFIXES = {"ane": ".mlpackage", "coreai": ".aimodel"}
CONVOLUTIONAL = (ROOT / "examples" / "mobilenetv2s_cifar10_b1.onnx", MODELS / "mlperf_tiny_resnet8.onnx")
REFUSED = frozenset(("linear", "lstm", "gru", "rnn", "scaled_dot_product_attention"))


class Known(NamedTuple):
    """Of a network: convolutions of 1x1 (its dense layers, and its own), heads of all its attentions, transposes and
    reshapes at its borders, operations that stay off the engine, and the share of its multiply-accumulates in the
    largest segment before."""

    pointwise: int
    heads: int
    transposes: int
    reshapes: int
    off_engine: dict[str, int]
    before: float


EMBEDDINGS = {"add": 2, "less": 2, "select": 2, "gather": 2, "cast": 1}
NETWORKS = {
    "bert_encoder": Known(14, 2 * 4, 2, 5, EMBEDDINGS, 1.0),
    "vit": Known(9, 2 * 3, 0, 2, {}, 0.801849),
    "gpt_block": Known(7, 6, 6, 8, {}, 1.0),
    "conformer_block": Known(6 + 2, 4, 2, 2, {}, 0.386106),
    "lstm_classifier": Known(49, 0, 1, 2, {}, 0.000539),
}
COLUMNS = (
    "model", "in one segment", "eligible segments", "bytes across borders", "selected", "estimate, ms", "off the engine"
)  # fmt: skip


@functools.cache
def placement(path: Path) -> dict[str, Any]:
    """What --explain --json says of a model."""
    found: dict[str, Any] = dry_run(path, "ane", explain=True).as_json()["placement"]
    return found


def compiled(name: str, target: str, precision: str, folder: Path) -> Compiled:
    path = MODELS / "engine" / f"{name}.onnx"
    return compile_model(path, target, folder / f"m{SUFFIXES[target]}", precision=precision)


def is_dense(node: Node) -> bool:
    """A dense layer, a product with a constant, or attention in one layer."""
    product = isinstance(node.op, ops.MatMul | ops.Einsum) and any(v is None or v.data is not None for v in node.inputs)
    return product or isinstance(node.op, ops.Dense | ops.Attention | ops.Recurrent)


def pointwise(graph: Graph) -> int:
    """Convolutions with a kernel of 1x1."""
    kernels = [node.inputs[1] for node in graph.nodes if isinstance(node.op, ops.Conv)]
    return sum(w is not None and w.type.shape[2:] == (1, 1) for w in kernels)


@pytest.mark.parametrize("precision", DECIBELS)
@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_written_in_the_form_of_the_engine(name: str, target: str, precision: str, tmp_path: Path) -> None:
    if target == "coreai":
        pytest.importorskip("coreai")
    known, done = NETWORKS[name], compiled(name, target, precision, tmp_path)
    assert min(c.psnr_db for c in done.report.verification or ()) > DECIBELS[precision]
    assert [repr(node) for node in done.graph.nodes if is_dense(node)] == []
    counts = done.graph.op_counts
    assert (counts.get("transpose", 0), counts.get("reshape", 0)) == (known.transposes, known.reshapes)
    assert (counts.get("softmax", 0), counts.get("einsum", 0)) == (known.heads, 2 * known.heads)
    assert pointwise(done.graph) == known.pointwise
    regions = done.ledger.measured["regions"]
    assert (regions["regions"], regions["movers_inside"]) == (1, 0)
    assert regions["ns_after"] < 0.95 * regions["ns_before"]


@pytest.mark.parametrize("precision", DECIBELS)
@pytest.mark.parametrize("name", NETWORKS)
def test_packages_hold_no_operation_that_the_engine_refuses(name: str, precision: str, tmp_path: Path) -> None:
    done = compiled(name, "ane", precision, tmp_path)
    function = read_package(done.path)[0].mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    constants = {o.name for op in operations if op.type.startswith("const") for o in op.outputs}
    kinds = Counter(op.type for op in operations)
    assert not REFUSED & set(kinds)
    for op in operations:
        if op.type in ("matmul", "einsum"):
            read = {b.name for key in ("x", "y", "values") for b in op.inputs[key].arguments}
            assert not read & constants, f"{op.type} {op.outputs[0].name} has a constant operand"
    assert kinds["softmax"] == NETWORKS[name].heads
    assert kinds["einsum"] + kinds["matmul"] == 2 * NETWORKS[name].heads


@pytest.mark.parametrize("name", ["gpt_block", "conformer_block"])
def test_in_the_layout_of_the_engine_nothing_is_moved(name: str) -> None:
    """Hidden states and caches come and go as (B, C, 1, S)."""
    done = compile_model(MODELS / "engine" / f"{name}.onnx", "ane", io_layout="engine")
    assert min(c.psnr_db for c in done.report.verification or ()) > DECIBELS["fp16"]
    function = read_package(done.path)[0].mlProgram.functions["main"]
    kinds = Counter(op.type for op in function.block_specializations[function.opset].operations)
    assert (kinds["transpose"], kinds["reshape"]) == (0, 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_run_in_one_segment(name: str) -> None:
    known, told = NETWORKS[name], placement(MODELS / "engine" / f"{name}.onnx")
    before, after = told["before"], told["after"]
    assert before["macs_in_largest_segment"] == pytest.approx(known.before, abs=1e-5)
    assert after["macs_in_largest_segment"] >= 0.99
    assert after["segments_on_engine"] == 1
    assert after["crossing_bytes"] <= before["crossing_bytes"]
    assert off_engine(told) == known.off_engine


@pytest.mark.parametrize("path", CONVOLUTIONAL, ids=lambda p: p.stem)
def test_convolutional_networks_run_in_one_segment(path: Path) -> None:
    after = placement(path)["after"]
    assert after["operations_eligible"] == after["operations"]
    assert (after["macs_in_largest_segment"], after["segments"], after["crossing_bytes"]) == (1.0, 1, 0)


def off_engine(told: dict[str, Any]) -> Counter[str]:
    """How many operations of each kind the engine does not run."""
    return Counter(op["operator"] for op in told["operations"] if "ane" not in op["eligible"])


def row(path: Path) -> str:
    """The line of a model in docs/placement.md."""
    told = placement(path)
    sides = (told["before"], told["after"])

    def change(texts: list[str]) -> str:
        return texts[0] if texts[0] == texts[1] else " → ".join(texts)

    left = ", ".join(kind if n == 1 else f"{kind} x{n}" for kind, n in off_engine(told).items())
    cells = (
        path.stem,
        change([f"{100 * side['macs_in_largest_segment']:.1f} %" for side in sides]),
        change([f"{side['segments_on_engine']} of {side['segments']}" for side in sides]),
        change([f"{side['crossing_bytes']:,}" for side in sides]),
        change([f"{100 * side['macs_selected']:.0f} %" for side in sides]),
        change([f"{side['estimated_ms']:.3f}" for side in sides]),
        left or "nothing",
    )
    return f"| {' | '.join(cells)} |"


def test_the_documented_placements_are_those_of_today() -> None:
    paths = [*(MODELS / "engine" / f"{name}.onnx" for name in NETWORKS), *CONVOLUTIONAL]
    table = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}", *map(row, paths)]
    page = (ROOT / "docs" / "placement.md").read_text(encoding="utf-8")
    assert "\n".join(table) in page, "docs/placement.md needs this table:\n" + "\n".join(table)

"""Every operation as Metal sources, run with every check: layers drawn at random against what the operation means, and
cases of ONNX's suite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.errors import LegalityError
from compiler.graph import Graph, Value
from compiler.op import OPS
from compiler.pass_manager import PassManager
from compiler.tensor import STRING, Array, TensorType, dtype_of
from targets.metal import TARGET
from tests.conformance.cases import load_cases
from tests.conformance.stages import FAIL, PASS, difference
from tests.conformance.workers import Trial
from tests.one_op import layer_inputs, layer_of, one_layer
from tests.targets.metal_layers import HALF_STEPS, run

EVERY = 16  # so manieth plain case of a node is run here, and all of them by `make conformance`
PARTS = 6  # graphs that the layers are put into
SPREAD = 1e-4, 1e-5


def accepted(graph: Graph) -> bool:
    """Whether the target takes a graph; one that it refuses is told what it needs."""
    target = TARGET(precision="fp32")
    try:
        target.prepare(PassManager(target.pipeline()).run(graph.clone()).graph)
    except LegalityError as e:
        if " -- needs " not in str(e):
            raise
        return False
    return True


def put(graph: Graph, into: Graph, name: str) -> dict[Value, Value]:
    """Copy a graph into another one; the values in it by those that they are copies of."""
    known = {v: into.add_input(v.type, f"{name}_{v.name}") for v in graph.inputs}
    known |= {c: into.const(c.data, c.name) for c in graph.constants if c.data is not None}
    for node in graph.nodes:
        results = into.add(node.op, *(None if v is None else known[v] for v in node.inputs))
        known.update(zip(node.outputs, results, strict=True))
    return known


@pytest.mark.parametrize("part", range(PARTS))
def test_random_layers(part: int) -> None:
    """What is not refused computes what the operation means."""
    whole = Graph("layers")
    feeds: dict[str, Array] = {}
    outputs: list[Value] = []
    names: list[str] = []
    for op in sorted(OPS)[part::PARTS]:
        rng = np.random.default_rng(sum(op.encode()))
        graph = one_layer(OPS[op], rng)
        if graph is None or not accepted(graph):
            continue
        known = put(graph, whole, op)
        feeds |= {f"{op}_{name}": array for name, array in layer_inputs(rng, graph).items()}
        outputs += [known[v] for v in graph.outputs]
        names += [f"{op}_{i}" for i in range(len(graph.outputs))]
    whole.set_outputs(outputs, names)
    assert len(names) > 20
    made = run(whole, feeds)
    for name, wanted in made.wanted.items():
        step = HALF_STEPS.get(dtype_of(wanted).name, 0.0)  # what is decomposed is rounded after each part
        wrong = difference(made.got[name], wanted, SPREAD[0] + 8 * step, SPREAD[1] + 8 * step)
        assert wrong is None, f"{name} {wrong}"


def test_cases_of_the_suite(tmp_path: Path) -> None:
    """Some of them; none may be wrong, and few are refused."""
    chosen = [c for c in load_cases() if c.suite == "node" and c.is_plain][::EVERY]
    found: dict[str, list[str]] = {}
    for case in chosen:
        verdict = Trial(case, tmp_path).result("metal").verdict
        found.setdefault(verdict.status, []).append(f"{case.name}: {verdict.reason}")
    assert FAIL not in found, found[FAIL]
    assert len(found[PASS]) >= 0.96 * len(chosen), found


def test_strings_are_refused() -> None:
    graph = layer_of(OPS["identity"](), (), TensorType(STRING, (2,)))
    with pytest.raises(LegalityError, match="strings"):
        TARGET().prepare(graph)

"""How far layers are from those that a pass puts in their place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from compiler.evaluate import evaluate
from compiler.op import Op
from compiler.pass_base import Pass
from compiler.tensor import F64
from tests.passes.composed import Net, run

DATA = Path(__file__).parents[2] / "targets" / "tflite" / "check" / "substitutions.json"
GRID = np.concatenate([np.linspace(-12, 12, 48001), np.geomspace(12, 1e4, 500), -np.geomspace(12, 1e4, 500)])


def farthest(p: Pass, op: Op) -> float:
    """The largest absolute difference on a dense grid, in float64."""
    net = Net(F64)
    graph = net.returns(net(op, net.input(len(GRID))))
    (before,) = evaluate(graph, {graph.inputs[0].name: GRID}).values()
    run(p, graph)
    (after,) = evaluate(graph, {graph.inputs[0].name: GRID}).values()
    return float(np.abs(after - before).max())


def stated(layer: str) -> float:
    """The bound that the data file states for a pass."""
    entries = json.loads(DATA.read_text())["layers"]
    bound: float = next(e["bound"] for e in entries if e["pass"] == f"substitute-{layer}")
    return bound

"""How far layers are from those that a pass puts in their place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from compiler.evaluate import evaluate
from compiler.op import Op
from compiler.pass_base import Pass
from compiler.tensor import F64, Array, DType
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


def distance(p: Pass, op: Op, grid: Array, dtype: DType = F64) -> float:
    """The largest absolute difference on a grid between a function, in float64, and its replacement in an element type
    in which each layer is rounded."""
    given = grid.astype(dtype.numpy)
    exact, changed = (Net(d) for d in (F64, dtype))
    before, after = (net.returns(net(op, net.input(len(grid)))) for net in (exact, changed))
    run(p, after)
    (a,) = evaluate(before, {"x0": given.astype(np.float64)}).values()
    (b,) = evaluate(after, {"x0": given}).values()
    return float(np.abs(a - b.astype(np.float64)).max())

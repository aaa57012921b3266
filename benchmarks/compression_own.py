"""Single techniques of this project, from Python: `python -m benchmarks.compression_own MODEL ROWS.npz OUT.onnx METHOD
LEFT [--input NAME=1x3x32x32]`.

plain        low-rank splits of the weights: of every layer the one with the least error in LEFT of its parameters
same-ranks   the same splits fitted to the rows
data         splits fitted to the rows, of the least sum of errors on them in LEFT of all parameters
less         the same within LESS of LEFT, for peers that leave less than they are asked for
prune-l2     channels with the smallest weights of every layer, within LEFT of the multiply-accumulates; no data
prune-auto   those that reconstruction needs least, and the layers behind fitted to the rows
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler.api import load
from compiler.calibrate.fitting import Fitting
from compiler.graph import Graph
from compiler.onnx_export import export_bytes
from compiler.pass_base import PIPELINES
from compiler.pass_manager import PassManager
from compiler.tensor import Array
from passes._compression import Rows, Setting, work_of
from passes._low_rank import Menu, Splits
from passes._low_rank_policy import Policy
from passes.prune_channels import PruneChannels

STEPS = 9  # of bisection
LESS = 0.88


def compress(
    model: Path, feeds: Sequence[Mapping[str, Array]], out: Path, method: str, left: float, shapes: dict[str, list[int]]
) -> None:
    """Write the compressed model, of the exact passes' graph."""
    graph = load(model, inputs=shapes)
    PassManager(PIPELINES["default"]).run(graph)
    rows = Fitting(feeds)
    if method.startswith("prune-"):
        PassManager([_pruner(graph, rows, method.removeprefix("prune-"), left)]).run(graph)
    else:
        splits = (
            _splits(graph, rows, Policy(parameters=left))
            if method == "data"
            else _splits(graph, None, Policy(ratio=left))
        )
        Splits().apply(graph, splits, None if method == "plain" else rows)
    out.write_bytes(export_bytes(graph))


def _splits(graph: Graph, rows: Rows | None, policy: Policy) -> dict[str, Setting]:
    menus = list(Splits().menus(graph, rows))
    chosen = policy.choose(menus, work_of(graph.nodes))
    return {m.layer.name: o.setting for m, o in chosen if isinstance(m, Menu) and not isinstance(o, str)}


def _pruner(graph: Graph, rows: Fitting, importance: str, left: float) -> PruneChannels:
    """With the least amount that leaves the share of the multiply-accumulates. SystemExit if none does."""
    most, found = left * work_of(graph.nodes).macs, None
    low, high = 0.0, 0.95
    for _ in range(STEPS):
        amount = (low + high) / 2
        counted = graph.clone()
        PassManager([PruneChannels(amount=amount, importance="l2")]).run(counted)
        if work_of(counted.nodes).macs <= most:
            high = found = amount
        else:
            low = amount
    if found is None:
        raise SystemExit(f"no amount leaves {left:.0%} of the multiply-accumulates")
    return PruneChannels(amount=found, importance=importance, rows=None if importance == "l2" else rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("method", choices=("plain", "same-ranks", "data", "less", "prune-l2", "prune-auto"))
    parser.add_argument("left", type=float)
    parser.add_argument("--input", action="append", default=[], metavar="NAME=SHAPE")
    o = parser.parse_args()
    pairs = (text.partition("=") for text in o.input)
    shapes = {name: [int(d) for d in dims.split("x")] for name, _, dims in pairs}
    left = LESS * o.left if o.method == "less" else o.left
    with np.load(o.rows) as arrays:
        data = {name: arrays[name] for name in arrays.files if name != "labels"}
    count = len(next(iter(data.values())))
    feeds = [{name: array[i : i + 1] for name, array in data.items()} for i in range(count)]
    compress(o.model, feeds[: count // 2], o.out, "data" if o.method == "less" else o.method, left, shapes)


if __name__ == "__main__":
    main()

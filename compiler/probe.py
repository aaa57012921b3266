"""Every intermediate value of a graph on given inputs, and which layer of an artifact loses the most accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from compiler.compare import IDENTICAL_DB, compare
from compiler.graph import Graph, Node, Value
from compiler.ops.activation import Clip, HardSigmoid, Sigmoid, Softsign
from compiler.ops.elementwise import Max, Mean, Min, Tanh
from compiler.ops.index import Gather
from compiler.ops.layout import ConvertLayout
from compiler.ops.parts import Concat, Slice, Split, Tile
from compiler.ops.pool import AveragePool, GlobalAveragePool, GlobalMaxPool, MaxPool
from compiler.ops.reduce import ReduceMax, ReduceMean, ReduceMin
from compiler.ops.shape import Expand, Reshape, Transpose
from compiler.ops.softmax import Softmax
from compiler.oracle import run_graph
from compiler.subgraph import extract
from compiler.tensor import Array

BOUNDED = (Sigmoid, HardSigmoid, Softmax, Tanh, Softsign)  # their results lie in -1..1
KEEPS_BOUND = (  # results lie where the operands do
    *(Reshape, Transpose, ConvertLayout, Slice, Expand, Concat, Split, Tile, Gather),
    *(ReduceMean, ReduceMax, ReduceMin, MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool, Max, Min, Mean),
)
DEEP = 50  # layers looked back through
FEW = 4096  # elements of a constant that are looked at
HEALED = 20.0  # dB by which all that is made of a result is nearer than it, so that its noise does not count


class Loss(NamedTuple):
    """A layer whose result is further from the reference than its operands: PSNR in dB before and after it."""

    node: Node
    operands_db: float
    result_db: float

    def as_json(self) -> dict[str, Any]:
        """Plain values for --json."""
        return {
            "op": self.node.op.name,
            "origin": sorted(self.node.origin),
            "operands_psnr_db": round(self.operands_db, 1),
            "psnr_db": round(self.result_db, 1),
        }

    def __str__(self) -> str:
        where = ", ".join(sorted(self.node.origin)[:2]) or self.node.output.name
        return f"{self.node.op.name} at {where}: {self.operands_db:.1f} dB before, {self.result_db:.1f} dB after"


def intermediate_values(graph: Graph, inputs: Mapping[str, Array]) -> dict[Value, Array]:
    """What ONNX Runtime computes for every value that some layer reads or the graph gives."""
    values = [v for n in graph.nodes for v in n.outputs if v.is_read]
    found = {v: np.asarray(inputs[v.name]) for v in graph.inputs}
    if values:
        cut, leaves = extract(values, set(graph.nodes))
        results = run_graph(cut, {f"in{i}": found[leaf] for i, leaf in enumerate(leaves)})
        found.update((v, results[f"out{i}"]) for i, v in enumerate(values))
    return found


def output_peaks(graph: Graph) -> dict[str, float]:
    """The largest magnitude that outputs can have, by name, for those that a bounded function computes: what PSNR takes
    as its peak. A detector's scores near 0 are then not judged by their own smallness."""
    named = zip(graph.outputs, graph.output_names, strict=True)
    return {name: 1.0 for v, name in named if v.node is not None and _is_bounded(v, DEEP)}


def _is_bounded(v: Value, depth: int) -> bool:
    """Whether all elements lie in -1..1, as far as the layers before it say."""
    if v.data is not None:
        return v.type.dtype.is_float and v.data.size <= FEW and bool(np.all(np.abs(v.data) <= 1))
    if v.node is None or not depth:
        return False
    op = v.node.op
    if isinstance(op, Clip):
        return op.low >= -1 and op.high <= 1
    reads = v.node.inputs[:1] if isinstance(op, Gather) else v.node.inputs
    kept = isinstance(op, KEEPS_BOUND) and all(o is not None and _is_bounded(o, depth - 1) for o in reads)
    return isinstance(op, BOUNDED) or kept


def noise(db: float) -> float:
    """Root mean square difference, as a share of the peak."""
    return 10.0 ** (-db / 20)


def rank_losses(
    graph: Graph, reference: Mapping[Value, Array], measured: Mapping[Value, Array], most: int = 5
) -> list[Loss]:
    """The layers that add the most noise, relative to the peak of their result, worst first; those whose noise the next
    layers do not show are left out. `measured` may lack values that the artifact has no tensor for."""
    db: dict[Value, float] = {}
    losses = []
    for node in graph.nodes:
        before = min((db[v] for v in node.inputs if v is not None and v in db), default=IDENTICAL_DB)
        for v in node.outputs:
            if v in measured and v in reference and v.type.dtype.is_float:
                db[v] = compare(v.name, reference[v], measured[v].reshape(reference[v].shape)).psnr_db
            else:
                db[v] = before
        after = min(db[v] for v in node.outputs)
        if after < before:
            losses.append(Loss(node, before, after))
    losses.sort(key=lambda loss: noise(loss.operands_db) - noise(loss.result_db))
    return [loss for loss in losses if not _is_healed(loss, db)][:most]


def _is_healed(loss: Loss, db: Mapping[Value, float]) -> bool:
    """Whether nobody sees the noise: an epsilon of few digits, say, in a sum of larger numbers."""
    made = [o for v in loss.node.outputs for user in v.users for o in user.outputs]
    seen = not made or any(v.n_out for v in loss.node.outputs)
    return not seen and min(db[o] for o in made) > loss.result_db + HEALED

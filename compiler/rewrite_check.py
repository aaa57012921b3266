"""Measures every rewrite where it happens, with ONNX Runtime, and the whole model after every pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from compiler.compare import Comparison, compare, compare_all
from compiler.errors import OnnxError, VerificationError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Node, Value
from compiler.oracle import run_graph
from compiler.pass_base import ErrorClass
from compiler.probe import output_peaks
from compiler.rewrite import Firing
from compiler.subgraph import extract
from compiler.tensor import Array

MAX_BYTES = 2 << 30  # intermediate values kept at once; beyond, rewrites are measured at the outputs only


class RewriteChecker:
    """Holds the value of every tensor of a graph on the given inputs, and updates it as rewrites are told.

    inputs     arrays by the names of the graph's inputs
    reference  the model's outputs that everything is compared with, from the original file
    """

    def __init__(self, inputs: Mapping[str, Array], reference: Mapping[str, Array]) -> None:
        self.inputs = dict(inputs)
        self.reference = dict(reference)
        self._known: dict[Value, Array] = {}
        self._peaks: dict[str, float] = {}

    def start(self, graph: Graph) -> None:
        """Compute every intermediate value of a graph that this checker has not followed so far."""
        self._peaks = self._peaks or output_peaks(graph)
        self._known = {v: self.inputs[v.name] for v in graph.inputs}
        nodes = list(graph.nodes)
        values = [v for n in nodes for v in n.outputs if v.is_read]
        if sum(v.type.nbytes for v in values) <= MAX_BYTES:
            self._known.update(zip(values, self._results(values, set(nodes)) or (), strict=False))

    def fired(self, firing: Firing) -> Comparison | None:
        """The damage of one rewrite: old and new layers run on the same values, compared on the result that comes
        closest to its limit or passes it furthest. None if the values that they read are not known."""
        made = [v for n in firing.added for v in n.outputs if v.is_read]
        results = self._results([*firing.old, *made], {*firing.erased, *firing.added})
        for node in firing.erased:
            for v in node.outputs:
                self._known.pop(v, None)
        if results is None:
            return None
        before = results[: len(firing.old)]
        self._known.update(zip(made, results[len(before) :], strict=True))
        distances = []
        for old, new in zip(before, firing.new, strict=True):
            after = self._value(new)
            if after is not None:
                distances.append(compare(new.name, old, after))
        return min(distances, key=lambda c: c.psnr_db - c.limit_db, default=None)

    def outputs(self, graph: Graph) -> list[Comparison]:
        """The model's outputs compared with the original's."""
        return compare_all(self.reference, _run(graph, self.inputs), self._peaks)

    def broken(self, error_class: ErrorClass, distance: Comparison) -> bool:
        """Whether a measured distance exceeds what a class of passes may do; LOSSY passes answer to a budget."""
        if error_class is ErrorClass.EXACT:
            return distance.max_abs != 0.0
        return error_class is ErrorClass.ROUNDING and distance.psnr_db < distance.limit_db

    def _value(self, v: Value) -> Array | None:
        return v.data if v.data is not None else self._known.get(v)

    def _results(self, wanted: Sequence[Value], nodes: Collection[Node]) -> list[Array] | None:
        """The values computed by these layers from what is known; None if something they read is not."""
        cut, leaves = extract(wanted, nodes)
        known = [data for data in map(self._value, leaves) if data is not None]
        if len(known) < len(leaves):
            return None
        results = _run(cut, {f"in{i}": data for i, data in enumerate(known)})
        return [results[f"out{i}"] for i in range(len(wanted))]


def _run(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by ONNX Runtime; by the reference evaluator where ONNX Runtime lacks a kernel or ONNX a form."""
    try:
        return run_graph(graph, inputs)
    except (VerificationError, OnnxError):
        return evaluate(graph, inputs)

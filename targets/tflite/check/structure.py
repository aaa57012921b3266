"""The form of the graph: what every file keeps, and what a full-integer one keeps besides."""

from __future__ import annotations

from collections.abc import Sequence

from targets.tflite.check.node import Node
from targets.tflite.check.report import ERROR, WARNING, Findings
from targets.tflite.reader import File, Subgraph, Tensor

MOST_AXES = 4


def check_integrity(graph: Subgraph, nodes: Sequence[Node], found: Findings) -> None:
    """Constants have the bytes that their shapes need; values are computed once, before they are read."""
    for stored in used(graph, nodes):
        if stored.data is not None and not (stored.is_readable or stored.sparse or stored.nbytes is None):
            due = f"its shape needs {stored.nbytes:,}" if stored.is_static else "its shape is not known"
            text = f"it has {len(stored.data):,} bytes of data, and {due}; write the file again"
            found.add("data-size", ERROR, text, graph=graph, tensor=stored)
    ready = {*graph.inputs} | {t.number for t in graph.tensors if t.data is not None or t.is_variable}
    produced: set[int] = set()
    for node in nodes:
        for t in node.inputs:
            if t is not None and t.number not in ready and t.size:
                text = "it is read before an operator has computed it; sort the operators in the order of execution"
                found.add("order", ERROR, text, graph=graph, operator=node.operator, tensor=t)
        for result in node.outputs:
            if result.number in produced:
                text = "it is computed a second time; give each result a tensor of its own"
                found.add("order", ERROR, text, graph=graph, operator=node.operator, tensor=result)
            elif result.data is not None:
                text = "it is computed although the file holds its elements; leave those out"
                found.add("constant-result", WARNING, text, graph=graph, operator=node.operator, tensor=result)
            produced.add(result.number)
            ready.add(result.number)
    for i in graph.outputs:
        if i not in ready:
            text = "it is an output, and no operator computes it"
            found.add("order", ERROR, text, graph=graph, tensor=graph.tensors[i])


def check_single(file: File, found: Findings) -> None:
    """There is one subgraph."""
    if len(file.subgraphs) > 1:
        text = f"there are {len(file.subgraphs)} subgraphs, and one is taken; inline the others, or leave them out"
        found.add("subgraphs", ERROR, text, graph=file.subgraphs[1])


def check_form(graph: Subgraph, nodes: Sequence[Node], found: Findings) -> None:
    """Builtin operators on values of known shapes with at most four axes."""
    for node in nodes:
        if node.operator.code == "CUSTOM":
            text = "only builtin operators are taken; express it by those"
            found.add("custom-op", ERROR, text, graph=graph, operator=node.operator)
        elif node.operator.code.startswith("BUILTIN_"):
            text = "the schema has no builtin operator of this number; convert the model for an older runtime"
            found.add("unknown-op", ERROR, text, graph=graph, operator=node.operator)
    _check_static(graph, nodes, found)
    for t in used(graph, nodes):
        if len(t.shape) > MOST_AXES:
            text = f"it has {len(t.shape)} axes, and at most {MOST_AXES} are taken; merge neighbouring axes"
            found.add("rank", ERROR, text, graph=graph, tensor=t)


def _check_static(graph: Subgraph, nodes: Sequence[Node], found: Findings) -> None:
    """Inputs of unknown size are the reason for what is computed from them, and stand for it."""
    unknown = [t for t in used(graph, nodes) if not t.is_static]
    inputs = [t for t in unknown if t.number in graph.inputs]
    for t in inputs or unknown:
        text = f"its shape {list(t.signature or t.shape)} is not known before a run"
        advice = "fix the sizes of the input" if inputs else "replace what computes it by an operator of a fixed shape"
        found.add("dynamic-shape", ERROR, f"{text}; {advice}", graph=graph, tensor=t)


def used(graph: Subgraph, nodes: Sequence[Node]) -> list[Tensor]:
    """The tensors that are operands, results, inputs or outputs, in the order of their numbers."""
    numbers = {*graph.inputs, *graph.outputs}
    for node in nodes:
        numbers.update(t.number for t in (*node.inputs, *node.outputs) if t is not None)
    return [graph.tensors[i] for i in sorted(numbers)]

"""Float values inside a full-integer graph, and quantizations that lead nowhere."""

from __future__ import annotations

from collections.abc import Sequence

from targets.tflite.check.node import FLOATS, Node, scale, zero_point
from targets.tflite.check.report import ERROR, WARNING, Findings, listed, operator_name
from targets.tflite.reader import Subgraph

BORDER = ("QUANTIZE", "DEQUANTIZE")
NAMED = 6  # operators of an island that its finding names


def check_islands(graph: Subgraph, nodes: Sequence[Node], found: Findings) -> None:
    """One finding for each group of operators that float values connect, and for each idle QUANTIZE."""
    ports = {*graph.inputs, *graph.outputs}
    for members in _groups(nodes):
        inside = [n for n in members if n.operator.code not in BORDER]
        floats = {t.number for n in members for t in (*n.inputs, *n.outputs) if t is not None and t.dtype in FLOATS}
        first = (inside or members)[0].operator
        if inside:
            names = listed((f"{n.operator.number} {operator_name(n.operator)}" for n in inside), NAMED)
            text = (
                f"float values connect {len(inside)} operators: {names}; quantize them, or use what has an integer form"
            )
            found.add("float-island", ERROR, text, graph=graph, operator=first)
        elif floats <= ports:
            tensor = graph.tensors[min(floats)]
            text = "it is float, so that a conversion runs outside of the integer graph; int8 or uint8 avoids that"
            found.add("float-io", WARNING, text, graph=graph, tensor=tensor)
        else:
            text = "the value becomes float and is quantized again with nothing in between; one QUANTIZE does that"
            found.add("quantize-island", ERROR, text, graph=graph, operator=first)
    _check_idle(graph, nodes, found)


def has_float_operators(nodes: Sequence[Node]) -> bool:
    """Whether any operator but conversions computes with float values."""
    return any(_is_float(n) and n.operator.code not in BORDER for n in nodes)


def _is_float(node: Node) -> bool:
    return any(t.dtype in FLOATS for t in node.values)


def _groups(nodes: Sequence[Node]) -> list[list[Node]]:
    """The operators with float operands or results, in groups that float values connect."""
    parent: dict[int, int] = {}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    floats = [n for n in nodes if _is_float(n)]
    members: list[int] = []
    for n in floats:
        held = [t.number for t in n.values if t.dtype in FLOATS]
        for number in held:
            parent.setdefault(number, number)
            parent[root(number)] = root(held[0])
        members.append(held[0])
    groups: dict[int, list[Node]] = {}
    for n, number in zip(floats, members, strict=True):
        groups.setdefault(root(number), []).append(n)
    return list(groups.values())


def _check_idle(graph: Subgraph, nodes: Sequence[Node], found: Findings) -> None:
    """A QUANTIZE between integers of the same parameters, or behind another QUANTIZE."""
    makers = {t.number: n for n in nodes for t in n.outputs}
    for node in nodes:
        source, result = node.input(0), node.output()
        if node.operator.code != "QUANTIZE" or source is None or result is None or source.dtype in FLOATS:
            continue
        same = (scale(source), zero_point(source), source.dtype) == (scale(result), zero_point(result), result.dtype)
        maker = makers.get(source.number)
        if same:
            text = "operand and result have the same parameters; leave it out"
            found.add("quantize-island", ERROR, text, graph=graph, operator=node.operator)
        elif maker is not None and maker.operator.code == "QUANTIZE":
            text = f"operator {maker.operator.number} QUANTIZE comes right before it; one of them is enough"
            found.add("quantize-island", ERROR, text, graph=graph, operator=node.operator)

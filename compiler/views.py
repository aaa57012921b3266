"""Other views of a layer graph, for analyses: as a networkx graph, and as memory over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compiler.graph import Graph, Node, Value

if TYPE_CHECKING:
    import networkx as nx

Key = Node | Value | str  # a layer, a graph input, or the name of a graph output


def to_networkx(graph: Graph) -> nx.MultiDiGraph[Key]:
    """Layers, graph inputs and graph outputs as nodes; one edge for every operand that is not a constant.

    Nodes carry `op` (the operation's name, "input" or "output"), `origin` and `macs`; edges carry `value`, `type`,
    `bytes` and `operand` (which operand of the reader). Nodes are in topological order.
    """
    import networkx as nx  # loaded for those who ask for this view

    view: nx.MultiDiGraph[Key] = nx.MultiDiGraph(name=graph.name)
    for v in graph.inputs:
        view.add_node(v, op="input", origin=frozenset(), macs=0)
    for node in graph.nodes:
        view.add_node(node, op=node.op.name, origin=node.origin, macs=node.macs)
        for i, operand in enumerate(node.inputs):
            _connect(view, operand, node, i)
    for result, name in zip(graph.outputs, graph.output_names, strict=True):
        view.add_node(name, op="output", origin=frozenset(), macs=0)
        _connect(view, result, name, 0)
    return view


def live_bytes(graph: Graph) -> list[tuple[Node, int]]:
    """For each layer in order, the bytes of all activations that must exist while it runs: what it reads, what it
    writes, and what is still to be read later or is an output of the graph. Constants do not count."""
    left = {v: len(v.users) for v in (*graph.inputs, *(v for n in graph.nodes for v in n.outputs))}
    alive = sum(v.type.nbytes for v in graph.inputs if v.is_read)
    profile = []
    for node in graph.nodes:
        alive += sum(v.type.nbytes for v in node.outputs)
        profile.append((node, alive))
        alive -= sum(v.type.nbytes for v in node.outputs if not v.is_read)
        for operand in {v for v in node.inputs if v in left}:
            left[operand] -= 1
            if not left[operand] and not operand.n_out:
                alive -= operand.type.nbytes
    return profile


def peak_bytes(graph: Graph) -> int:
    """The most memory that activations need at once, when layers run in the graph's order."""
    return max((alive for _, alive in live_bytes(graph)), default=0)


def _connect(view: nx.MultiDiGraph[Key], value: Value | None, reader: Key, operand: int) -> None:
    if value is not None and value.data is None:
        source = value if value.node is None else value.node
        view.add_edge(source, reader, value=value, type=value.type, bytes=value.type.nbytes, operand=operand)

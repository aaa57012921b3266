"""Cuts a few layers out of a graph, as a graph of their own."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from compiler.graph import Graph, Node, Value


def extract(
    outputs: Sequence[Value], nodes: Collection[Node], name: str = "subgraph", leaves: Sequence[Value] = ()
) -> tuple[Graph, list[Value]]:
    """The layers among `nodes` that `outputs` need, as a new graph, and the values that are its inputs.

    The layers may have been erased from their graph already: operands are what they were. Inputs are named in0, in1 ...
    and outputs out0, out1 ..., in order; `leaves` are inputs in any case, and come first.
    """
    cut = Graph(name)
    inputs = list(leaves)
    made = {id(v): cut.add_input(v.type, f"in{i}") for i, v in enumerate(inputs)}
    stack = list(reversed(outputs))
    while stack:
        v = stack.pop()
        if id(v) in made:
            continue
        if v.data is not None:
            made[id(v)] = cut.const(v.data, v.name, v.origin)
        elif v.node is None or v.node not in nodes:
            made[id(v)] = cut.add_input(v.type, f"in{len(inputs)}")
            inputs.append(v)
        else:
            missing = [o for o in v.node.inputs if o is not None and id(o) not in made]
            if missing:
                stack.extend((v, *reversed(missing)))
            else:
                _copy(cut, v.node, made)
    cut.set_outputs([made[id(v)] for v in outputs], [f"out{i}" for i in range(len(outputs))])
    return cut, inputs


def _copy(cut: Graph, node: Node, made: dict[int, Value]) -> None:
    operands = [None if o is None else made[id(o)] for o in node.inputs]
    copies = cut.add(node.op, *operands, origin=node.origin, names=[o.name for o in node.outputs])
    made.update((id(old), new) for old, new in zip(node.outputs, copies, strict=True))

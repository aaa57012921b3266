"""Which element-by-element layers are computed together with the layer before them.

A layer whose result only one layer reads, element by element, ends with what that does (its tail), and so on along a
chain; other operands of the chain are whole values of the same shape and order, at most one, and numbers. A group is
computed where its last layer stands, when all that it reads is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from codegen.expression import Expression, Number, Operand, is_within
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ops.layout import order_of
from targets.source.chains import PARTS, Chain, chained
from targets.source.expressions import result_of
from targets.source.program import Tail

Test = Callable[[Expression], bool]
Heads = Mapping[type[Op], Callable[[Node], bool]]  # operations that compute tails, and of which layers


class Groups(NamedTuple):
    """`tails`: of layers that have one; `last`: the last layer of a chain -> the one that computes all of it; `inside`:
    layers that are computed elsewhere; `chains`: the last layers of groups that are one loop."""

    tails: dict[Node, Tail]
    last: dict[Node, Node]
    inside: set[Node]
    chains: dict[Node, Chain]


def grouped(graph: Graph, heads: Heads, is_vector: Test) -> Groups:
    """The chains of a graph. Layers that are computed elsewhere end with what `is_vector`; loops are of such alone, or
    of no such."""
    found = Groups({}, {}, set(), {})
    for node in graph.nodes:
        takes = heads.get(type(node.op))
        if takes is None or not takes(node) or node in found.inside:
            continue
        tail = _tail(node, found, is_vector)
        if tail is not None:
            end = tail.value.node
            assert end is not None
            found.tails[node] = tail
            found.last[end] = node
            found.inside.update(_between(node, end))
    chains, inside = chained(graph, found.inside | found.last.keys(), is_vector)
    found.chains.update(chains)
    found.inside.update(inside)
    return found


def _between(node: Node, end: Node) -> list[Node]:
    """The layers of a chain but the last."""
    chain = [node]
    while (following := next(iter(chain[-1].output.users))) is not end:
        chain.append(following)
    return chain


def _tail(node: Node, known: Groups, is_vector: Test) -> Tail | None:
    """The chain behind a layer, up to where another layer computes it."""
    expression: Expression = Operand(0)
    others: list[Value] = []
    value = node.output
    while (reader := _only_reader(value)) is not None and reader not in known.inside and reader not in known.last:
        operands = [_operand(v, value, expression, others) for v in reader.inputs]
        if any(o is None for o in operands) or reader.output.type.shape != node.output.type.shape:
            break
        made = result_of(reader, [o for o in operands if o is not None])
        if made is None or not is_within(made, PARTS) or not is_vector(made):
            break
        if reader.output.type.dtype is not node.output.type.dtype:
            break
        for v in reader.inputs:
            if v is not value and v is not None and not _is_number(v) and v not in others:
                others.append(v)
        expression, value = made, reader.output
    return None if value is node.output else Tail(expression, others, value)


def _only_reader(v: Value) -> Node | None:
    """The layer that alone reads a value, and has one result."""
    reader = next(iter(v.users)) if len(v.users) == 1 and not v.n_out else None
    return reader if reader is not None and len(reader.outputs) == 1 else None


def _operand(v: Value | None, value: Value, so_far: Expression, others: list[Value]) -> Expression | None:
    """An operand of a layer that reads `value`; None if a tail cannot read it."""
    if v is value:
        return so_far
    if v is None or v.type.dtype is not value.type.dtype:
        return None
    if _is_number(v):
        assert v.data is not None
        return Number(float(v.data.reshape(-1)[0]))
    same = v.type.shape == value.type.shape and order_of(v.type) == order_of(value.type)
    if not same or (others and v not in others):
        return None
    return Operand(1)


def _is_number(v: Value) -> bool:
    return v.data is not None and v.type.size == 1

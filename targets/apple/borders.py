"""Moves of data at the borders of a graph that are left to the caller, so that inputs and outputs lie as the engine has
them: a cached key as (B, H * D, 1, S), say, which comes back with the next call and need not be moved at all."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from math import prod
from typing import NamedTuple

from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ops.shape import Reshape, Transpose
from compiler.tensor import Array
from targets.apple.engine import load

MOVES = (Reshape, Transpose)
MAX_RANK = 5


class Border(NamedTuple):
    """An input or output: the value that stands for it in the package, the operations that the caller does to its own
    array (before the call for inputs, after it for outputs), and the layers that need not be written."""

    value: Value
    moves: tuple[Op, ...] = ()
    nodes: tuple[Node, ...] = ()

    def apply(self, array: Array) -> Array:
        """What the moves make of an array."""
        for op in self.moves:
            array = op.evaluate(array)  # type: ignore[assignment]  # moves have one result
        return array


def padded_bytes(dims: tuple[int, ...], itemsize: int = 2) -> int:
    """Bytes of a tensor whose last axis is stored in whole rows."""
    row: int = load("rules")["layout"]["last_axis_alignment"]["bytes"]
    width = dims[-1] * itemsize if dims else itemsize
    return prod(dims[:-1]) * -(-width // row) * row


def entering(value: Value) -> Border:
    """The value after an input's moves that takes the least memory, the innermost of several."""
    chain, nodes = [value], list[Node]()
    while (node := _only_reader(chain[-1])) is not None and isinstance(node.op, MOVES):
        nodes.append(node)
        chain.append(node.output)
    best = _smallest(chain)
    return Border(chain[best], tuple(n.op for n in nodes[:best]), tuple(nodes[:best]))


def leaving(value: Value, taken: Container[Node] = ()) -> Border:
    """The value before an output's moves, `taken` ones excepted, that takes the least memory, the innermost of
    several."""
    chain, nodes = [value], list[Node]()
    while (node := chain[-1].node) is not None and isinstance(node.op, MOVES) and _is_only_for(chain[-1], nodes):
        source = node.inputs[0]
        assert source is not None
        if source.data is not None or node in taken:
            break
        nodes.append(node)
        chain.append(source)
    best = _smallest(chain)
    return Border(chain[best], tuple(n.op for n in reversed(nodes[:best])), tuple(nodes[:best]))


def borders(graph: Graph, fits: Callable[[Value], bool]) -> Mapping[Value, Border]:
    """The borders of all inputs and outputs that `fits` agrees to; others stay as they are."""
    found = {v: entering(v) for v in graph.inputs if fits(v)}
    taken = {node for border in found.values() for node in border.nodes}
    return {**found, **{v: leaving(v, taken) for v in graph.outputs if fits(v) and v not in found}}


def _only_reader(value: Value) -> Node | None:
    readers = list(value.users.items())
    return readers[0][0] if len(readers) == 1 and readers[0][1] == 1 and not value.n_out else None


def _is_only_for(value: Value, nodes: list[Node]) -> bool:
    """Whether a value is read by the last of the moves alone or, before any, is one output and nothing else."""
    return _only_reader(value) is nodes[-1] if nodes else not value.users and value.n_out == 1


def _smallest(chain: list[Value]) -> int:
    sizes = [padded_bytes(v.type.dims) if v.type.rank <= MAX_RANK else 1 << 62 for v in chain]
    return max(i for i, size in enumerate(sizes) if size == min(sizes))

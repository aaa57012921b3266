"""Inputs made from a seed: numbers that a model can compute with, where nobody gives better ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler.errors import UsageError
from compiler.graph import Graph, Value
from compiler.ops.elementwise import Cast, Identity
from compiler.ops.index import Gather
from compiler.ops.parts import Slice
from compiler.ops.shape import Expand, Reshape, Transpose
from compiler.tensor import BOOL, STRING, Array, TensorType

INDEX_LIMIT = 4  # integers lie in 0..3 where nothing is known of them: valid indices almost everywhere
MOVES = (Cast, Expand, Identity, Reshape, Slice, Transpose)  # the numbers of the result are those of the operand


def seeded_inputs(
    types: Mapping[str, TensorType], seed: int, limits: Mapping[str, int] | None = None
) -> dict[str, Array]:
    """Standard normal floats, small non-negative integers below their limit, fair booleans; the same for the same
    seed, an integer from 0 on (UsageError otherwise).

    limits   by input: what `index_limits` found
    """
    if not isinstance(seed, int) or seed < 0:
        raise UsageError(f"the seed {seed!r} is not a number from 0 on")
    rng, known = np.random.default_rng(seed), limits or {}
    return {name: _seeded(rng, t, known.get(name, _by_name(name))) for name, t in types.items()}


def inputs_for(graph: Graph, seed: int) -> dict[str, Array]:
    """Seeded inputs of a graph, valid indices where it picks rows of tables."""
    return seeded_inputs({v.name: v.type for v in graph.inputs}, seed, index_limits(graph))


def index_limits(graph: Graph) -> dict[str, int]:
    """For each integer input that picks rows of tables: how many rows the smallest of them has."""
    limits = {v.name: _rows(v) for v in graph.inputs if v.type.dtype.is_integer}
    return {name: rows for name, rows in limits.items() if rows}


def _rows(value: Value) -> int:
    """The fewest rows of a table that this value, or what is moved of it, picks from; 0 if it picks none."""
    waiting, seen, found = [value], {value}, []
    while waiting:
        v = waiting.pop()
        for node in v.users:
            table = node.inputs[0]
            if isinstance(node.op, Gather) and node.inputs[1] is v and table is not None:
                rows = table.type.shape[node.op.axis]
                found += [rows] if isinstance(rows, int) else []
            elif isinstance(node.op, MOVES) and table is v and node.output not in seen:
                seen.add(node.output)
                waiting.append(node.output)
    return min(found, default=0)


def _by_name(name: str) -> int:
    """Attention masks tell what counts from what does not: 0 or 1."""
    return 2 if "mask" in name.lower() else INDEX_LIMIT


def _seeded(rng: np.random.Generator, t: TensorType, limit: int) -> Array:
    if t.dtype is STRING:
        return np.full(t.dims, "", object)
    if t.dtype is BOOL:
        return np.asarray(rng.random(t.dims) < 0.5)
    if t.dtype.is_float:
        return np.asarray(rng.standard_normal(t.dims)).astype(t.dtype.numpy)
    top = min(limit, int(np.iinfo(t.dtype.numpy).max)) if t.dtype.numpy.kind in "iu" else limit
    return np.asarray(rng.integers(0, top, t.dims)).astype(t.dtype.numpy)

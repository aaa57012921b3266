"""What is known of constants: the results of layers on them, who needs them, and which of them are equal."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from compiler.errors import CompileError
from compiler.filemap import release
from compiler.graph import Graph, Node, Origin, Value
from compiler.ops.shape import Reshape, ShapeOf, SizeOf, Transpose
from compiler.tensor import Array, type_of

VIEWED = 1 << 16  # bytes of a result above which it may stay a view of something larger
SMALL = 1 << 10  # bytes of a constant that is told apart by all of them
GLANCE = 16  # elements of a larger one, at either end, that are looked at first
BLOCK = 1 << 20  # bytes compared at a time
CANDIDATES = 16  # constants of one type and appearance that a further one is compared with


def known_operands(node: Node) -> list[Array | None] | None:
    """The data of all operands, or a stand-in of the right shape where only that matters; None if one is not known."""
    operands: list[Array | None] = []
    for v in node.inputs:
        if v is None or v.data is not None:
            operands.append(None if v is None else v.data)
        elif type(node.op) in (ShapeOf, SizeOf) and v.type.is_static:
            operands.append(np.broadcast_to(np.zeros((), bool), v.type.dims))
        else:
            return None
    return operands


def results_of(node: Node, operands: list[Array | None]) -> list[Array] | None:
    """The results of a layer; None if it fails, or if they are not of the types that it declares."""
    try:
        results = node.op.evaluate(*operands)
    except (CompileError, ValueError, TypeError, IndexError, ArithmeticError, MemoryError):
        return None  # what fails here fails at run time, if it is ever run
    arrays = [np.asarray(a) for a in (results if isinstance(results, tuple) else (results,))]
    if [(type_of(a).dtype, a.shape) for a in arrays] != [(v.type.dtype, v.type.shape) for v in node.outputs]:
        return None
    return [a.copy() if a.nbytes <= VIEWED else a for a in arrays]


def readers_of(node: Node) -> Iterator[Node]:
    """The layers that read the results of a layer, also those behind reshapes and transposes, which make no copy."""
    users = [user for v in node.outputs for user in v.users]
    while users:
        user = users.pop()
        yield user
        if type(user.op) in (Reshape, Transpose):
            users.extend(user.output.users)


def equal_constants(graph: Graph) -> Iterator[tuple[Value, Value]]:
    """Constants of the graph, each with an earlier one of the same type and bytes."""
    groups: dict[Hashable, list[Value]] = {}
    for v in graph.constants:
        data = v.data
        if data is None or data.dtype.hasobject:
            continue
        small = data.nbytes <= SMALL
        group = groups.setdefault((v.type, data.tobytes() if small else _glance(data)), [])
        twin = next((first for first in group if small or _same_bytes(first.data, data)), None)
        if twin is not None:
            yield v, twin
        elif len(group) < CANDIDATES:
            group.append(v)


def _glance(data: Array) -> bytes:
    first, last = data[(0,) * (data.ndim - 1)], data[(-1,) * (data.ndim - 1)]
    seen = first[:GLANCE].tobytes() + last[-GLANCE:].tobytes()
    release(data)
    return seen


def _same_bytes(a: Array | None, b: Array) -> bool:
    assert a is not None
    places = [(x.__array_interface__["data"][0], x.strides) for x in (a, b)]
    if places[0] == places[1]:
        return True
    rows = max(1, BLOCK // (b.nbytes // len(b)))
    blocks = ((x[i : i + rows] for x in (a, b)) for i in range(0, len(b), rows))
    same = all(x.tobytes() == y.tobytes() for x, y in blocks)
    release(a)
    release(b)
    return same


def unite_origins(twins: Sequence[tuple[Node | Value, Node | Value]]) -> None:
    """Give each first of some (twin, first) the provenance of its twins."""
    origins: dict[Node | Value, list[Origin]] = {}
    for twin, first in twins:
        origins.setdefault(first, []).append(twin.origin)
    for first, others in origins.items():
        first.origin = first.origin.union(*others)

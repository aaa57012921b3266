"""Layers of floats of 32 bits as layers of 16, and which of them 16 bits make wrong whatever the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from compiler import ops
from compiler.errors import CompileError
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ops.layout import ConvertLayout
from compiler.rewrite import Builder
from compiler.tensor import F16, F32

MOVES: tuple[type[Op], ...] = (
    ops.Reshape, ops.Transpose, ops.Expand, ops.Slice, ops.Identity, ops.Concat, ops.Split, ops.Tile, ops.Gather,
    ops.GatherElements, ops.GatherND, ops.Pad, ConvertLayout,
)  # fmt: skip
ARITHMETIC: tuple[type[Op], ...] = (
    ops.Add, ops.Sub, ops.Mul, ops.Div, ops.Neg, ops.Abs, ops.Sqrt, ops.Floor, ops.Ceil, ops.Round, ops.Max, ops.Min,
    ops.Sum, ops.Mean, ops.Mod, ops.Where, ops.Clip, ops.Relu, ops.Pow, ops.Reciprocal, ops.Sign, ops.Exp, ops.Log,
)  # fmt: skip
BOUNDED: tuple[type[Op], ...] = (ops.Clip, ops.Sign, ops.Reciprocal, ops.Log)
PRODUCTS: tuple[type[Op], ...] = (ops.Conv, ops.Dense, ops.MatMul)
SMALL = 0.25  # of a model's multiply-accumulates
Ops = tuple[type[Op], ...]
SUMS = (ops.ReduceSum, ops.ReduceMean, ops.ReduceSumSquare, ops.ReduceL2)
DIVISORS: tuple[type[Op], ...] = (ops.Div, ops.Log, ops.Reciprocal, ops.Pow)  # where 0 and what is nearly 0 differ
FIXED: tuple[type[Op], ...] = (  # operands are steps, coordinates, or compared with each other
    ops.QuantizeLinear, ops.DequantizeLinear, ops.DynamicQuantizeLinear, ops.Range, ops.BitCast, ops.NonMaxSuppression,
    ops.GridSample, ops.RoiAlign, ops.MaxRoiPool, ops.DFT, ops.STFT, ops.Det,
)  # fmt: skip
FREE: Ops = (*ARITHMETIC, *MOVES, *SUMS, ops.Cast)


def fits(v: Value) -> bool:
    """Whether halves hold a constant: none of its finite elements becomes infinite, and the largest keeps its
    digits."""
    return not (exceeds(v) or vanishes(v))


def exceeds(v: Value) -> bool:
    """Whether a finite element of a constant becomes infinite."""
    return _peak(v) >= HALF_END


def vanishes(v: Value) -> bool:
    """Whether even the largest element of a constant is 0 as a half, or has lost digits."""
    return 0 < _peak(v) < float(np.finfo(np.float16).smallest_normal) / 2


HALF_END = 65520.0  # the smallest number that is infinite as a half


def _peak(v: Value) -> float:
    if v.data is None or v.type.dtype is not F32 or not v.data.size:
        return 0.0
    peak = float(max(-v.data.min(), v.data.max()))
    return peak if np.isfinite(peak) else float(np.abs(v.data[np.isfinite(v.data)]).max(initial=0.0))


def kept(graph: Graph) -> set[Node]:
    """The layers that stay in 32 bits."""
    nodes = list(graph.nodes)
    found = {n for n in nodes if isinstance(n.op, FIXED) or any(v.type.quant is not None for v in _floats(n))}
    _follow(nodes, found)
    _precede(nodes, found)
    return found


def _follow(nodes: list[Node], found: set[Node]) -> None:
    """What reads constants that halves do not hold, and what is computed of the results as long as these may be as
    large, or as small and are divided by."""
    large, small = set[Value](), set[Value]()
    for node in nodes:
        floats = [v for v in node.inputs if v is not None and v.type.dtype is F32]
        if any(v in large or exceeds(v) for v in floats):
            found.add(node)
            if isinstance(node.op, (*ARITHMETIC, *MOVES)) and not isinstance(node.op, BOUNDED):
                large.update(node.outputs)
        if any(v in small or vanishes(v) for v in floats) and isinstance(node.op, (*ARITHMETIC, *MOVES)):
            found.add(node)
            if not isinstance(node.op, DIVISORS):
                small.update(node.outputs)
        elif any(vanishes(v) for v in floats):
            found.add(node)


def _precede(nodes: list[Node], found: set[Node]) -> None:
    """What is computed for integers, steps, coordinates and logarithms alone, of which small numbers matter, and what
    for probabilities back to the last product. Products are among it if they are a small part of the model's, as the
    spectra in front of a network of sound."""
    exact = {n for n in nodes if isinstance(n.op, (*FIXED, ops.Log)) or _gives_integers(n)}
    whole = sum(n.macs for n in nodes)
    for ends, among, last in ((exact, (*FREE, *PRODUCTS), ()), (_scores(nodes), FREE, PRODUCTS)):
        made = _before(nodes, ends, among, last)
        found |= made if sum(n.macs for n in made) <= SMALL * whole else _before(nodes, ends, FREE)


def _before(nodes: list[Node], ends: set[Node], among: Ops, last: Ops = ()) -> set[Node]:
    """`ends`, and layers `among` some operations that nothing reads but these; and of the operations `last` those that
    nothing else reads."""
    inner, outer = set(ends), set[Node]()
    for node in reversed(nodes):
        users = {user for v in node.outputs for user in v.users}
        is_inner = users and users <= inner and not any(v.n_out for v in node.outputs)
        if not is_inner or not any(v.type.dtype is F32 for v in node.outputs):
            continue
        if isinstance(node.op, among):
            inner.add(node)
        elif isinstance(node.op, last):
            outer.add(node)
    return inner | outer


def _scores(nodes: list[Node]) -> set[Node]:
    """Sigmoids that the model gives out, and what only moves them there: probabilities, of which tiny ones are told by
    differences of large negative numbers."""
    given: set[Node] = set()
    for node in reversed(nodes):
        is_given = all((v.n_out or v.users) and v.users.keys() <= given for v in node.outputs)
        if is_given and isinstance(node.op, (*MOVES, ops.Sigmoid)):
            given.add(node)
    found: set[Node] = set()
    for node in nodes:
        reads = any(v is not None and v.node in found for v in node.inputs)
        if node in given and (isinstance(node.op, ops.Sigmoid) or reads):
            found.add(node)
    return found


def _gives_integers(node: Node) -> bool:
    return isinstance(node.op, ops.Cast) and node.output.type.dtype.is_integer


def _floats(node: Node) -> Iterator[Value]:
    return (v for v in (*node.inputs, *node.outputs) if v is not None and v.type.dtype is F32)


def is_narrowed(node: Node) -> bool:
    """Whether a layer gives floats of 32 bits, or reads some that it need not; halves made floats for good are read as
    they are."""
    if isinstance(node.op, ops.Cast):
        x = node.inputs[0]
        return x is not None and node.output.type.dtype is F32 and not x.type.dtype.is_float
    return any(v.type.dtype is F32 for v in (*node.inputs, *node.outputs) if v is not None)


class Halves:
    """Values of a graph as halves."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[Value, Value] = {}

    def layer(self, node: Node, b: Builder, takes: Callable[[Node], bool] | None) -> Sequence[Value] | None:
        """The results of a layer, computed in halves and made wide again; None if it cannot be."""
        operands = [v if v is None or v.type.dtype is not F32 else self._half(v, b) for v in node.inputs]
        op = node.op.with_(to=F16.name) if isinstance(node.op, ops.Cast) else node.op
        try:
            made = b.add_many(op, *operands)
        except CompileError:  # the operation has no halves
            return None
        if any(new.type.dtype is not _narrow(old) for old, new in zip(node.outputs, made, strict=True)):
            return None
        narrow = made[0].node
        if narrow is None or (takes is not None and not takes(narrow)):
            return None
        results = []
        for old, new in zip(node.outputs, made, strict=True):
            new.name = old.name
            results.append(new if new.type == old.type else b.add(ops.Cast(to=F32.name), new))
        return results

    def _half(self, v: Value, b: Builder) -> Value:
        """A value as halves, of which what it was made from may be one."""
        source = v.node.inputs[0] if v.node is not None and isinstance(v.node.op, ops.Cast) else None
        if source is not None and source.type.dtype is F16:
            return source
        found = self._known.get(v)
        if found is None or (found.node is not None and found.node.is_erased):
            found = b.add(ops.Cast(to=F16.name), v) if v.data is None else self._constant(v)
            self._known[v] = found
        return found

    def _constant(self, v: Value) -> Value:
        assert v.data is not None
        with np.errstate(over="ignore"):  # infinities stay
            return self._graph.const(v.data.astype(np.float16), v.name, v.origin)


def _narrow(v: Value) -> object:
    """The element type of a result once halves are read."""
    return F16 if v.type.dtype is F32 else v.type.dtype

"""Graphs for tests of layouts: grown at random from layers that care about them; and a machine that has only memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.ops import (
    Add,
    AveragePool,
    Concat,
    Conv,
    ConvertLayout,
    Gather,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    ReduceMean,
    Relu,
    Reshape,
    Slice,
    Softmax,
    Split,
    Transpose,
)
from compiler.ops.layout import aligned_shape, channels_last, logical, order_of, physical_axis, physical_shape
from compiler.ops.reduce import Reduce
from compiler.tensor import F32, Array, TensorType
from passes.choose_layout import is_free, physical_perm

if TYPE_CHECKING:
    from numpy.random import Generator

WINDOW = {"kernel": (1, 1), "strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}


def conv(graph: Graph, x: Value, filters: int, seed: int = 0) -> Value:
    """A pointwise convolution with small whole weights."""
    rng = np.random.default_rng(seed)
    w = graph.const(rng.integers(-2, 3, (filters, int(x.type.shape[1]), 1, 1)).astype(np.float32))
    return graph.add(Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1)), x, w, origin=frozenset(("conv",)))[0]


class Nursery:
    """A graph of rank-4 images and what becomes of them, grown layer by layer."""

    def __init__(self, rng: Generator) -> None:
        self.rng = rng
        self.graph = Graph("images")
        self.pool = [
            self.graph.add_input(TensorType(F32, s), f"x{i}") for i, s in enumerate([(2, 3, 4, 5), (2, 5, 3, 4)])
        ]

    def add(self, op: Any, *operands: Value) -> None:  # Any: every operation with its own fields
        self.pool.extend(self.graph.add(op, *operands, origin=frozenset((f"n{len(self.graph)}",))))

    def one_of(self, options: list[Any]) -> Any:  # Any: whatever it is given
        return options[int(self.rng.integers(len(options)))]

    def grow(self) -> None:
        """One more layer; nothing where the draw does not fit."""
        x: Value = self.one_of(self.pool[-4:] if self.rng.random() < 0.7 else self.pool)
        if x.type.rank > 1:
            getattr(self, self.one_of(GROWTHS))(x, x.type.rank, x.type.dims)

    def convolve(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        if rank == 4:
            self.pool.append(conv(self.graph, x, int(self.rng.integers(1, 4)), len(self.graph)))

    def pooled(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        if rank == 4:
            self.add(self.one_of([MaxPool, AveragePool])(**WINDOW), x)

    def unary(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        self.add(Relu(), x)

    def binary(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        fitting = [v for v in self.pool if v.type.rank <= rank and _broadcasts(v.type.dims, dims)]
        self.add(self.one_of([Add, Mul])(), x, self.one_of(fitting))

    def constant(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        shape = tuple(d if self.rng.random() < 0.6 else 1 for d in dims[int(self.rng.integers(rank)) :])
        self.add(Add(), x, self.graph.const(self.rng.integers(-3, 4, shape).astype(np.float32)))

    def transpose(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        usual = [channels_last(rank), (0, rank - 1, *range(1, rank - 1))] if rank > 2 else [(1, 0)]
        self.add(Transpose(perm=self.one_of(usual if self.rng.random() < 0.7 else list(permutations(range(rank))))), x)

    def reshape(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        at = int(self.rng.integers(rank))
        merged = (*dims[:at], int(np.prod(dims[at : at + 2])), *dims[at + 2 :])
        halves = [(*dims[:i], 2, d // 2, *dims[i + 1 :]) for i, d in enumerate(dims) if d % 2 == 0 and rank < 5]
        self.add(Reshape(shape=self.one_of([merged, (*dims[:at], 1, *dims[at:]), *halves])), x)

    def concat(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        same = [v for v in self.pool if v.type.dims == dims]
        self.add(Concat(axis=int(self.rng.integers(rank))), x, self.one_of(same))

    def split(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        axes = [i for i, d in enumerate(dims) if d > 1]
        if axes:
            axis = self.one_of(axes)
            self.add(Split(axis=axis, sizes=(1, dims[axis] - 1)), x)

    def window(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        pads = tuple(int(p) for p in self.rng.integers(0, 2, 2 * rank))
        starts = tuple(int(self.rng.integers(d)) for d in dims)
        self.add(self.one_of([Pad(pads=pads), Slice(starts=starts, ends=dims, steps=(1,) * rank)]), x)

    def reduce(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        axes = tuple(sorted({int(a) for a in self.rng.integers(0, rank, 2)}))
        keep = bool(self.rng.random() < 0.5) or rank <= len(axes) + 1
        self.add(ReduceMean(axes=axes, keepdims=keep), x)

    def along(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        axis = int(self.rng.integers(rank))
        if self.rng.random() < 0.5:
            self.add(Softmax(axis=axis), x)
        else:
            shape = self.one_of([(), (2,), (1, 2)]) if rank < 5 else ()
            self.add(Gather(axis=axis), x, self.graph.const(self.rng.integers(0, dims[axis], shape)))

    def matmul(self, x: Value, rank: int, dims: tuple[int, ...]) -> None:
        self.add(MatMul(), x, self.graph.const(np.ones((dims[-1], 2), np.float32)))


GROWTHS = [name for name in vars(Nursery) if name not in ("add", "one_of", "grow") and not name.startswith("_")]


def images(rng: Generator, layers: int) -> Graph:
    """A graph of layers that care about layouts, with outputs in the middle."""
    nursery = Nursery(rng)
    for _ in range(layers):
        if max(v.type.size for v in nursery.pool) < 4096:
            nursery.grow()
    graph = nursery.graph
    computed = [v for n in graph.nodes for v in n.outputs]
    outputs = [v for v in computed if not v.is_read or rng.random() < 0.1] or nursery.pool[:1]
    graph.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
    return graph


def _broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    pairs = zip(reversed(small), reversed(large), strict=False)
    return len(small) <= len(large) and all(a in (1, b) for a, b in pairs)


def run_in_memory(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of an annotated graph on a machine that sees only memory: arrays in physical order, as a target
    would handle them. Layers without a rule here must have logical orders and compute on those."""
    held: dict[Value, Array] = {v: inputs[v.name].transpose(order_of(v.type)) for v in graph.inputs}
    for node in graph.nodes:
        operands = [_held(v, held) for v in node.inputs if v is not None]
        rule = RULES.get(type(node.op), _broadcast if node.op.elementwise else _logical)
        if isinstance(node.op, Reduce):
            rule = _reduce
        results = rule(node, operands)
        for v, a in zip(node.outputs, results, strict=True):
            assert a.shape == physical_shape(v.type), f"{node!r} gives {a.shape}"
            held[v] = a
    pairs = zip(graph.outputs, graph.output_names, strict=True)
    return {name: _held(v, held).transpose(np.argsort(order_of(v.type))) for v, name in pairs}


def _held(v: Value, held: Mapping[Value, Array]) -> Array:
    return held[v] if v.data is None else v.data.transpose(order_of(v.type))


def _logical(node: Node, operands: list[Array]) -> tuple[Array, ...]:
    orders = [order_of(v.type) for v in (*node.inputs, *node.outputs) if v is not None]
    assert all(order == logical(len(order)) for order in orders), repr(node)
    results = node.op.evaluate(*operands)
    return results if isinstance(results, tuple) else (results,)


def _images(node: Node, operands: list[Array]) -> tuple[Array, ...]:
    """A kernel that takes and gives channels-last images."""
    assert all(order_of(v.type) == channels_last(4) for v in (node.inputs[0], *node.outputs) if v is not None), repr(
        node
    )
    result = node.op.evaluate(operands[0].transpose(0, 3, 1, 2), *operands[1:])
    assert isinstance(result, np.ndarray)
    return (result.transpose(0, 2, 3, 1),)


def _broadcast(node: Node, operands: list[Array]) -> tuple[Array, ...]:
    out = node.output.type
    shapes = [v.type.with_shape(aligned_shape(v.type, out)).dims for v in node.inputs if v is not None]
    result = node.op.evaluate(*(a.reshape(s) for a, s in zip(operands, shapes, strict=True)))
    assert isinstance(result, np.ndarray)
    return (result,)


def _moved(node: Node, operands: list[Array]) -> tuple[Array, ...]:
    moved = operands[0].transpose(physical_perm(node))
    if is_free(node):
        moved = operands[0].reshape(_physical_dims(node))
    return (moved,)


def _physical_dims(node: Node) -> tuple[int, ...]:
    t = node.output.type
    return t.with_shape(physical_shape(t)).dims


def _axis(node: Node) -> int:
    assert node.inputs[0] is not None
    return physical_axis(node.inputs[0].type, node.op.values()["axis"])


def _softmax(node: Node, operands: list[Array]) -> tuple[Array, ...]:
    assert _axis(node) == operands[0].ndim - 1, f"{node!r}: the axis is not innermost"
    return (np.asarray(Softmax(axis=operands[0].ndim - 1).evaluate(operands[0])),)


def _reduce(node: Node, operands: list[Array]) -> tuple[Array, ...]:
    op, x = node.op, node.inputs[0]
    assert isinstance(op, Reduce) and x is not None
    axes = tuple(sorted(physical_axis(x.type, a) for a in op.axes))
    return (np.asarray(op.with_(axes=axes).evaluate(operands[0])),)


def _padded(node: Node, operands: list[Array]) -> tuple[Array, ...]:
    assert isinstance(node.op, Pad)
    order, pads = order_of(node.output.type), node.op.pads
    moved = (*(pads[i] for i in order), *(pads[len(order) + i] for i in order))
    return (Pad(pads=moved).evaluate(operands[0]),)


def _sliced(node: Node, operands: list[Array]) -> tuple[Array, ...]:
    order = order_of(node.output.type)
    moved = {name: tuple(values[i] for i in order) for name, values in node.op.values().items()}
    return (Slice(**moved).evaluate(operands[0]),)


def _split(node: Node, operands: list[Array]) -> tuple[Array, ...]:
    op = node.op
    assert isinstance(op, Split)
    return tuple(Split(axis=_axis(node), sizes=op.sizes).evaluate(operands[0]))


Rule = Callable[[Node, list[Array]], tuple[Array, ...]]
RULES: dict[type, Rule] = {
    **dict.fromkeys((Conv, MaxPool, AveragePool), _images),
    **dict.fromkeys((Transpose, ConvertLayout), _moved),
    Concat: lambda node, a: (np.concatenate(a, physical_axis(node.output.type, node.op.values()["axis"])),),
    Gather: lambda node, a: (np.take(a[0], a[1], _axis(node)),),
    Pad: _padded,
    Reshape: lambda node, a: (a[0].reshape(_physical_dims(node)),),
    Slice: _sliced,
    Softmax: _softmax,
    Split: _split,
}

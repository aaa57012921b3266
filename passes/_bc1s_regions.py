"""Regions of a graph whose layers have a form on (B, C, H, W): written beside the layers, weighed, and put in their
place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from compiler.graph import Graph, Node, Value
from compiler.ops.attention import Attention
from compiler.ops.matmul import Dense
from compiler.ops.shape import Reshape, Transpose
from passes._bc1s_attention import Settings, attention, fits
from passes._bc1s_form import Author, Form
from passes._bc1s_known import Known
from passes._bc1s_ops import dense, writer
from passes._bc1s_scale import Rows, scalable


class Region(NamedTuple):
    """Layers that are joined by values, what takes their place, and the values that others read."""

    layers: tuple[Node, ...]
    dead: tuple[Node, ...]
    written: tuple[Node, ...]
    old: tuple[Value, ...]
    new: tuple[Value, ...]


class Walk:
    """One pass over a graph, in order. `layers` are those that have been written under frames."""

    def __init__(self, graph: Graph, settings: Settings, folds: bool = True) -> None:
        self.graph = graph
        self.settings = settings
        self.author = Author(graph)
        self.known = Known(self.author)
        self.layers: dict[Node, None] = {}
        self.rows: dict[Node, Rows] = {}  # attention -> dense layers that take its scale
        if folds:
            found = {node: scalable(node) for node in graph.of(Attention) if _is_plain(node) and fits(node)}
            self.rows = {node: rows for node, rows in found.items() if rows is not None}
        self._factors = {node: factor for rows in self.rows.values() for node, factor in rows.items()}
        for node in graph.nodes:
            if _is_plain(node):
                self._visit(node)

    @property
    def is_whole(self) -> bool:
        """Whether each scale that went into weights is left out of its attention."""
        return all({node, *rows} <= self.layers.keys() for node, rows in self.rows.items())

    def _visit(self, node: Node) -> None:
        self.author.at(node)
        if isinstance(node.op, Reshape | Transpose):
            self._view(node)
            return
        forms = self._written(node)
        if forms is not None:
            self.layers[node] = None
            self.known.forms.update(zip(node.outputs, forms, strict=True))

    def _view(self, node: Node) -> None:
        """A reshape or transpose of a value that has a frame gives the value another one; of others it is looked
        through."""
        (x,) = node.inputs
        assert x is not None
        form = self.known.of(x)
        op = node.op
        frame = (
            form.frame.transposed(op.perm) if isinstance(op, Transpose) else form.frame.reshaped(node.output.type.dims)
        )
        if frame is not None and (self.known.is_placed(x) or node.output.type.dtype.is_float):
            self.known.forms[node.output] = Form(frame.canonical(), form.tensors)
            if not frame.is_loose:
                self.layers[node] = None

    def _written(self, node: Node) -> Sequence[Form] | None:
        if isinstance(node.op, Dense):
            return dense(self.known, node, self._factors.get(node))
        if isinstance(node.op, Attention):
            return attention(self.known, node, self.settings, node in self.rows)
        write = writer(node.op)
        return None if write is None else write(self.known, node)

    def regions(self) -> Iterator[Region]:
        """The regions, with the layers written that give their results to the layers around them."""
        for layers in components(self.layers):
            inside = set(layers)
            old = [v for n in layers for v in n.outputs if v.n_out or not inside.issuperset(v.users)]
            if not old:
                continue
            new = []
            for v in old:
                assert v.node is not None
                self.author.at(v.node)
                new.append(self.author.logical(self.known.forms[v]))
            made = set(self.author.added)
            written = tuple(_behind(new, made))
            yield Region(tuple(layers), tuple(_views(layers, inside)), written, tuple(old), tuple(new))

    def clear(self) -> None:
        """Erase what nothing reads."""
        self.graph.erase_unread(reversed(self.author.added))


def written(graph: Graph, settings: Settings) -> Walk:
    """A walk that has taken all scales into weights, or none."""
    walk = Walk(graph, settings)
    if walk.is_whole:
        return walk
    walk.clear()
    return Walk(graph, settings, folds=False)


def _is_plain(node: Node) -> bool:
    """Whether a layer has sizes that are known and not 0, and computes floats that are not quantized."""
    types = [v.type for v in (*node.inputs, *node.outputs) if v is not None]
    return (
        bool(node.outputs)
        and all(t.is_static and 0 not in t.shape and t.quant is None for t in types)
        and all(v.type.dtype.is_float for v in node.outputs)
    )


def components(layers: Iterable[Node]) -> list[list[Node]]:
    """Layers in groups that are joined by values, each in its order."""
    leader: dict[Node, Node] = {n: n for n in layers}

    def find(n: Node) -> Node:
        while leader[n] is not n:
            leader[n] = leader[leader[n]]
            n = leader[n]
        return n

    for node in leader:
        for v in node.inputs:
            if v is not None and v.node in leader:
                leader[find(node)] = find(v.node)
    groups: dict[Node, list[Node]] = {}
    for node in leader:
        groups.setdefault(find(node), []).append(node)
    return list(groups.values())


def _behind(values: Iterable[Value], made: set[Node]) -> list[Node]:
    """The layers among `made` that values need."""
    met: dict[Node, None] = {}
    stack = [v.node for v in values]
    while stack:
        node = stack.pop()
        if node is None or node not in made or node in met:
            continue
        met[node] = None
        stack.extend(v.node for v in node.inputs if v is not None)
    return list(met)


def _views(layers: Sequence[Node], inside: set[Node]) -> list[Node]:
    """Reshapes and transposes before a region that only it reads."""
    gone: dict[Node, None] = {}
    stack = [v.node for n in layers for v in n.inputs if v is not None]
    while stack:
        node = stack.pop()
        if node is None or node in inside or node in gone or not isinstance(node.op, Reshape | Transpose):
            continue
        if not node.output.n_out and all(user in inside or user in gone for user in node.output.users):
            gone[node] = None
            stack.extend(v.node for v in node.inputs if v is not None)
    return list(gone)

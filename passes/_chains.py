"""Layers that follow each other, so that a merge handles all of a chain at once, at a cost linear in its length."""

from __future__ import annotations

from compiler.graph import Node, Value
from compiler.op import OPS, Op
from compiler.ops import Cast, Unary
from compiler.pattern import Layer, OneOf, Wild
from compiler.rewrite import Builder

UNARY: tuple[type[Op], ...] = tuple(op for op in OPS.values() if issubclass(op, Unary | Cast))  # functions of elements


def around_functions(op: type[Op]) -> Layer:
    """A layer of `op` that reads one to three functions of single elements, and they another layer of `op`."""
    inner = Layer(op, Wild())
    return Layer(op, Layer(UNARY, OneOf(inner, Layer(UNARY, OneOf(inner, Layer(UNARY, inner))))))


def only_reader(node: Node) -> Node | None:
    """The layer that reads all that a layer computes, if nothing else does and it is no output of the graph."""
    if len(node.outputs) != 1 or node.output.n_out or len(node.output.users) != 1:
        return None
    return next(iter(node.output.users))


def chain(root: Node, g: Builder, *ops: type[Op], through_shared: bool = False) -> tuple[Value, list[Op]] | None:
    """What the longest chain of layers of `ops` that ends in `root` reads first, and its operations in order.

    None if the only reader of `root` goes on with the chain and will merge it. Layers below the root have no other
    readers; with `through_shared` the first of the chain may have some. The builder's origin becomes that of them all.
    """
    reader = only_reader(root)
    if reader is not None and type(reader.op) in ops and reader.inputs[0] is root.output:
        return None
    links = [root]
    x = root.inputs[0]
    while x is not None and x.node is not None and type(x.node.op) in ops:
        alone = only_reader(x.node) is not None
        if not alone and not through_shared:
            break
        links.append(x.node)
        x = x.node.inputs[0]
        if not alone:
            break
    assert x is not None
    g.origin = g.origin.union(*(node.origin for node in links))
    return x, [node.op for node in reversed(links)]


def past_functions(root: Node, g: Builder, op: type[Op]) -> tuple[Op, Value] | None:
    """The operation of class `op` below the functions of single elements that `root` reads, and those of its operand,
    which are added to the builder; None if something else reads any of them."""
    links: list[Node] = []
    below = root.inputs[0]
    while below is not None and below.node is not None and only_reader(below.node) is not None:
        links.append(below.node)
        if type(below.node.op) not in UNARY:
            break
        below = below.node.inputs[0]
    if len(links) < 2 or type(links[-1].op) is not op:
        return None
    first = links.pop()
    y = first.inputs[0]
    for node in reversed(links):
        y = g.add(node.op, y)
    assert y is not None
    return first.op, y

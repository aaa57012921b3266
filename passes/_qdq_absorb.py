"""Q and DQ layers as annotations of the values between them."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.pass_base import replace_layer
from compiler.rewrite import Builder, Observer
from compiler.tensor import QuantParams
from passes._qdq import before_clip, of_activation


def swap(graph: Graph, node: Node, observer: Observer) -> bool | None:
    """Let a DQ layer read what was laid out for it, or a Q layer at a result of the model give what is laid out behind
    it: the layout of the floats changes instead. False if there is nothing to swap, None if the observer forbids it."""
    last = node if isinstance(node.op, ops.DequantizeLinear) else _only_reader(node)
    first = None if last is None or last.inputs[0] is None else last.inputs[0].node
    if last is None or first is None or of_activation(node) is None:
        return False
    if not isinstance((first if last is node else last).op, ops.ConvertLayout):
        return False
    x, y, b = first.inputs[0], last.output, Builder(graph, last, first.origin | last.origin)
    assert x is not None
    between = b.add(last.op, x, *last.inputs[1:])
    between.type = between.type._replace(layout=(x if last is node else y).type.layout)
    result = b.add(first.op, between, *first.inputs[1:])
    result.type = result.type._replace(layout=y.type.layout)
    return None if replace_layer(graph, "swap", [y], [result], b.added, observer) is None else True


def _only_reader(node: Node) -> Node | None:
    """The layer behind a Q layer, if it gives a result of the model."""
    users = list(node.output.users)
    alone = len(users) == 1 and not node.output.n_out and users[0].outputs[0].n_out
    return users[0] if alone else None


def pair(graph: Graph, node: Node, observer: Observer) -> bool | None:
    """A DQ layer and the Q layer that it reads become an annotation of what that reads. False if they stay, None if the
    observer forbids it."""
    source, params = node.inputs[0], of_activation(node)
    q = None if source is None else source.node
    if q is None or not isinstance(q.op, ops.QuantizeLinear) or params is None or of_activation(q) != params:
        return False
    x = q.inputs[0]
    assert x is not None and source is not None
    alone = len(source.users) == 1 and not source.n_out
    whole = before_clip(x, params) if alone else x
    b = Builder(graph, node, node.origin | q.origin)
    kept = _annotated(whole, params, b)
    if kept is None or kept.type.layout != node.output.type.layout:
        b.undo()
        return False
    return None if replace_layer(graph, "pair", [node.output], [kept], b.added, observer) is None else True


def _annotated(x: Value, params: QuantParams, b: Builder) -> Value | None:
    """`x` stored as integers; a copy of it if it is stored as others. None if somebody reads it unrounded."""
    if x.data is not None:
        return None
    if x.type.quant not in (None, params):
        y = b.add(ops.Identity(), x)
        y.type = x.type._replace(quant=params)
        return y
    if x.type.quant is None and (x.n_out or not all(_rounds(user, x, params) for user in x.users)):
        return None
    x.type = x.type._replace(quant=params)
    return x


def _rounds(node: Node, x: Value, params: QuantParams) -> bool:
    """Whether a layer reads `x` only to round it so; a clip that nothing is lost without does too."""
    if isinstance(node.op, ops.QuantizeLinear):
        return node.inputs[0] is x and of_activation(node) == params
    return isinstance(node.op, ops.Relu | ops.Clip) and before_clip(node.output, params) is x


def port(node: Node) -> Value | None:
    """The value inside of the model that a Q or DQ layer gives to a result or takes from an input; None if it is no
    such layer, or asks for more than an annotation can say."""
    stored = node.inputs[0]
    assert stored is not None
    if of_activation(node) is None:
        return None
    if isinstance(node.op, ops.DequantizeLinear):
        return node.output if stored.node is None and stored.data is None else None
    return stored if node.output.n_out and not node.output.users and stored.data is None else None


def annotate_port(node: Node) -> bool:
    """Annotate the value at a port, where nobody reads it unrounded; whether that changed it."""
    x, params = port(node), of_activation(node)
    if x is None or x.type.quant is not None or params is None:
        return False
    if isinstance(node.op, ops.QuantizeLinear) and (x.n_out or not all(_rounds(u, x, params) for u in x.users)):
        return False
    x.type = x.type._replace(quant=params)
    return True

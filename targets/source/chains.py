"""Which element-by-element layers are computed in one loop.

A group ends with one layer; a layer before it belongs to it if only layers of the group read its result, which has the
shape and order of the group's. What the group reads is broadcast as the layers say. Floats of 16 bits are rounded when
they are stored, not between layers of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from codegen.expression import Expression, Operand, is_within, operands, substitute
from compiler.graph import Graph, Node, Value
from compiler.ops.layout import order_of
from compiler.tensor import F16
from targets.source.elements import KINDS, convert, element_type, number, plain_type
from targets.source.expressions import EXPRESSIONS, computes, expression_of, result_of

PARTS = 300  # of an expression, those that occur several times counted as often
OPERANDS = 8


class Chain(NamedTuple):
    """An expression of the elements of `values`, operand 0 the first."""

    expression: Expression
    values: tuple[Value, ...]


def chained(
    graph: Graph, elsewhere: Collection[Node], is_vector: Callable[[Expression], bool]
) -> tuple[dict[Node, Chain], set[Node]]:
    """The last layer of each group -> what it computes; and the layers that are computed there instead of where they
    stand. Layers that are computed `elsewhere` belong to no group; what is a vector's does not join what is none's."""
    found: dict[Node, Chain] = {}
    inside: set[Node] = set()
    for node in reversed(list(graph.nodes)):
        if node in inside or node in elsewhere or not is_elementwise(node):
            continue
        members = _grown(node, elsewhere, is_vector)
        if len(members) > 1:
            found[node] = chain_of(node, members)
            inside.update(m for m in members if m is not node)
    return found, inside


def is_elementwise(node: Node) -> bool:
    """Whether a layer computes element by element."""
    return type(node.op) in EXPRESSIONS and computes(node) and node.output.type.is_static


def _grown(last: Node, elsewhere: Collection[Node], is_vector: Callable[[Expression], bool]) -> list[Node]:
    """A group, from its last layer on to earlier ones."""
    members = [last]
    best = chain_of(last, members).expression
    waiting = [v.node for v in last.inputs if v is not None]
    while waiting:
        node = waiting.pop(0)
        if node is None or node in members or node in elsewhere or not _may_join(node, members):
            continue
        made = chain_of(last, [*members, node])
        alone = is_vector(chain_of(node, [node]).expression)
        if not is_within(made.expression, PARTS) or len(made.values) > OPERANDS:
            continue
        if is_vector(made.expression) != (is_vector(best) or alone):
            continue
        members.append(node)
        best = made.expression
        waiting += [v.node for v in node.inputs if v is not None]
    return members


def _may_join(node: Node, members: list[Node]) -> bool:
    last = members[0].output.type
    if not is_elementwise(node) or node.output.n_out or any(user not in members for user in node.output.users):
        return False
    own = node.output.type
    return own.shape == last.shape and order_of(own) == order_of(last)


def chain_of(last: Node, members: Collection[Node]) -> Chain:
    """What some layers compute together."""
    known: dict[Value, Expression] = {}
    values: dict[Value, int] = {}
    made = _expression(last, frozenset(members), known, values)
    return Chain(convert(made, element_type(last.output.type.dtype)), tuple(values))


def _expression(
    node: Node, members: Collection[Node], known: dict[Value, Expression], values: dict[Value, int]
) -> Expression:
    given: list[Expression] = []
    for v in node.inputs:
        if v is None:
            continue
        if v not in known:
            is_inner = v.node is not None and v.node in members
            known[v] = _expression(v.node, members, known, values) if is_inner and v.node else _leaf(v, values)
        given.append(known[v])
    made = result_of(node, given) if node.output.type.dtype is F16 else expression_of(node, given)
    assert made is not None
    return made


def _leaf(v: Value, values: dict[Value, int]) -> Expression:
    """An operand, or the number that it is."""
    data = v.data
    if data is not None and v.type.size == 1 and v.type.dtype.kind in KINDS:
        element = data.reshape(-1)[0]
        plain = float(element) if v.type.dtype.is_float else int(element)
        return number(plain, plain_type(v.type.dtype))
    return Operand(values.setdefault(v, len(values)), element_type(v.type.dtype))


def trimmed(chain: Chain) -> Chain:
    """Without values that are not read."""
    read = [o.index for o in operands(chain.expression)]
    if len(read) == len(chain.values):
        return chain
    places: Mapping[int, int] = {index: i for i, index in enumerate(read)}
    values = tuple(chain.values[i] for i in read)
    kinds = {o.index: o for o in operands(chain.expression)}
    renamed = {i: kinds[i]._replace(index=places[i]) for i in read}
    return Chain(substitute(chain.expression, renamed), values)

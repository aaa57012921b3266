"""The two orders that each value may lie in: its logical one, and one that some layer near it asks for.

Label 1 is the side of channels-last: a value of logical shape N,C,H,W has the pair (NCHW, NHWC), and behind a transpose
to N,H,W,C the same pair, of which now the second is the logical one. Pairs spread from layers that demand an order,
through transposes, reshapes and layers that compute the same in any order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from math import prod
from typing import NamedTuple

from compiler.graph import Graph, Node, Value
from compiler.ops.layout import Order, channels_last, in_memory, logical
from compiler.ops.shape import Reshape, Transpose
from passes._layout_axes import axes_of, orders_through, reshaped

# What TFLite's builtin operators take in one order only.
CHANNELS_LAST = (
    *("average_pool", "conv", "conv_transpose", "deform_conv", "depth_to_space", "grid_sample"),
    *("local_response_norm", "lp_pool", "max_pool", "resize", "space_to_depth"),
)
TRAILING = ("hardmax", "log_softmax", "lp_normalize", "softmax", "topk")
DENSE = ("dense", "matmul")

Pair = tuple[Order, Order]  # the order by label


class Demands(NamedTuple):
    """Names of operations that a target runs in one order only.

    channels_last   first operand and results channels-last
    trailing        first operand and results with the operation's axis innermost
    logical         all operands and results in logical order
    dense           products with a matrix, which a target lets read flattened images as they lie if it is constant,
                    with its rows reordered
    """

    channels_last: frozenset[str]
    trailing: frozenset[str]
    logical: frozenset[str]
    dense: frozenset[str]

    def order(self, node: Node) -> Order | None:
        """The only order for the first operand and the results of a layer, if it is not the logical one."""
        name, x = node.op.name, node.inputs[0] if node.inputs else None
        if x is None or x.type.rank < 2:
            return None
        rank = x.type.rank
        if name in self.channels_last:
            return channels_last(rank) if rank > 2 else None
        if name in self.trailing:
            axis = node.op.values()["axis"]
            moved = (*(i for i in range(rank) if i != axis), axis)
            return moved if moved != logical(rank) else None
        return None

    def flattens(self, node: Node) -> bool:
        """Whether a layer flattens images for products with constant matrices alone, and nothing else reads it."""
        x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
        if not isinstance(node.op, Reshape) or x is None or not x.type.is_static or x.type.rank < 2 or y.n_out:
            return False
        dims = x.type.dims
        return y.type.shape == (dims[0], prod(dims[1:])) and all(self._reorders(user, y) for user in y.users)

    def _reorders(self, node: Node, x: Value) -> bool:
        matrix = node.inputs[1] if node.op.name in self.dense else None
        return matrix is not None and matrix.data is not None and matrix.type.rank == 2 and node.inputs[0] is x


class Frames:
    """The pairs of a graph's values; a value without one lies in logical order always.

    images   values whose pair comes from a layer that demands channels-last
    """

    def __init__(self, graph: Graph, demands: Demands) -> None:
        self.demands = demands
        self.pairs: dict[Value, Pair] = {}
        nodes = list(graph.nodes)
        for names in (demands.channels_last, demands.trailing):
            self._spread(self._demanded(n for n in nodes if n.op.name in names))
            if names is demands.channels_last:
                self.images = frozenset(self.pairs)
        for node in graph.of(Transpose):
            self._spread(self._absorbing(node))

    def pair(self, v: Value) -> Pair:
        """The two orders of a value, equal if it has no choice."""
        return self.pairs.get(v) or (logical(v.type.rank),) * 2

    def label(self, v: Value, order: Order | None) -> int | None:
        """The label with which a value lies in an order, dimensions of 1 aside; None if it never does."""
        if order is None:
            return None
        pair = self.pair(v)
        if order in pair:
            return pair.index(order)
        at = in_memory(v.type.shape, order)
        return next((k for k in (0, 1) if in_memory(v.type.shape, pair[k]) == at), None)

    def same(self, v: Value, a: Order | None, b: Order | None) -> bool:
        """Whether two orders put the elements of a value at the same places."""
        if a is None or b is None:
            return False
        return a == b or in_memory(v.type.shape, a) == in_memory(v.type.shape, b)

    def is_settled(self, v: Value) -> bool:
        """Whether both labels put the elements of a value at the same places."""
        return self.same(v, *self.pair(v))

    def instead(self, orders: Mapping[Value, Order]) -> Frames:
        """The same with other orders beside the logical one: for these values, and as far as they pass from there
        without meeting what a layer demands, inputs or outputs."""
        twin = copy(self)
        twin.pairs = dict(self.pairs)
        queue = deque((v, (logical(v.type.rank), order)) for v, order in orders.items())
        seen: set[Value] = set()
        while queue:
            v, pair = queue.popleft()
            if v in seen or v.node is None or v.n_out or self.same(v, pair[1], self.pair(v)[1]) or self._is_held(v):
                continue
            seen.add(v)
            twin.pairs[v] = pair
            for node in (v.node, *v.users):
                queue.extend(twin._through(node, v))
        return twin

    def _is_held(self, v: Value) -> bool:
        """Whether the layer that computes a value, or one that reads it first, demands an order of it."""
        demands = [self.demands.order(user) for user in v.users if user.inputs[0] is v]
        return any(order is not None for order in (v.node and self.demands.order(v.node), *demands))

    def _demanded(self, nodes: Iterable[Node]) -> Iterator[tuple[Value, Pair]]:
        """Pairs for what is read and computed in a demanded order."""
        for node in nodes:
            order = self.demands.order(node)
            for v in (*node.inputs[:1], *node.outputs) if order is not None else ():
                if v is not None and order is not None and v.type.rank == len(order):
                    yield v, (logical(len(order)), order)

    def _absorbing(self, node: Node) -> Iterator[tuple[Value, Pair]]:
        """Pairs with which a transpose that moves bytes in all others would be free."""
        x, y, perm = node.inputs[0], node.outputs[0], node.op.values()["perm"]
        if x is not None and y not in self.pairs:
            yield y, (logical(len(perm)), after(perm, self.pair(x)[1]))
        elif x is not None and x not in self.pairs:
            yield x, (logical(len(perm)), before(perm, self.pair(y)[1]))

    def _spread(self, seeds: Iterable[tuple[Value, Pair]]) -> None:
        """Give pairs to values without one, nearest first."""
        queue: deque[Value] = deque()

        def meet(found: Iterable[tuple[Value, Pair]]) -> None:
            for v, pair in found:
                if v.data is None and v not in self.pairs and pair[0] != pair[1]:
                    self.pairs[v] = pair
                    queue.append(v)

        meet(seeds)
        while queue:
            v = queue.popleft()
            for node in (*([v.node] if v.node is not None else []), *v.users):
                meet(self._through(node, v))

    def _through(self, node: Node, v: Value) -> Iterator[tuple[Value, Pair]]:
        """Pairs for the other operands and results of a layer."""
        d, op, pair = self.demands, node.op, self.pairs[v]
        if op.name in d.channels_last or op.name in d.logical:
            return
        if isinstance(op, Transpose | Reshape):
            forth = v is node.inputs[0]
            other = node.outputs[0] if forth else node.inputs[0]
            assert other is not None
            perm = op.perm if isinstance(op, Transpose) else None
            found = _reshaped(v, other, pair) if perm is None else _transposed(perm, forth, other, pair)
            if found is not None:
                yield other, found
            return
        flow = axes_of(node)
        if flow is None:
            return
        values: Sequence[Value | None] = (*node.inputs, *node.outputs)
        for axes, u in zip((*flow.operands, *flow.results), values, strict=True):
            if u is not v or axes is None:
                continue
            both = [orders_through(node, flow, axes, order) for order in pair]
            if both[0] is not None and both[1] is not None:
                first, second = ((*o.operands, *o.results) for o in both if o is not None)
                for w, a, b in zip(values, first, second, strict=True):
                    if w is not None and a is not None and b is not None:
                        yield w, (a, b)
                return


def after(perm: Order, order: Order) -> Order:
    """The order of the transpose of what lies in `order`, if no byte moves."""
    at = {axis: i for i, axis in enumerate(perm)}
    return tuple(at[a] for a in order)


def before(perm: Order, order: Order) -> Order:
    """The order of what becomes `order` by a transpose that moves no byte."""
    return tuple(perm[i] for i in order)


def _transposed(perm: Order, forth: bool, other: Value, pair: Pair) -> Pair | None:
    """The pair on the other side of a transpose, if the logical order is in it (dimensions of 1 aside)."""
    found = [after(perm, order) if forth else before(perm, order) for order in pair]
    shape, plain = other.type.shape, logical(other.type.rank)
    for k in (0, 1):
        if in_memory(shape, found[k]) == in_memory(shape, plain):
            found[k] = plain
            return found[0], found[1]
    return None


def _reshaped(v: Value, other: Value, pair: Pair) -> Pair | None:
    """The pair on the other side of a reshape that moves no byte."""
    first, second = (reshaped(v.type, order, other.type.shape) for order in pair)
    return None if first is None or second is None else (first, second)

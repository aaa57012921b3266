"""Which orders each layer can work in, and the cost of every choice as nets over binary variables."""

from __future__ import annotations

from typing import NamedTuple

from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ops.layout import Order, in_memory, logical
from compiler.ops.shape import Reshape, ShapeOf, SizeOf, Transpose
from passes._layout_axes import Orders, axes_of, orders_through, reshaped
from passes._layout_cut import FIXED, Cut, Net, minimum_cut
from passes._layout_frames import Frames, before

LAYER, MOVEMENT, BYTE = 1, 1 << 20, 1 << 40  # fewest bytes first, then fewest movements, then fewest layers
ANY_ORDER: tuple[type[Op], ...] = (Transpose, Reshape, ShapeOf, SizeOf)  # read what lies in any order


class Choice(NamedTuple):
    """What a layer may do: its orders by label, and its variable (one of FIXED if it has no choice).

    absorbed  False for a transpose that not each label makes free: it reads its operand as it lies
    """

    orders: tuple[Orders, Orders]
    variable: int
    absorbed: bool = True


class Problem:
    """The choices of all layers and inputs of a graph, and the nets that say what they cost together.

    constant  the cost that every choice has
    """

    def __init__(self, graph: Graph, frames: Frames, inputs: str, outputs: str) -> None:
        self.frames = frames
        self.demands = frames.demands
        self.count = 0
        self.inputs = {v: self._boundary(v, inputs) for v in graph.inputs}
        self.choices = {node: self._choice(node) for node in graph.nodes}
        self.outputs = [None if v.data is not None else self._pinned(v, outputs) for v in graph.outputs]
        self.nets: list[Net] = []
        self.constant = 0
        self._ends: dict[Value, set[int]] = {}
        for v, end in zip(graph.outputs, self.outputs, strict=True):
            if end is not None:
                self._ends.setdefault(v, set()).add(end)
        for node, choice in self.choices.items():
            if isinstance(node.op, Transpose):
                self._movement(node, choice)
        for v in (*graph.inputs, *(v for node in self.choices for v in node.outputs)):
            self._conversions(v)

    def solve(self) -> Cut:
        """The labels of least cost."""
        return minimum_cut(self.count, self.nets)

    # -- choices ---------------------------------------------------------------------------------------------

    def _variable(self) -> int:
        self.count += 1
        return self.count - 1

    def _pinned(self, v: Value, option: str) -> int | None:
        """The label of an input or output of the graph; None if it is free."""
        if option == "free":
            return None
        last = option == "nhwc" and v in self.frames.images
        return FIXED[1] if last else FIXED[self.frames.pair(v).index(logical(v.type.rank))]

    def _boundary(self, v: Value, option: str) -> int:
        pinned = self._pinned(v, option)
        return self._variable() if pinned is None else pinned

    def _choice(self, node: Node) -> Choice:
        demanded = self.demands.order(node)
        if isinstance(node.op, Transpose):
            return self._transpose(node)
        if isinstance(node.op, Reshape):
            return self._reshape(node)
        if demanded is None or node.op.name in self.demands.trailing:
            found = self._indifferent(node)
            if found is not None:
                return found
        return self._fixed(node, demanded or ())

    def _fixed(self, node: Node, demanded: Order) -> Choice:
        """A layer that works in the demanded order of its first operand and results, else in the logical one."""

        def order(v: Value) -> Order:
            return demanded if v.type.rank == len(demanded) else logical(v.type.rank)

        rest = () if isinstance(node.op, ANY_ORDER) else node.inputs[1:]
        operands = [None if v is None or isinstance(node.op, ANY_ORDER) else order(v) for v in node.inputs[:1]]
        operands += [None if v is None else logical(v.type.rank) for v in rest]
        orders = Orders(tuple(operands), tuple(order(v) for v in node.outputs))
        return Choice((orders, orders), FIXED[0])

    def _indifferent(self, node: Node) -> Choice | None:
        """A layer that works in both orders of its values, as far as these agree; None if not even in one."""
        flow = None if node.op.name in self.demands.logical else axes_of(node)
        if flow is None:
            return None
        for v, axes in zip((*node.inputs, *node.outputs), (*flow.operands, *flow.results), strict=True):
            if v is not None and v in self.frames.pairs:
                both = [orders_through(node, flow, axes, order) for order in self.frames.pair(v)]
                if both[0] is not None and both[1] is not None and self._agree(node, (both[0], both[1])):
                    return self._allowed(node, (both[0], both[1]))
        plain = self._fixed(node, ())
        return plain if self._works(node, plain.orders[0]) else None

    def _allowed(self, node: Node, orders: tuple[Orders, Orders]) -> Choice | None:
        """The choice between two orders, of which a layer with a trailing axis may not take each."""
        allowed = [k for k in (0, 1) if self._works(node, orders[k])]
        if not allowed:
            return None
        if len(allowed) == 1:
            only = orders[allowed[0]]
            return Choice((only, only), FIXED[0])
        return Choice(orders, self._variable())

    def _works(self, node: Node, orders: Orders) -> bool:
        """Whether the target can run a layer in these orders."""
        if node.op.name not in self.demands.trailing or not orders.results[0]:
            return True
        rank = len(orders.results[0])
        return bool(orders.results[0][-1] == node.op.values()["axis"] % rank)

    def _agree(self, node: Node, orders: tuple[Orders, Orders]) -> bool:
        """Whether the orders of a layer are those of its values by the same label, or the same for both labels."""
        f = self.frames
        for v, a, b in zip(node.outputs, orders[0].results, orders[1].results, strict=True):
            pair = f.pair(v)
            if not (f.same(v, a, pair[0]) and f.same(v, b, pair[1])):
                return False
        for u, c, d in zip(node.inputs, orders[0].operands, orders[1].operands, strict=True):
            if u is None or u.data is not None:
                continue
            pair, settled = f.pair(u), f.same(u, c, d) and f.label(u, c) is not None
            if not settled and not (f.same(u, c, pair[0]) and f.same(u, d, pair[1])):
                return False
        return True

    def _transpose(self, node: Node) -> Choice:
        """A transpose gives any order; it is absorbed if the operand may lie so that no byte moves."""
        f, x, y = self.frames, node.inputs[0], node.outputs[0]
        assert x is not None and isinstance(node.op, Transpose)
        variable = self._variable() if y in f.pairs else FIXED[0]
        needs = [before(node.op.perm, order) for order in f.pair(y)]
        absorbed = x.data is None and all(f.same(x, f.pair(x)[k], needs[k]) for k in (0, 1))
        first, second = (
            Orders((need if absorbed else None,), (order,)) for need, order in zip(needs, f.pair(y), strict=True)
        )
        return Choice((first, second), variable, absorbed or x.data is not None)

    def _reshape(self, node: Node) -> Choice:
        """A reshape gives each order that its operand may lie in without a byte moving."""
        f, x, y = self.frames, node.inputs[0], node.outputs[0]
        assert x is not None
        plain = logical(y.type.rank)
        orders: list[Orders] = []
        labels: list[int] = []
        for order in f.pair(y):
            need = logical(x.type.rank) if f.same(y, order, plain) else reshaped(y.type, order, x.type.shape)
            label = f.label(x, need)
            if label is not None and (x.data is None or order == plain):
                orders.append(Orders((need,), (order,)))
                labels.append(label)
        if len(orders) == 2 and y in f.pairs and (labels != [1, 0] or f.is_settled(x)):
            return Choice((orders[0], orders[1]), self._variable())
        only = next(o for o in orders if o.results[0] == plain)
        return Choice((only, only), FIXED[0])

    # -- costs -----------------------------------------------------------------------------------------------

    def _made(self, v: Value) -> int | None:
        """The variable or label that says how a value is computed; None if in an order that is not of its pair."""
        if v.node is None:
            return self.inputs[v]
        choice = self.choices[v.node]
        if choice.variable >= 0:
            return choice.variable
        label = self.frames.label(v, choice.orders[0].results[v.index])
        return None if label is None else FIXED[label]

    def _movement(self, node: Node, choice: Choice) -> None:
        """The cost of a transpose that not each label makes free."""
        f, x, y = self.frames, node.inputs[0], node.outputs[0]
        assert x is not None and isinstance(node.op, Transpose)
        readers, strange = self._demands(y)
        only = len(strange) == 1 and not readers
        if x.data is not None or (choice.absorbed and not only):
            return
        made, lies, weight = self._made(x), f.pair(x), _moving(x)
        if made is None or made < 0:
            lies = (self._order(x),) * 2
        gives = (*strange, *strange) if only else f.pair(y)
        free = [(a, b) for a in (0, 1) for b in (0, 1) if f.same(x, lies[a], before(node.op.perm, gives[b]))]
        matching = [a for a, b in free if a == b]
        if not free:
            self.constant += weight
        elif len(matching) == 1:
            members = [FIXED[matching[0]]]
            members += [] if made is None or made < 0 or f.is_settled(x) else [made]
            members += [] if only or f.is_settled(y) else [choice.variable]
            self.nets.append(Net(weight, tuple(members)))

    def _order(self, v: Value) -> Order:
        """The order of a value that is computed in one only."""
        if v.node is None:
            return self.frames.pair(v)[FIXED.index(self.inputs[v])]
        return self.choices[v.node].orders[0].results[v.index]

    def _demands(self, v: Value) -> tuple[set[int], set[Order]]:
        """The variables and labels that say in which order a value is read, and the orders not of its pair."""
        readers, strange = set(self._ends.get(v, ())), set[Order]()
        for node in v.users:
            for i, u in enumerate(node.inputs):
                if u is v:
                    readers |= self._reads(node, i, v, strange)
        return readers, strange

    def _conversions(self, v: Value) -> None:
        """The cost of a value that is read in another order than it is computed in: once, not for each reader."""
        f, made = self.frames, self._made(v)
        readers, strange = self._demands(v)
        converts = not all(isinstance(node.op, Transpose) for node in v.users) or len(v.users) + v.n_out > 1
        weight = converts * LAYER + (0 if f.is_settled(v) else _moving(v))  # one transpose reads it as it lies
        if readers or len(strange) != 1 or v.node is None or not isinstance(v.node.op, Transpose):
            self.constant += (_moving(v) + LAYER) * len(strange)  # a transpose gives one other order
        if made is not None:
            self.nets.append(Net(weight, (made, *sorted(readers))))
        elif readers and f.is_settled(v):
            self.constant += _moving(v) + LAYER
        elif readers:
            self.nets.extend(Net(_moving(v) + LAYER, (side, *sorted(readers))) for side in FIXED)

    def _reads(self, node: Node, i: int, v: Value, strange: set[Order]) -> set[int]:
        """The variable or label that says in which order a layer reads a value; orders not of its pair are noted."""
        f, choice = self.frames, self.choices[node]
        first, second = (orders.operands[i] for orders in choice.orders)
        if first is None or self._flattens(node, v) or (isinstance(node.op, ANY_ORDER) and f.is_settled(v)):
            return set()
        labels = f.label(v, first), f.label(v, second)
        if labels == (0, 1):
            return {choice.variable}
        if labels[0] is not None:
            return {FIXED[labels[0]]}
        strange.add(in_memory(v.type.shape, first))
        return set()

    def _flattens(self, node: Node, v: Value) -> bool:
        """Whether a layer may read a value, of which no order moves the first axis, as it lies."""
        return all(order[:1] == (0,) for order in self.frames.pair(v)) and self.demands.flattens(node)


def _moving(v: Value) -> int:
    return BYTE * v.type.nbytes + MOVEMENT

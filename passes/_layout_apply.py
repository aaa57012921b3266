"""Writes chosen orders into a graph, takes them out again, and says what they move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from compiler.graph import Graph, Node, Value
from compiler.ops.layout import ConvertLayout, Order, in_memory, in_order, logical, moves, order_of, physical_shape
from compiler.ops.shape import Reshape, Transpose
from compiler.record import Record
from passes._layout_axes import Orders
from passes._layout_frames import Demands
from passes._layout_problem import ANY_ORDER, BYTE, MOVEMENT, Problem

Reader = tuple[Node | None, int]  # a layer and its operand, or None and an output of the graph


class LayoutReport(Record):
    """Transposes that move bytes before and after, and the bytes they move.

    least    bytes that no choice of orders goes below
    fewest   transposes that no choice which moves `least` bytes goes below
    """

    before: int
    after: int
    moved: int
    least: int
    fewest: int

    def numbers(self) -> dict[str, int]:
        """What is left, and its bound, for reports."""
        return {
            "out": self.after,
            "lower_bound": self.fewest,
            "bytes_moved": self.moved,
            "lower_bound_bytes": self.least,
        }

    def __str__(self) -> str:
        bound = f"at least {self.fewest}, {self.least} bytes"
        return f"{self.before} transposes became {self.after}, moving {self.moved} bytes ({bound})"


def physical_perm(node: Node) -> Order:
    """The permutation that a transpose or a convert_layout is in memory."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    return moves(node.op.perm if isinstance(node.op, Transpose) else logical(x.type.rank), x.type, y.type)


def is_free(node: Node) -> bool:
    """Whether a transpose, convert_layout or reshape leaves every byte where it is: at most dimensions of 1 move."""
    x = node.inputs[0]
    assert x is not None
    if isinstance(node.op, Reshape):
        return True
    moved = [i for i in physical_perm(node) if physical_shape(x.type)[i] != 1]
    return moved == sorted(moved)


def movements(graph: Graph, demands: Demands) -> list[Node]:
    """The transposes and convert_layouts that move bytes."""
    return [n for n in graph.of(Transpose, ConvertLayout) if not is_free(n) and not _is_flattened(n, demands)]


def _is_flattened(node: Node, demands: Demands) -> bool:
    """Whether all that read the result of a convert_layout are layers that take its operand as it lies."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    plain = isinstance(node.op, ConvertLayout) and y.type.layout is None and order_of(x.type)[0] == 0
    return plain and not y.n_out and all(demands.flattens(user) for user in y.users)


def outline(graph: Graph) -> list[object]:
    """What choosing layouts decides: the order of every value, and where it is converted; equal for equal choices."""
    numbers: dict[Value, int] = {}
    seen: list[object] = [(numbers.setdefault(v, len(numbers)), v.type.layout) for v in graph.inputs]
    for node in graph.nodes:
        values = [v for v in (*node.inputs, *node.outputs) if v is not None]
        seen.append([(numbers.setdefault(v, len(numbers)), v.type.layout) for v in values])
    seen.append([numbers.get(v) for v in graph.outputs])
    return seen


def strip(graph: Graph) -> list[Node]:
    """Take every annotation and every convert_layout out of a graph; returns the layers that are gone."""
    gone = graph.of(ConvertLayout)
    for v in {v for node in graph.nodes for v in (*node.inputs, *node.outputs)} | {*graph.inputs, *graph.outputs}:
        if v is not None and v.type.layout is not None:
            v.type = v.type._replace(layout=None)
    for node in gone:
        assert node.inputs[0] is not None
        graph.replace(node.outputs[0], node.inputs[0])
        graph.erase(node)
    return gone


def write(graph: Graph, plan: Plan, bound: int) -> tuple[list[Node], LayoutReport]:
    """Annotate every value with the order chosen for it, and convert it where a reader needs another; returns the
    layers added. `bound` is a cost that no plan for the same orders goes below."""
    demands = plan.frames.demands
    before = len(movements(graph, demands))
    added: list[Node] = []
    for v, groups in plan.needs.items():
        if v.data is not None:
            _permute(graph, plan, v, groups)
            continue
        added += _conversions(graph, plan, v, groups)
    for v, order in plan.orders.items():
        v.type = in_order(v.type, order)
    after = movements(graph, demands)
    moved = sum(node.outputs[0].type.nbytes for node in after)
    least, rest = divmod(bound, BYTE)
    return added, LayoutReport(before=before, after=len(after), moved=moved, least=least, fewest=rest // MOVEMENT)


def _gives_any(v: Value, groups: Mapping[Order, Sequence[Reader]]) -> bool:
    """Whether a value comes from a transpose, which gives any order, and all its readers need one."""
    readers = sum(map(len, groups.values()))
    everyone = sum(v.users.values()) + v.n_out
    return v.node is not None and isinstance(v.node.op, Transpose) and len(groups) == 1 and readers == everyone


class Plan:
    """Labels as orders.

    orders  of every value
    needs   readers of a value by the order that they need, where it is another one; of a constant, all readers
    """

    def __init__(self, graph: Graph, problem: Problem, labels: Sequence[int]) -> None:
        self.frames = problem.frames
        self.place = {node: i for i, node in enumerate(graph.nodes)}
        self.orders: dict[Value, Order] = {}
        self.needs: dict[Value, dict[Order, list[Reader]]] = {}

        def label(variable: int) -> int:
            return labels[variable] if variable >= 0 else -1 - variable

        for v, variable in problem.inputs.items():
            self.orders[v] = self.frames.pair(v)[label(variable)]
        chosen = {node: c.orders[label(c.variable)] for node, c in problem.choices.items()}
        for node, orders in chosen.items():
            self.orders.update(zip(node.outputs, orders.results, strict=True))
        for tolerant in (False, True):
            for node, orders in chosen.items():
                if isinstance(node.op, ANY_ORDER) is tolerant:
                    self._operands(node, orders, tolerant)
            if not tolerant:
                self._outputs(graph, [None if end is None else label(end) for end in problem.outputs])
        for v, groups in self.needs.items():
            if _gives_any(v, groups):
                self.orders[v] = next(iter(groups))
                groups.clear()

    def earliest(self, readers: Sequence[Reader]) -> int:
        """The place of the first layer among readers; behind all layers if there is none."""
        return min((self.place[node] for node, _ in readers if node is not None), default=len(self.place))

    def first(self, readers: Sequence[Reader]) -> Node | None:
        """The first layer among readers."""
        at = self.earliest(readers)
        return next((node for node, _ in readers if node is not None and self.place[node] == at), None)

    def _operands(self, node: Node, orders: Orders, tolerant: bool) -> None:
        for i, (v, need) in enumerate(zip(node.inputs, orders.operands, strict=True)):
            if v is not None and need is not None:
                self._need(v, need, (node, i), tolerant)

    def _outputs(self, graph: Graph, labels: Sequence[int | None]) -> None:
        for i, (v, label) in enumerate(zip(graph.outputs, labels, strict=True)):
            if v.data is not None:
                self._need(v, logical(v.type.rank), (None, i), False)
            elif label is not None:
                self._need(v, self.frames.pair(v)[label], (None, i), False)

    def _need(self, v: Value, order: Order, reader: Reader, tolerant: bool) -> None:
        """Note a reader; a tolerant one takes any order that puts the elements at the same places."""
        groups = self.needs.get(v, {})
        if v.data is None:
            if order == self.orders[v] or (tolerant and self.frames.same(v, order, self.orders[v])):
                return
            if tolerant:
                order = next((o for o in groups if self.frames.same(v, o, order)), order)
        self.needs.setdefault(v, groups).setdefault(order, []).append(reader)


def _conversions(graph: Graph, plan: Plan, v: Value, groups: Mapping[Order, Sequence[Reader]]) -> Iterator[Node]:
    """A convert_layout for each order that readers need but for those of one transpose, which moves what it reads
    anyhow; of orders that put the elements at the same places, all but the first from the first."""
    moved: dict[Order, Value] = {}
    for order, readers in sorted(groups.items(), key=lambda group: plan.earliest(group[1])):
        if is_converted(readers):
            places = in_memory(v.type.shape, order)
            converted = _convert(graph, plan, moved.get(places, v), order, readers)
            moved.setdefault(places, converted.output)
            yield converted


def is_converted(readers: Sequence[Reader]) -> bool:
    """Whether a value is converted for the readers of one order; a transpose alone moves what it reads anyhow."""
    node = readers[0][0]
    return len(readers) > 1 or node is None or not isinstance(node.op, Transpose)


def _convert(graph: Graph, plan: Plan, v: Value, order: Order, readers: Sequence[Reader]) -> Node:
    """A convert_layout before the first of its readers."""
    first = plan.first(readers)
    source = v.node or first
    origin = source.origin if source is not None else frozenset[str]()
    (converted,) = graph.add(ConvertLayout(order=order), v, before=first, origin=origin, names=[v.name])
    _redirect(graph, converted, readers)
    plan.orders[converted] = order
    assert converted.node is not None
    return converted.node


def _permute(graph: Graph, plan: Plan, v: Value, groups: Mapping[Order, Sequence[Reader]]) -> None:
    """Constants cost nothing: a constant takes the order of its first readers, others read the same data as another."""
    for at, (order, readers) in enumerate(groups.items()):
        assert v.data is not None
        twin = graph.const(v.data, v.name, v.origin) if at else v
        plan.orders[twin] = order
        if at:
            _redirect(graph, twin, readers)


def _redirect(graph: Graph, to: Value, readers: Sequence[Reader]) -> None:
    outputs = list(graph.outputs)
    for node, i in readers:
        if node is None:
            outputs[i] = to
        else:
            graph.set_operand(node, i, to)
    graph.set_outputs(outputs, graph.output_names)

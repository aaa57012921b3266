"""The choice of layouts, and orders that it should know beside the two of each value.

A transpose that still moves bytes would be free if what it reads lay in one certain order. Where the cut of a problem
with these orders is lower, that problem takes its place: each cut is exact for the orders that it knows, like the
expansion moves of Y. Boykov et al., Fast approximate energy minimization via graph cuts (2001).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compiler.graph import Graph, Value
from compiler.ops.layout import Order, in_memory, logical
from compiler.ops.shape import Transpose
from passes._layout_apply import Plan, Reader, is_converted
from passes._layout_frames import Demands, Frames, before
from passes._layout_problem import Problem

ROUNDS = 3
KINDS = 4  # of transposes, by what they read and how, that are looked at on their own


def cheapest(graph: Graph, demands: Demands, inputs: str, outputs: str) -> tuple[Plan, int]:
    """The plan of the best problem found, and the cost that no labels of that problem go below."""
    problem = Problem(graph, Frames(graph, demands), inputs, outputs)
    cut = problem.solve()
    plan = Plan(graph, problem, cut.labels)
    for _ in range(ROUNDS):
        for orders in _proposals(graph, plan):
            other = Problem(graph, problem.frames.instead(orders), inputs, outputs)
            found = other.solve()
            if found.cost + other.constant >= cut.cost + problem.constant:
                continue
            trial = Plan(graph, other, found.labels)
            if moved(graph, trial) < moved(graph, plan):
                problem, cut, plan = other, found, trial
                break
        else:
            break
    return plan, cut.bound + problem.constant


def moved(graph: Graph, plan: Plan) -> tuple[int, int]:
    """The bytes that a plan moves, and by how many layers."""
    sizes: list[int] = []
    read: dict[Reader, Order] = {}
    for v, groups in plan.needs.items():
        places = {in_memory(v.type.shape, plan.orders[v])} if v.data is None else set()
        for order, readers in groups.items() if places else ():
            if is_converted(readers):
                read.update(dict.fromkeys(readers, order))
                if not _flattened(plan, v, order, readers):
                    places.add(in_memory(v.type.shape, order))
        sizes += [v.type.nbytes] * (len(places) - 1)
    for node in graph.of(Transpose):
        x = node.inputs[0]
        assert x is not None
        if x.data is None:
            needed = before(node.op.values()["perm"], plan.orders[node.outputs[0]])
            if not plan.frames.same(x, needed, read.get((node, 0), plan.orders[x])):
                sizes.append(x.type.nbytes)
    return sum(sizes), len(sizes)


def _flattened(plan: Plan, v: Value, order: Order, readers: Sequence[Reader]) -> bool:
    """Whether all readers take a value as it lies, flattened, though they are said to need the logical order."""
    plain = order == logical(v.type.rank) and plan.orders[v][0] == 0
    return plain and all(node is not None and plan.frames.demands.flattens(node) for node, _ in readers)


def _proposals(graph: Graph, plan: Plan) -> Iterator[dict[Value, Order]]:
    """Orders of operands with which transposes would be free: of all that are not, then of each kind alone."""
    kinds: dict[object, dict[Value, Order]] = {}
    for node in graph.of(Transpose):
        x, perm = node.inputs[0], node.op.values()["perm"]
        if x is not None and x.data is None:
            order = before(perm, plan.orders[node.outputs[0]])
            if not plan.frames.same(x, order, plan.orders[x]):
                kinds.setdefault((perm, x.type), {})[x] = order
    if kinds:
        yield {x: order for kind in kinds.values() for x, order in kind.items()}
    if len(kinds) > 1:
        yield from list(kinds.values())[:KINDS]

"""Control flow that is decided at compile time: `If` with a known condition, `Loop` and `Scan` unrolled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from compiler.errors import OnnxError
from compiler.graph import Graph, Value
from compiler.importers.registry import LayerBuilder
from compiler.onnx_survey import in_order
from compiler.op import OnnxNode, normalize_axis
from compiler.ops.parts import Concat, Slice
from compiler.ops.shape import Reshape
from compiler.tensor import Array, TensorType

if TYPE_CHECKING:
    from compiler.onnx_import import ModelImporter, Scope
    from compiler.onnx_proto import GraphProto

Control = Callable[["ModelImporter", OnnxNode, LayerBuilder, "Scope"], Sequence[Value]]


def import_if(importer: ModelImporter, node: OnnxNode, _: LayerBuilder, scope: Scope) -> Sequence[Value]:
    """The branch that the constant condition selects, in place of the node."""
    condition = _known(importer.graph, node, 0, "condition")
    branch: GraphProto = node.attr("then_branch" if condition else "else_branch")
    return importer.import_subgraph(branch, in_order(branch), importer.scope(branch, scope))


def import_loop(importer: ModelImporter, node: OnnxNode, builder: LayerBuilder, scope: Scope) -> Sequence[Value]:
    """The body once for each trip; carried values go from trip to trip, scanned ones are stacked on a new axis."""
    body = Body(importer, node.attr("body"), scope)
    trips = _known(importer.graph, node, 0, "trip count") if node.has(0) else None
    go_on = not node.has(1) or bool(_known(importer.graph, node, 1, "condition"))
    carried = [_value(v) for v in node.inputs[2:]]
    stacks = Stacks(importer, body.n_outputs - 1 - len(carried))
    trip = 0

    def run(state: Sequence[Value]) -> tuple[Value, list[Value], list[Value]]:
        condition, *results = body([builder.const(np.int64(trip)), builder.const(np.bool_(True)), *state])
        return condition, results[: len(state)], results[len(state) :]

    while go_on and (trips is None or trip < trips):
        condition, carried, scanned = run(carried)
        if condition.data is None:
            raise OnnxError("the loop's condition is computed at run time", hint=_hint(importer.graph, condition))
        go_on = bool(_one(condition.data, "the loop's condition"))
        stacks.push(scanned)
        trip += 1
        if trip == 1 and go_on and trips is not None and body.condition_is_fixed():
            body.expect(trips - 1)
    if not trip and stacks.count:
        stacks.learn(run(carried)[2])
    return [*carried, *(stacks.join(builder, i) for i in range(stacks.count))]


def import_scan(importer: ModelImporter, node: OnnxNode, builder: LayerBuilder, scope: Scope) -> Sequence[Value]:
    """The body once for each slice of the scanned inputs (ONNX Scan-9 and later)."""
    if node.version < 9:
        raise OnnxError("Scan before opset 9 is not supported")
    body = Body(importer, node.attr("body"), scope)
    n_scan = node.attr("num_scan_inputs")
    n_state = len(node.inputs) - n_scan
    if not 0 < n_scan <= len(node.inputs):
        raise OnnxError(f"num_scan_inputs is {n_scan}, and there are {len(node.inputs)} operands")
    state, scanned = [_value(v) for v in node.inputs[:n_state]], [_value(v) for v in node.inputs[n_state:]]
    axes = node.attr("scan_input_axes", (0,) * n_scan)
    axes = [normalize_axis(a, v.type.rank) for a, v in zip(axes, scanned, strict=True)]
    backwards = node.attr("scan_input_directions", (0,) * n_scan)
    stacks = Stacks(importer, body.n_outputs - n_state)
    prepend = node.attr("scan_output_directions", (0,) * stacks.count)
    out_axes = node.attr("scan_output_axes", (0,) * stacks.count)
    lengths = {v.type.dims[axis] for v, axis in zip(scanned, axes, strict=True)}
    if len(lengths) > 1:
        raise OnnxError(f"the scanned operands have different lengths: {sorted(lengths)}")
    (trips,) = lengths
    body.expect(trips)
    for trip in range(trips):
        at = [trips - 1 - trip if back else trip for back in backwards]
        slices = [_slice(builder, v, axis, i) for v, axis, i in zip(scanned, axes, at, strict=True)]
        results = body([*state, *slices])
        state = results[:n_state]
        stacks.push(results[n_state:])
    if not trips and stacks.count:
        shapes = [_without(v.type.dims, axis) for v, axis in zip(scanned, axes, strict=True)]
        blanks = [builder.const(np.zeros(s, v.type.dtype.numpy)) for s, v in zip(shapes, scanned, strict=True)]
        stacks.learn(body([*state, *blanks])[n_state:])
    ways = zip(out_axes, prepend, strict=True)
    return [*state, *(stacks.join(builder, i, axis, bool(first)) for i, (axis, first) in enumerate(ways))]


class Body:
    """The graph that a loop repeats; its own constants exist once, whatever the number of trips."""

    def __init__(self, importer: ModelImporter, proto: GraphProto, scope: Scope) -> None:
        self.importer = importer
        self.proto = proto
        self.nodes = in_order(proto)
        self.names = [info.name for info in proto.input]
        self.n_outputs = len(proto.output)
        self.scope = importer.scope(proto, scope)
        importer.limit_unrolling()

    def __call__(self, inputs: Sequence[Value]) -> list[Value]:
        """One trip: the values of the outputs."""
        if len(inputs) != len(self.names):
            raise OnnxError(f"the body takes {len(self.names)} values, {len(inputs)} are given")
        trip = self.scope.inner()
        trip.values.update(zip(self.names, inputs, strict=True))
        return self.importer.import_subgraph(self.proto, self.nodes, trip)

    def expect(self, trips: int) -> None:
        """Refuse what would come to too many nodes, before the work of unrolling it."""
        self.importer.expect_nodes(trips * (len(self.nodes) + 1))

    def condition_is_fixed(self) -> bool:
        """Whether the condition that a loop's body gives is the one that it takes, or a constant of its own."""
        makers = {name: n for n in self.nodes for name in n.output}
        name = self.proto.output[0].name
        while name in makers and makers[name].op_type == "Identity":
            name = makers[name].input[0]
        constant = name in makers and makers[name].op_type == "Constant"
        return constant or name == self.names[1] or any(t.name == name for t in self.proto.initializer)


class Stacks:
    """What a loop collects from its trips, to be stacked on a new axis."""

    def __init__(self, importer: ModelImporter, count: int) -> None:
        if count < 0:
            raise OnnxError("the body gives fewer values than it takes")
        self.graph = importer.graph
        self.count = count
        self.values: list[list[Value]] = [[] for _ in range(count)]
        self.blank: list[TensorType] = []

    def push(self, values: Sequence[Value]) -> None:
        """What one trip gave."""
        for collected, value in zip(self.values, values, strict=True):
            collected.append(value)

    def learn(self, values: Sequence[Value]) -> None:
        """The types of what a loop that never runs would give, from a trip that is taken back."""
        self.blank = [v.type for v in values]
        self.graph.erase_unread([v.node for v in values if v.node is not None])

    def join(self, builder: LayerBuilder, index: int, axis: int = 0, reverse: bool = False) -> Value:
        """The stack of one output."""
        ordered = self.values[index][:: -1 if reverse else 1]
        if not ordered:
            blank = self.blank[index]
            at = normalize_axis(axis, blank.rank + 1)
            return builder.const(np.zeros((*blank.dims[:at], 0, *blank.dims[at:]), blank.dtype.numpy))
        shape = ordered[0].type.shape
        at = normalize_axis(axis, len(shape) + 1)
        parts = [builder.add(Reshape(shape=(*shape[:at], 1, *shape[at:])), v) for v in ordered]
        return parts[0] if len(parts) == 1 else builder.add(Concat(axis=at), *parts)


def _value(v: object) -> Value:
    if not isinstance(v, Value):
        raise OnnxError("an operand is missing")
    return v


def _known(graph: Graph, node: OnnxNode, index: int, what: str) -> int:
    """The number that an operand must be; the condition as 0 or 1."""
    data = node.peek(index)
    if data is None:
        hint = _hint(graph, _value(node.inputs[index] if index < len(node.inputs) else None))
        raise OnnxError(f"the {what} of {node.op_type} is computed at run time", hint=hint)
    return _one(data, f"the {what} of {node.op_type}")


def _one(data: Array, what: str) -> int:
    if data.size != 1 or data.dtype.kind not in "biu":
        raise OnnxError(f"{what} has shape {list(data.shape)} and type {data.dtype}; it must be one integer or boolean")
    return int(data.reshape(-1)[0])


def _hint(graph: Graph, v: Value) -> str:
    """Which inputs a value depends on, as advice."""
    seen: set[Value] = set()
    stack = [v]
    while stack:
        at = stack.pop()
        if at in seen:
            continue
        seen.add(at)
        if at.node is not None:
            stack.extend(o for o in at.node.inputs if o is not None)
    names = [repr(i.name) for i in graph.inputs if i in seen]
    if not names:
        return "the operations that it is computed by are not evaluated at compile time"
    return f"it depends on input {', '.join(names)}: fix it with --freeze NAME=VALUE"


def _slice(builder: LayerBuilder, v: Value, axis: int, index: int) -> Value:
    dims = v.type.dims
    starts = tuple(index if i == axis else 0 for i in range(len(dims)))
    ends = tuple(index + 1 if i == axis else d for i, d in enumerate(dims))
    part = builder.add(Slice(starts=starts, ends=ends, steps=(1,) * len(dims)), v)
    return builder.add(Reshape(shape=_without(dims, axis)), part)


def _without(dims: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return dims[:axis] + dims[axis + 1 :]


CONTROL: dict[str, Control] = {"If": import_if, "Loop": import_loop, "Scan": import_scan}

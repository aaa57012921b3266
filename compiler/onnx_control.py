"""Control flow that is decided at compile time: `If` with a known condition, `Loop` and `Scan` unrolled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from compiler.errors import OnnxError
from compiler.graph import Graph, Value
from compiler.importers.registry import LayerBuilder
from compiler.op import OnnxNode, normalize_axis
from compiler.ops.parts import Concat, Slice
from compiler.ops.shape import Reshape

if TYPE_CHECKING:
    from compiler.onnx_import import ModelImporter, Scope
    from compiler.onnx_proto import GraphProto

MAX_TRIPS = 100_000
Control = Callable[["ModelImporter", OnnxNode, LayerBuilder, "Scope"], Sequence[Value]]


def import_if(importer: ModelImporter, node: OnnxNode, builder: LayerBuilder, scope: Scope) -> Sequence[Value]:
    """The branch that the constant condition selects, in place of the node."""
    condition = _known(importer.graph, node, 0, "condition")
    branch = node.attr("then_branch" if bool(condition.reshape(-1)[0]) else "else_branch")
    return importer.import_nodes(branch, importer.scope(branch, scope))


def import_loop(importer: ModelImporter, node: OnnxNode, builder: LayerBuilder, scope: Scope) -> Sequence[Value]:
    """The body once for each trip; carried values go from trip to trip, scanned ones are stacked on a new first axis."""
    body: GraphProto = node.attr("body")
    trips = int(_known(importer.graph, node, 0, "trip count").reshape(-1)[0]) if node.has(0) else MAX_TRIPS
    go_on = not node.has(1) or bool(_known(importer.graph, node, 1, "condition").reshape(-1)[0])
    carried = [_value(v) for v in node.inputs[2:]]
    scans: list[list[Value]] = [[] for _ in body.output[1 + len(carried) :]]
    trip = 0
    while trip < trips and go_on:
        if trip == MAX_TRIPS:
            raise OnnxError(f"the loop runs more than {MAX_TRIPS} times")
        inputs = [builder.const(np.int64(trip)), builder.const(np.bool_(True)), *carried]
        condition, *results = _call(importer, body, inputs, scope)
        if condition.data is None:
            raise OnnxError("the loop's condition is computed at run time", hint=_hint(importer.graph, condition))
        go_on = bool(condition.data.reshape(-1)[0])
        carried, stacked = results[: len(carried)], results[len(carried) :]
        for collected, value in zip(scans, stacked, strict=True):
            collected.append(value)
        trip += 1
    return [*carried, *(_stack(builder, s, 0, False) for s in scans)]


def import_scan(importer: ModelImporter, node: OnnxNode, builder: LayerBuilder, scope: Scope) -> Sequence[Value]:
    """The body once for each slice of the scanned inputs (ONNX Scan-9 and later)."""
    if node.version < 9:
        raise OnnxError("Scan before opset 9 is not supported")
    body: GraphProto = node.attr("body")
    n_scan = node.attr("num_scan_inputs")
    n_state = len(node.inputs) - n_scan
    state, scanned = [_value(v) for v in node.inputs[:n_state]], [_value(v) for v in node.inputs[n_state:]]
    n_out = len(body.output) - n_state
    axes = [
        normalize_axis(a, v.type.rank)
        for a, v in zip(node.attr("scan_input_axes", (0,) * n_scan), scanned, strict=True)
    ]
    backwards = node.attr("scan_input_directions", (0,) * n_scan)
    prepend = node.attr("scan_output_directions", (0,) * n_out)
    out_axes = node.attr("scan_output_axes", (0,) * n_out)
    trips = scanned[0].type.dims[axes[0]]
    stacks: list[list[Value]] = [[] for _ in range(n_out)]
    for trip in range(trips):
        slices = [
            _slice(builder, v, axis, trips - 1 - trip if back else trip)
            for v, axis, back in zip(scanned, axes, backwards, strict=True)
        ]
        results = _call(importer, body, [*state, *slices], scope)
        state = results[:n_state]
        for collected, value in zip(stacks, results[n_state:], strict=True):
            collected.append(value)
    return [*state, *(_stack(builder, s, a, bool(p)) for s, a, p in zip(stacks, out_axes, prepend, strict=True))]


def _call(importer: ModelImporter, body: GraphProto, inputs: Sequence[Value], scope: Scope) -> list[Value]:
    if len(inputs) != len(body.input):
        raise OnnxError(f"the body takes {len(body.input)} values, {len(inputs)} are given")
    inner = importer.scope(body, scope)
    inner.values.update((info.name, v) for info, v in zip(body.input, inputs, strict=True))
    return importer.import_nodes(body, inner)


def _value(v: object) -> Value:
    if not isinstance(v, Value):
        raise OnnxError("an operand is missing")
    return v


def _known(graph: Graph, node: OnnxNode, index: int, what: str) -> np.ndarray:
    data = node.peek(index)
    if data is None:
        raise OnnxError(
            f"the {what} of {node.op_type} is computed at run time", hint=_hint(graph, _value(node.inputs[index]))
        )
    return data


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
    return f"it depends on input {', '.join(names)}: fix it with --freeze NAME=VALUE"


def _slice(builder: LayerBuilder, v: Value, axis: int, index: int) -> Value:
    dims = v.type.dims
    starts = tuple(index if i == axis else 0 for i in range(len(dims)))
    ends = tuple(index + 1 if i == axis else d for i, d in enumerate(dims))
    part = builder.add(Slice(starts=starts, ends=ends, steps=(1,) * len(dims)), v)
    return builder.add(Reshape(shape=tuple(d for i, d in enumerate(dims) if i != axis)), part)


def _stack(builder: LayerBuilder, values: Sequence[Value], axis: int, reverse: bool) -> Value:
    if not values:
        raise OnnxError("a loop that never runs has no results to stack")
    ordered = values[::-1] if reverse else values
    at = normalize_axis(axis, ordered[0].type.rank + 1)
    shape = ordered[0].type.shape
    parts = [builder.add(Reshape(shape=(*shape[:at], 1, *shape[at:])), v) for v in ordered]
    return parts[0] if len(parts) == 1 else builder.add(Concat(axis=at), *parts)


CONTROL: dict[str, Control] = {"If": import_if, "Loop": import_loop, "Scan": import_scan}

"""How a program with Metal kernels is run where there is no GPU of Apple's: layers that are operations of Core AI by
Apple's runtime, as assets of their own, and the kernels in between from the texts in the asset, on the processor.

What that leaves out: the asset as a whole is verified by Apple's dialect, and not executed; that Metal takes the texts
with tensors in place of pointers is not tried.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codegen.metal.handles import plain
from codegen.metal.plan import PAGE, VERSION
from compiler.errors import EmitError
from compiler.graph import Graph, Node, Value
from compiler.target import Artifact
from compiler.tensor import Array
from passes.drop_empty import is_empty
from targets.coreai.custom import METAL, Carried
from targets.coreai.dtypes import TYPES
from targets.coreai.kernel_ops import KernelOp, kernels_in
from targets.metal.execute import Executor

ALIGNMENT = 256  # bytes
Asset = Callable[[Graph, Path], Artifact]
Parts = dict[int, list[Node]]


class Staged:
    """A graph whose layers `carried` are kernels; `asset` writes a graph without such."""

    def __init__(self, graph: Graph, carried: Sequence[Carried], asset: Asset) -> None:
        self.graph, self.asset = graph, asset
        self.carried = {c.node: c for c in carried}
        self.parts, self.kernels = _parts(graph, self.carried)

    def told(self) -> str:
        """What runs what, in a sentence."""
        names = ", ".join(sorted({node.op.name for node in self.carried}))
        text = (
            f"layers that are Metal kernels, for Apple's systems alone: {len(self.carried)} ({names}); elsewhere their "
            "text in the asset is executed on the processor"
        )
        parts = len(self.parts)
        if not parts:
            return text
        return f"{text}, and the other layers by Apple's runtime, in assets of their own ({parts})"

    def run(self, path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs in the model's types; `path` is the asset that holds the kernels."""
        known = {v: np.asarray(inputs[v.name]) for v in self.graph.inputs}
        found = kernels_in(path)
        for stage in range(max((*self.parts, *self.kernels), default=-1) + 1):
            if stage in self.parts:
                known |= self._run_part(self.parts[stage], known)
            for node in self.kernels.get(stage, []):
                known |= run_kernels(self.carried[node], found, known)
        pairs = zip(self.graph.outputs, self.graph.output_names, strict=True)
        return {name: np.asarray(v.data if v.data is not None else known[v]) for v, name in pairs}

    def _run_part(self, nodes: Sequence[Node], known: Mapping[Value, Array]) -> dict[Value, Array]:
        inside = set(nodes)
        results = [v for n in nodes for v in n.outputs if v.n_out or not inside.issuperset(v.users)]
        part, inputs = _cut(nodes, results)
        empty = {v: np.zeros(v.type.dims, v.type.dtype.numpy) for v in results if is_empty(v)}
        if len(empty) == len(results):
            return empty
        with tempfile.TemporaryDirectory(prefix="cincel-") as folder:
            made = self.asset(part, Path(folder) / "part.aimodel")
            outputs = made.run({f"in{i}": known[v] for i, v in enumerate(inputs)})
        return {v: outputs[f"out{i}"] for i, v in enumerate(results)}


def run_kernels(
    layer: Carried, found: Mapping[str, KernelOp], known: Mapping[Value, Array], checks: bool = True
) -> dict[Value, Array]:
    """The results of a layer from the text of its kernels in an asset. EmitError if the asset has other kernels, or for
    what they do wrong in memory."""
    ops = [found.get(name) for name in layer.source.names]
    if any(op is None or op.source != layer.source.text for op in ops):
        raise EmitError(f"the asset does not hold the kernels of {layer.node.describe()}")
    with tempfile.TemporaryDirectory(prefix="cincel-") as name:
        folder = Path(name)
        _write(folder, layer, [op for op in ops if op is not None])
        buffers = zip(layer.inputs, layer.program.inputs, strict=True)
        given = [_held(known[v], layer.element(b)) for v, b in buffers]
        results = Executor(folder, checks=checks).run(given)
    pairs = zip(layer.node.outputs, results, strict=True)
    return {v: a.reshape(v.type.dims).astype(v.type.dtype.numpy) for v, a in pairs}


def _held(array: Array, element: str) -> Array:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array.astype(TYPES[element].numpy)).reshape(array.shape)


def _write(folder: Path, layer: Carried, ops: Sequence[KernelOp]) -> None:
    """A folder as the Metal target's, of one layer's kernels; no two tensors share memory."""
    p = layer.program
    data = b"".join(_padded(layer.constant(b).tobytes()) for b in p.weights.buffers)
    data += b"\0" * (-len(data) % PAGE or PAGE * (not data))
    buffers, room = [], {"heap": 0, "weights": 0}
    places = {"input": p.inputs, "output": p.outputs, "heap": p.buffers, "weights": p.weights.buffers}
    for place, group in places.items():
        for b in group:
            at = room.get(place, 0)
            buffers.append({"name": _name(layer, b), "place": place, "offset": at, "nbytes": b.nbytes, "note": ""})
            if place in room:
                room[place] = at + len(_padded(b"\0" * b.nbytes))
    plan = {
        "version": VERSION,
        "name": "layer",
        "heap": {"nbytes": room["heap"], "alignment": ALIGNMENT},
        "weights": {"file": "weights.bin", "nbytes": len(data)},
        "buffers": buffers,
        "inputs": [_port(layer, b, v) for b, v in zip(p.inputs, p.graph.inputs, strict=True)],
        "outputs": [_port(layer, b, v) for b, v in zip(p.outputs, p.graph.outputs, strict=True)],
        "dispatches": [_dispatch(layer, i, op) for i, op in enumerate(ops)],
    }
    (folder / "model.metal").write_text(plain(ops[0].source), encoding="utf-8")
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (folder / "weights.bin").write_bytes(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % ALIGNMENT)


def _name(layer: Carried, buffer: Any) -> str:  # Any: a buffer of the schedule
    return layer.tensors.get(buffer) or f"unused_{buffer.name}"


def _port(layer: Carried, buffer: Any, v: Value) -> dict[str, Any]:  # Any: a buffer of the schedule
    return {
        "name": v.name,
        "buffer": _name(layer, buffer),
        "type": METAL[layer.element(buffer)],
        "shape": list(v.type.dims),
    }


def _dispatch(layer: Carried, index: int, op: KernelOp) -> dict[str, Any]:
    made = layer.dispatches[index]
    return {
        "kernel": op.name,
        "title": "",
        "origin": "",
        "threadgroups": [n // t for n, t in zip(op.grid, op.group, strict=True)],
        "threads": list(op.group),
        "buffers": [{"buffer": name, "offset": 0} for name in (*made.reads, *made.writes)],
        "threadgroup_memory": made.tiles,
        "barrier": True,
    }


def _parts(graph: Graph, carried: Mapping[Node, Carried]) -> tuple[Parts, Parts]:
    """Layers by stage: those of Core AI, and the kernels that run after them, in order."""
    stage: dict[Node, int] = {}
    plain, kernels = Parts(), Parts()
    for node in graph.nodes:
        before = [v.node for v in node.inputs if v is not None and v.node is not None]
        is_kernel = node in carried
        stage[node] = max((stage[n] + (n in carried and not is_kernel) for n in before), default=0)
        (kernels if is_kernel else plain).setdefault(stage[node], []).append(node)
    return plain, kernels


def _cut(nodes: Sequence[Node], results: Sequence[Value]) -> tuple[Graph, list[Value]]:
    """Some layers as a graph with the annotations of their values, and the values that are its inputs."""
    cut = Graph("part")
    made: dict[Value, Value] = {}
    inputs: list[Value] = []
    for node in nodes:
        for v in node.inputs:
            if v is None or v in made:
                continue
            if v.data is not None:
                made[v] = cut.const(v.data, v.name, v.origin)
                made[v].type = v.type
            else:
                made[v] = cut.add_input(v.type, f"in{len(inputs)}")
                inputs.append(v)
        operands = [None if v is None else made[v] for v in node.inputs]
        copies = cut.add(node.op, *operands, origin=node.origin, names=[v.name for v in node.outputs])
        for old, new in zip(node.outputs, copies, strict=True):
            new.type = old.type
            made[old] = new
    cut.set_outputs([made[v] for v in results], [f"out{i}" for i in range(len(results))])
    return cut, inputs

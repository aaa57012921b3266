"""A layer graph as a TensorFlow function of its inputs and of some of its constants.

Fused operations become simpler ones first (`passes/_decompose*.py`), so that few have to be lowered. Layers that have
no lowering, and that no trained constant goes into, are evaluated as they are, outside of TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from compiler.errors import CompileError, UsageError
from compiler.graph import Graph, Node, Value
from compiler.pass_manager import PassManager
from compiler.subgraph import extract
from compiler.tensor import Array
from compiler.train import lower_elementwise, lower_linear, lower_shape, lower_window  # noqa: F401  # register lowerings
from compiler.train.lower import LOWERED, Held, Tensor
from passes.decompose import Decompose

KINDS = "fiub"  # of elements that cross from numpy to TensorFlow


class Function:
    """The values `wanted` of a graph, of which the constants `trained` are arguments.

    inputs   names, of the graph's inputs
    initial  the constants' data, in the order of `trained`
    faults   for each value why it cannot be differentiated with respect to them; None if it can
    """

    def __init__(self, graph: Graph, wanted: Sequence[Value], trained: Sequence[Value] = ()) -> None:
        self.inputs = [v.name for v in graph.inputs]
        self.initial = [np.asarray(v.data) for v in trained]
        cut, _ = extract(wanted, set(graph.nodes), leaves=[*graph.inputs, *trained])
        self.graph, _ = PassManager((Decompose(keeps=_is_lowered),)).run(cut)
        count = len(self.inputs)
        self._given, self._variables = self.graph.inputs[:count], self.graph.inputs[count:]
        self._varying = _reached(self.graph, self._given)
        self.faults = self._find_faults()

    def __call__(self, inputs: Mapping[str, Tensor], variables: Sequence[Tensor] = ()) -> list[Tensor]:
        """The values [runs,*shape], from inputs of that form. UsageError, naming the layer, if one of `faults`."""
        fault = next((f for f in self.faults if f is not None), None)
        if fault is not None:
            raise fault
        held = {v: Held(v.type, inputs[name]) for v, name in zip(self._given, self.inputs, strict=True)}
        for v, x in zip(self._variables, variables, strict=True):
            held[v] = Held(v.type, x[None], varies=False)
        for v in self.graph.constants:
            held[v] = Held(v.type, tf.constant(v.data)[None], varies=False)
        for node in self.graph.nodes:
            self._run(node, held)
        return [held[v].plain for v in self.graph.outputs]

    def _run(self, node: Node, held: dict[Value, Held]) -> None:
        operands = [None if v is None else held[v] for v in node.inputs]
        varies = any(x is not None and x.varies for x in operands)
        if self._unfit(node) is None:
            results = LOWERED[type(node.op)].function(node.op, node.outputs[0].type, *operands)
        else:
            results = _evaluated(node, operands)
        listed = results if isinstance(results, list) else [results]
        for v, result in zip(node.outputs, listed, strict=True):
            held[v] = result if isinstance(result, Held) else Held(v.type, result)
            held[v].varies = varies

    def _unfit(self, node: Node) -> str | None:
        """Why a layer is not computed in TensorFlow."""
        if not _is_lowered(node):
            return "has no form in TensorFlow for these operands"
        dynamic = [i for i in LOWERED[type(node.op)].fixed if i < len(node.inputs) and node.inputs[i] in self._varying]
        return f"has an operand {dynamic[0]} that depends on the inputs" if dynamic else None

    def _find_faults(self) -> list[CompileError | None]:
        trained = _reached(self.graph, self._variables)
        found: dict[Value, CompileError] = {}
        for node in self.graph.nodes:
            fault = next((found[v] for v in node.inputs if v is not None and v in found), None)
            reason = self._unfit(node) if fault is None else None
            if reason is not None and (trained.intersection(node.outputs) or not _is_numeric(node)):
                fault = UsageError(
                    f"{node.op.name} {reason}, so that no layer before it can be trained",
                    where=node.describe(),
                    hint="compress without fine-tuning, or cut the model before this layer",
                )
            if fault is not None:
                found.update((v, fault) for v in node.outputs)
        return [found.get(v) for v in self.graph.outputs]


def _is_lowered(node: Node) -> bool:
    lowering = LOWERED.get(type(node.op))
    return lowering is not None and lowering.holds(node)


def _reached(graph: Graph, sources: Sequence[Value]) -> set[Value]:
    """Values that depend on others, and those."""
    found = set(sources)
    for node in graph.nodes:
        if found.intersection(v for v in node.inputs if v is not None):
            found.update(node.outputs)
    return found


def _is_numeric(node: Node) -> bool:
    return all(v is None or v.type.dtype.numpy.kind in KINDS for v in (*node.inputs, *node.outputs))


def _evaluated(node: Node, operands: Sequence[Held | None]) -> list[Tensor]:
    """The results of a layer's own evaluation, run by run."""
    given = [x for x in operands if x is not None]
    kinds = [tf.as_dtype(v.type.dtype.numpy) for v in node.outputs]
    run = partial(_each_run, node, [x is not None for x in operands])
    made = tf.numpy_function(run, [x.plain for x in given], kinds)
    listed = made if isinstance(made, list | tuple) else [made]
    return [tf.ensure_shape(y, (None, *v.type.dims)) for y, v in zip(listed, node.outputs, strict=True)]


def _each_run(node: Node, present: Sequence[bool], *arrays: Array) -> list[Array]:
    runs = max((len(a) for a in arrays), default=1)
    results = []
    for i in range(runs):
        rest = iter(arrays)
        operands = [next(rest) if given else None for given in present]
        with np.errstate(all="ignore"):
            made = node.op.evaluate(*(a if a is None else a[i % len(a)] for a in operands))
        results.append(made if isinstance(made, tuple) else (made,))
    columns = zip(zip(*results, strict=True), node.outputs, strict=True)
    return [np.stack(column).astype(v.type.dtype.numpy) for column, v in columns]

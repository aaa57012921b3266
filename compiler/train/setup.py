"""A teacher and a student made of a graph and what compression made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from compiler.errors import UsageError, VerificationError
from compiler.graph import Graph, Value
from compiler.simulate import simulated
from compiler.tensor import F32
from compiler.train.function import Function
from compiler.train.student import Lesson, Student
from compiler.train.weights import Weight
from passes._compression import Rows, layer_names
from passes._logits import with_logits

AGREE = 1e-3  # difference from ONNX Runtime, of the largest element
TEMPERATURE, BLOCKS, LABELS = 2.0, 0.5, 0.5


def prepared(
    before: Graph, after: Graph, weights: Sequence[Weight], rows: Rows, blocks: int, seed: int, labelled: bool
) -> tuple[Student, tuple[int, int]]:
    """A student that has the weights of `after`, and how many rows and classes its first scores have."""
    tf.random.set_seed(seed)
    tf.config.experimental.enable_op_determinism()
    first, rounded = with_logits(simulated(before).graph), simulated(after)
    second = with_logits(rounded.graph)
    trained = _twins(rounded.graph, second, [rounded.values[w.value] for w in weights])
    pairs = [*_outputs(first, second), *_between(first, second, blocks)]
    made = Function(second, [b for _, b in pairs], trained)
    sound = [p for p, fault in zip(pairs, made.faults, strict=True) if fault is None]
    heads = sum(fault is None for fault in made.faults[: len(_outputs(first, second))])
    if not heads:
        raise next(f for f in made.faults if f is not None)
    teacher, function = Function(first, [a for a, _ in sound]), Function(second, [b for _, b in sound], trained)
    _expect_agreement(teacher, first, [a for a, _ in sound], rows)
    _expect_agreement(function, second, [b for _, b in sound], rows)
    classes = [b.type.rank == 2 and b.type.dims[1] > 1 for _, b in sound[:heads]]
    if labelled and True not in classes:
        raise UsageError("labels are of classes, and no output is [rows, classes]", hint="leave the labels away")
    shape = sound[classes.index(True)][1].type.dims if True in classes else (1, 0)
    lesson = Lesson(heads, classes, TEMPERATURE, BLOCKS, LABELS if labelled else 0.0)
    return Student(teacher, function, weights, lesson), (shape[0], shape[1])


def _twins(graph: Graph, copy: Graph, constants: Sequence[Value]) -> list[Value]:
    """Constants in a copy that has the same layers, and perhaps more behind them."""
    found: dict[Value, Value] = {}
    for a, b in zip(graph.nodes, copy.nodes, strict=False):
        found.update((v, w) for v, w in zip(a.inputs, b.inputs, strict=True) if v is not None and w is not None)
    return [found[v] for v in constants]


def _outputs(before: Graph, after: Graph) -> list[tuple[Value, Value]]:
    pairs = zip(before.outputs, after.outputs, strict=True)
    return [(a, b) for a, b in pairs if b.type.dtype is F32 and a.type.shape == b.type.shape and b.node is not None]


def _between(before: Graph, after: Graph, count: int) -> list[tuple[Value, Value]]:
    """Values of one name and shape in both, evenly spaced; what no multiplication went into says little."""
    known: Mapping[str, Value] = {name: n.outputs[0] for name, n in layer_names(before).items()}
    outputs = {*before.outputs, *after.outputs}
    found = []
    worked = 0
    for name, node in layer_names(after).items():
        worked += node.macs
        a, b = known.get(name), node.outputs[0]
        if a is None or not worked or b.type.dtype is not F32 or a.type.shape != b.type.shape:
            continue
        if b.type.size > 1 and not outputs.intersection((a, b)):
            found.append((worked, a, b))
    cuts = [worked * (i + 1) / (count + 1) for i in range(count)]
    chosen = dict.fromkeys(next((p for p in found if p[0] >= cut), None) for cut in cuts)
    return [(p[1], p[2]) for p in chosen if p is not None]


def _expect_agreement(function: Function, graph: Graph, values: Sequence[Value], rows: Rows) -> None:
    """VerificationError unless a function gives what ONNX Runtime gives on the first row."""
    feed = rows.feeds[0]
    made = function({name: tf.constant(feed[name])[None] for name in function.inputs}, function.initial)
    for v, got, wanted in zip(values, made, next(iter(rows.each(graph, values))), strict=True):
        top = float(np.abs(wanted).max(initial=0.0))
        distance = float(np.abs(got.numpy()[0] - wanted).max(initial=0.0))
        if not distance <= AGREE * max(top, 1e-6):
            raise VerificationError(
                f"TensorFlow and ONNX Runtime differ by {distance:.3g} of {top:.3g} at {v.label}",
                hint="recover without fine-tuning",
            )

"""Graphs of one random layer, compiled to a package, executed, and compared with what the operation means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import compiler.ops  # noqa: F401  # registers the operations
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.op import OPS, Op
from compiler.tensor import BOOL, Array, TensorType, type_of
from targets.coreml.artifact import CoreMLArtifact
from targets.coreml.package import read_package
from targets.coreml.target import CoreMLTarget
from tests.one_op import random_x

if TYPE_CHECKING:
    from numpy.random import Generator

Feeds = dict[str, Array]
Layer = tuple[Graph, Feeds]
STEP = {"f16": 2.0**-10, "bf16": 2.0**-7}  # of the narrow types, in which results are given


def seeded(name: str, number: int) -> Generator:
    """A generator of its own for each operation and sample."""
    return np.random.default_rng([number, *name.encode()])


def layers(name: str, count: int) -> Iterator[Layer]:
    """Random layers of an operation, with their inputs."""
    for number in range(count):
        layer = random_layer(seeded(name, number), OPS[name])
        if layer is not None:
            yield layer


def random_layer(rng: Generator, cls: type[Op], attempts: int = 60) -> Layer | None:
    """A layer whose other operands are constants or inputs, as it comes; the data that an operation dictates (indices,
    say) is fed in the latter case. None if no operand was found that it accepts."""
    for _ in range(attempts):
        x = random_x(rng)
        sample = cls.sample(rng, x)
        if sample is not None:
            return _layer(rng, sample[0], (x, *sample[1]))
    return None


def _layer(rng: Generator, op: Op, operands: tuple[TensorType | Array | None, ...]) -> Layer:
    graph, feeds = Graph(op.name), dict[str, Array]()
    values: list[Value | None] = []
    for i, operand in enumerate(operands):
        if operand is None:
            values.append(None)
            continue
        data = random_data(rng, operand) if isinstance(operand, TensorType) else np.array(operand)
        if i and rng.random() < (0.4 if isinstance(operand, TensorType) else 0.5):
            values.append(graph.const(data, f"c{i}"))
        else:
            values.append(graph.add_input(type_of(data), f"x{i}"))
            feeds[f"x{i}"] = data
    results = graph.add(op, *values, origin=frozenset((op.name,)))
    graph.set_outputs(results, [f"y{i}" for i in range(len(results))])
    return graph, feeds


def random_data(rng: Generator, t: TensorType) -> Array:
    """Floats around 0, integers from -3 (or 0) to 3, fair booleans."""
    if t.dtype is BOOL:
        return np.asarray(rng.random(t.dims) < 0.5)
    if t.dtype.is_float:
        return np.asarray(rng.standard_normal(t.dims) * rng.choice([0.5, 1, 2])).astype(t.dtype.numpy)
    return np.asarray(rng.integers(-3 if t.dtype.kind == "i" else 0, 4, t.dims)).astype(t.dtype.numpy)


def rounded_to_fp16(layer: Layer) -> Layer:
    """The layer with numbers that fp16 holds, so that rounding them is not held against the layer."""
    graph, feeds = layer
    (node,) = graph.nodes
    copy = Graph(graph.name)
    values: list[Value | None] = []
    for v in node.inputs:
        if v is None:
            values.append(None)
        elif v.data is not None:
            values.append(copy.const(_fp16(v.data), v.name))
        else:
            values.append(copy.add_input(v.type, v.name))
    copy.set_outputs(copy.add(node.op, *values, origin=node.origin), graph.output_names)
    return copy, {name: _fp16(data) for name, data in feeds.items()}


def _fp16(data: Array) -> Array:
    return data.astype(np.float16).astype(data.dtype) if type_of(data).dtype.is_float else data


def compiled(graph: Graph, path: Path, precision: str = "fp32", target: str = "iOS17") -> CoreMLArtifact:
    """The package of a graph. LegalityError if a need is not met."""
    chosen = CoreMLTarget(precision=precision, deployment_target=target)
    path.mkdir(exist_ok=True)
    return chosen.emit(chosen.prepare(graph), path / "m.mlpackage")


def fault(layer: Layer, path: Path, precision: str = "fp32", target: str = "iOS17", slack: int = 0) -> str | None:
    """How the executed package is wrong; None if it is right. LegalityError if a need is not met.

    slack  by how much integers may be off, for layers that round numbers which fp16 has rounded before
    """
    graph, feeds = layer
    artifact = compiled(graph.clone(), path, precision, target)
    with np.errstate(all="ignore"):
        expected = evaluate(graph, feeds)
        results = artifact.run(feeds)
    for v, name in zip(graph.outputs, graph.output_names, strict=True):
        wrong = difference(results[name], np.asarray(expected[name]), v.type, precision, slack)
        if wrong:
            return f"{v.node!r}: {name} {wrong}"
    return None


def difference(result: Array, expected: Array, t: TensorType, precision: str, slack: int = 0) -> str | None:
    """How a result is not what is expected."""
    if result.shape != expected.shape or result.dtype != expected.dtype:
        return f"is {result.dtype}{list(result.shape)}, not {expected.dtype}{list(expected.shape)}"
    a, b = result.astype(np.float64), expected.astype(np.float64)
    if t.dtype.is_float:
        relative = max(2e-5 if precision == "fp32" else 1e-2, 2 * STEP.get(t.dtype.name, 0.0))
        scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
        close = np.isclose(a, b, relative, scale * relative / 4, equal_nan=True)
    else:
        close = np.abs(a - b) <= slack
    places = np.flatnonzero(~close.reshape(-1))[:3]
    return f"is {a.reshape(-1)[places]}, not {b.reshape(-1)[places]}" if places.size else None


def operations(path: Path) -> list[Any]:  # Any: Apple's messages
    """Of a saved package."""
    function = read_package(path).spec.mlProgram.functions["main"]
    return list(function.block_specializations[function.opset].operations)


def kinds(path: Path) -> list[str]:
    """The operations of a saved package but for constants and casts."""
    return [o.type for o in operations(path) if o.type not in ("const", "cast")]

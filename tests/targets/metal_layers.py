"""Layers beside each other as one folder of Metal sources, run with every check, against what the operations mean."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.op import Op
from compiler.pass_manager import PassManager
from compiler.tensor import Array, TensorType, dtype_of
from targets.metal import TARGET
from tests.conformance.stages import difference

Operand = Array | TensorType | None  # a constant, an input, or nothing
HALF_STEPS = {"f16": 2.0**-11, "bf16": 2.0**-8}


class Layer(NamedTuple):
    """An operation and its operands; arrays are constants."""

    op: Op
    operands: Sequence[Operand]


class Made(NamedTuple):
    """What a folder computed, and what was wanted; the names of its kernels, in the order of dispatches."""

    got: Mapping[str, Array]
    wanted: Mapping[str, Array]
    kernels: Sequence[str]


def layer(op: Op, *operands: Operand) -> Layer:
    """A layer."""
    return Layer(op, operands)


def beside(layers: Sequence[Layer]) -> Graph:
    """A graph of layers, each with inputs of its own."""
    graph = Graph("layers")
    results: list[Value] = []
    for i, (op, operands) in enumerate(layers):
        results += graph.add(op, *(_operand(graph, o, f"x{i}_{j}") for j, o in enumerate(operands)))
    graph.set_outputs(results, [f"y{i}_{_name(v)}" for i, v in enumerate(results)])
    return graph


def _operand(graph: Graph, operand: Operand, name: str) -> Value | None:
    if operand is None:
        return None
    return graph.add_input(operand, name) if isinstance(operand, TensorType) else graph.const(operand)


def _name(v: Value) -> str:
    return v.node.op.name if v.node is not None else "input"


def run(
    graph: Graph, feeds: Mapping[str, Array], precision: str = "fp32", like: Mapping[str, Array] | None = None
) -> Made:
    """A graph through the target; what is wanted is computed of `like`, if that is given."""
    target = TARGET(precision=precision)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model"
        prepared = target.prepare(PassManager(target.pipeline()).run(graph.clone()).graph)
        artifact = target.emit(prepared, path)
        plan: dict[str, Any] = json.loads((path / "plan.json").read_text(encoding="utf-8"))
        with np.errstate(all="ignore"):
            wanted = evaluate(graph, like or feeds)
        return Made(artifact.run(feeds), wanted, [d["kernel"] for d in plan["dispatches"]])


def expect_same(graph: Graph, feeds: Mapping[str, Array], rtol: float = 0.0, atol: float = 0.0) -> Made:
    """AssertionError unless each result is what is wanted; floats up to some of their own steps if any error is
    allowed."""
    made = run(graph, feeds)
    for name, wanted in made.wanted.items():
        step = 8 * HALF_STEPS.get(dtype_of(wanted).name, 0.0) * bool(rtol)
        wrong = difference(made.got[name], wanted, rtol + step, atol + step)
        assert wrong is None, f"{name} {wrong}"
    return made


def agree(layers: Sequence[Layer], seed: int = 0, rtol: float = 0.0, atol: float = 0.0) -> Made:
    """The same for layers whose inputs are drawn at random."""
    graph = beside(layers)
    rng = np.random.default_rng(seed)
    return expect_same(graph, {v.name: drawn(rng, v.type) for v in graph.inputs}, rtol, atol)


def drawn(rng: np.random.Generator, t: TensorType) -> Array:
    """Small whole numbers, or normal floats."""
    if t.dtype.is_float:
        return rng.standard_normal(t.dims).astype(t.dtype.numpy)
    low = -100 if t.dtype.kind == "i" else 0
    return rng.integers(low, 2 if t.dtype.kind == "b" else 100, t.dims).astype(t.dtype.numpy)

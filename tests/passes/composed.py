"""Graphs written as formulas, and what a pass must do to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from compiler.compare import compare_all, rounding_limit
from compiler.evaluate import evaluate
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ops.elementwise import Add, Div, Mul, Pow, Sub
from compiler.pass_base import ErrorClass, Pass
from compiler.rewrite import Firing
from compiler.tensor import BOOL, F32, Array, DType, TensorType

Number = int | float | Array


class Term:
    """A value of a graph under construction, with arithmetic: `x * 0.5` adds a layer and a constant."""

    __array_ufunc__ = None  # numpy leaves the arithmetic of array and term to the term

    def __init__(self, net: Net, value: Value) -> None:
        self.net = net
        self.value = value

    def __add__(self, other: Term | Number) -> Term:
        return self.net(Add(), self, other)

    def __radd__(self, other: Number) -> Term:
        return self.net(Add(), other, self)

    def __sub__(self, other: Term | Number) -> Term:
        return self.net(Sub(), self, other)

    def __rsub__(self, other: Number) -> Term:
        return self.net(Sub(), other, self)

    def __mul__(self, other: Term | Number) -> Term:
        return self.net(Mul(), self, other)

    def __rmul__(self, other: Number) -> Term:
        return self.net(Mul(), other, self)

    def __truediv__(self, other: Term | Number) -> Term:
        return self.net(Div(), self, other)

    def __rtruediv__(self, other: Number) -> Term:
        return self.net(Div(), other, self)

    def __pow__(self, other: Number) -> Term:
        return self.net(Pow(), self, other)


class Net:
    """A graph under construction; calling it adds a layer. Numbers and arrays become constants of its element type."""

    def __init__(self, dtype: DType = F32) -> None:
        self.dtype = dtype
        self.graph = Graph()

    def input(self, *shape: int | str, dtype: DType | None = None) -> Term:
        name = f"x{len(self.graph.inputs)}"
        return Term(self, self.graph.add_input(TensorType(dtype or self.dtype, shape), name))

    def __call__(self, op: Op, *operands: Term | Number | None) -> Term:
        (value,) = self.graph.add(op, *(None if v is None else self.value(v) for v in operands))
        return Term(self, value)

    def many(self, op: Op, *operands: Term | Number) -> tuple[Term, ...]:
        return tuple(Term(self, v) for v in self.graph.add(op, *(self.value(v) for v in operands)))

    def value(self, v: Term | Number) -> Value:
        if isinstance(v, Term):
            return v.value
        keep = isinstance(v, np.ndarray) and v.dtype.kind != "f"
        return self.graph.const(np.array(v) if keep else np.array(v, self.dtype.numpy))

    def returns(self, *terms: Term) -> Graph:
        self.graph.set_outputs([t.value for t in terms], [f"y{i}" for i in range(len(terms))])
        return self.graph


class Record:
    """An observer that notes what happened."""

    def __init__(self) -> None:
        self.rules: list[str] = []
        self.skips: list[str] = []

    def allow(self) -> bool:
        return True

    def fired(self, firing: Firing) -> None:
        self.rules.append(firing.rule)

    def skipped(self, rule: str, node: Node, reason: str) -> None:
        self.skips.append(reason)


def inputs_of(graph: Graph, scale: float = 2.0, seed: int = 0) -> dict[str, Array]:
    """Normal numbers for every input, spread so that clips and saturations are met; unbound dimensions are 2."""
    rng = np.random.default_rng(seed)
    shapes = {v.name: [d if isinstance(d, int) else 2 for d in v.type.shape] for v in graph.inputs}
    normal = {v.name: rng.normal(size=shapes[v.name]) * scale for v in graph.inputs}
    return {
        v.name: (normal[v.name] > -scale if v.type.dtype is BOOL else normal[v.name]).astype(v.type.dtype.numpy)
        for v in graph.inputs
    }


def run(p: Pass, graph: Graph, *, scale: float = 2.0) -> Record:
    """Run a pass; the graph must stay valid and keep its outputs within the class of the pass, types included."""
    inputs = inputs_of(graph, scale)
    types = [v.type for v in graph.outputs]
    before = evaluate(graph, inputs)
    record = Record()
    assert p.run(graph, record) == len(record.rules)
    graph.verify()
    assert [v.type for v in graph.outputs] == types
    for comparison, array in zip(compare_all(before, evaluate(graph, inputs)), before.values(), strict=True):
        limit = {ErrorClass.EXACT: 400.0, ErrorClass.LOSSY: 0.0}.get(p.error_class, rounding_limit(array))
        assert comparison.psnr_db >= limit, (comparison, record.rules)
    again = Record()
    assert p.run(graph, again) == 0, again.rules
    return record


def becomes(p: Pass, graph: Graph, ops: Mapping[str, int], **options: Any) -> Graph:
    """The graph after the pass, which must then have exactly these layers."""
    run(p, graph, **options)
    assert graph.op_counts == dict(ops)
    return graph


def stays(p: Pass, graph: Graph) -> None:
    """The pass must not fire."""
    assert run(p, graph).rules == []

"""Graphs of a single layer, of every registered operation, for tests over the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compiler.graph import Graph, Value
from compiler.op import Op
from compiler.tensor import DTYPES, Array, TensorType
from tests.strategies import SHAPES, random_array

if TYPE_CHECKING:
    from numpy.random import Generator

MORE_SHAPES = (
    *SHAPES,
    (3,),
    (9,),
    (2, 8),
    (8, 8),
    (3, 2, 4),
    (2, 4, 8),
    (1, 2, 8, 8),
    (2, 2, 4, 8),
    (0,),
    (3, 4, 4),
    (2, 16, 1),
    (3, 8, 2),
)
COMMON = ("f32", "f16", "f64", "i64", "i32", "u8", "i8", "bool")
RARE = ("bf16", "i16", "u16", "u32", "u64", "str", "i4", "u4")


def random_x(rng: Generator) -> TensorType:
    """The type of a first operand: usually f32, sometimes any other."""
    names = ("f32",) if rng.random() < 0.4 else COMMON if rng.random() < 0.8 else RARE
    shape = MORE_SHAPES[int(rng.integers(len(MORE_SHAPES)))]
    return TensorType(DTYPES[str(rng.choice(names))], shape)


def one_layer(cls: type[Op], rng: Generator, attempts: int = 60) -> Graph | None:
    """A graph of one random layer of an operation; None if no operand was found that it accepts."""
    for _ in range(attempts):
        x = random_x(rng)
        sample = cls.sample(rng, x)
        if sample is not None:
            return layer_of(*sample, x)
    return None


def layer_of(op: Op, others: tuple[TensorType | Array | None, ...], x: TensorType) -> Graph:
    """The layer, with inputs for operands of which only the type is given."""
    graph = Graph(op.name)
    operands: list[Value | None] = []
    for i, operand in enumerate((x, *others)):
        if operand is None:
            operands.append(None)
        elif isinstance(operand, TensorType):
            operands.append(graph.add_input(operand, f"x{i}"))
        else:
            operands.append(graph.const(np.array(operand), f"c{i}"))
    results = graph.add(op, *operands, origin=frozenset((op.name,)))
    graph.set_outputs(results, [f"y{i}" for i in range(len(results))])
    return graph


def layer_inputs(rng: Generator, graph: Graph) -> dict[str, Array]:
    """Inputs on which elements and their order matter: no two floats alike."""
    return {v.name: random_array(rng, v.type) for v in graph.inputs}

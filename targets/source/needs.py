"""Conditions on layers that several lowerings to generated source state."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.graph import Graph, Node, Value
from compiler.ops import Range
from compiler.target import Need, dtypes
from compiler.tensor import BF16, BOOL, C64, C128, F16, F32, F64, I8, I16, I32, I64, STRING, U8, U16, U32, U64, DType
from targets.source.dynamic import BOUNDS, is_dynamic

FLOATS = (F16, BF16, F32, F64)
INTEGERS = (I8, I16, I32, I64, U8, U16, U32, U64)
NO_NUMBERS = (STRING, C64, C128)
SAY_SIZES = (*BOUNDS, Range)  # operations that state themselves which sizes have to be known
NUMBERS = dtypes(*FLOATS, *INTEGERS, BOOL)
SOME_FLOATS = dtypes(*FLOATS)


def values_of(node: Node) -> Iterator[Value]:
    """The operands and results of a layer."""
    return (v for v in (*node.inputs, *node.outputs) if v is not None)


KNOWN = Need(
    text="sizes that are known before the model runs (give those of inputs, or compute with a mask of known size: "
    "Where, or a product with zeros)",
    holds=lambda node: all(v.type.is_static for v in values_of(node)),
)
HELD = Need(
    text="element types other than strings and complex numbers",
    holds=lambda node: not any(v.type.dtype in NO_NUMBERS for v in values_of(node)),
)
LAST = Need(
    text="operands of known size, and results that are outputs of the model and read by no layer (compute with a mask "
    "of known size instead: Where, or a product with zeros)",
    holds=lambda node: (
        all(v is None or v.type.is_static for v in node.inputs)
        and all(v.type.is_static or not v.users for v in node.outputs)
    ),
)


def types_of(*indices: int, among: tuple[DType, ...], what: str) -> Need:
    """The operands at these indices have one of these element types."""

    def holds(node: Node) -> bool:
        given = [node.inputs[i] for i in indices if i < len(node.inputs)]
        return all(v is None or v.type.dtype in among for v in given)

    return Need(text=f"{what} of {', '.join(t.name for t in among)}", holds=holds)


def port_objections(graph: Graph) -> list[str]:
    """One line for every input and output that no buffer can hold."""
    found = []
    for kind, values in (("input", graph.inputs), ("output", graph.outputs)):
        for v in values:
            if v.type.dtype in NO_NUMBERS:
                found.append(f"{kind} {v!r} -- needs an element type other than strings and complex numbers")
            elif not v.type.is_static and not is_dynamic(v):
                found.append(f"{kind} {v!r} -- needs sizes that are known before the model runs (--shape)")
    return found

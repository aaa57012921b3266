"""Activations in 8 bits: which values Core ML rounds, and what is known of them on the Neural Engine, as data.

`int8_rules.json`, each entry with its source and confidence:

layers   by operation of the layer graph: `computes` in 8 bits if its operands are rounded, with the operand that is its
         weight and the axis of its results; or `moves` numbers, so that results keep the parameters of the operands
facts    what to know of packages (`about`: w8a8, mul, blocks, coarse) and for the docs
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from compiler.graph import Graph, Node, Value
from compiler.ops.elementwise import Add, Mul
from compiler.ops.quant import DequantizeLinear, QuantizeLinear
from compiler.tensor import I8, U8, TensorType
from passes._int8_scheme import Scheme

PATH = Path(__file__).with_name("int8_rules.json")
ROUNDED = (I8, U8)  # what MIL quantizes to
SINCE_STORED = 16  # the iOS version with weights in fewer bits
NEWEST = 99  # an iOS version above all


@cache
def rules() -> Mapping[str, Any]:
    """The file."""
    found: Mapping[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return found


@cache
def scheme() -> Scheme:
    """What Core ML asks of the values of a layer graph; it fixes no scales."""
    layers = rules()["layers"]
    weights = {name: tuple(rule["weights"]) for name, rule in layers.items() if "weights" in rule}
    roles = {role: [n for n, rule in layers.items() if rule["role"] == role] for role in ("computes", "moves")}
    return Scheme(roles["moves"], {}, weights, roles["computes"])


def settle(graph: Graph, ios: int = NEWEST, given: bool = False) -> None:
    """Leave annotations only where Core ML rounds: values that a layer reads which computes in 8 bits, maybe after they
    were moved, and weights. Biases and what only layers of floats read stay floats. Those that are `given` with the
    model stay everywhere, but beside the layers at its ports, which round. Before iOS 16 nothing is stored so."""
    annotated = [v for v in _values(graph) if v.type.quant is not None]
    read = _read_in_8_bits(graph) if annotated and not given else set()
    for v in annotated:
        if _is_at_port(v) if given else v not in read:
            v.type = v.type._replace(quant=None)
    for c in graph.constants:
        if c.type.quant is not None and (c.type.quant.dtype.bits > 8 or not c.type.rank or ios < SINCE_STORED):
            c.type = c.type._replace(quant=None)


def _is_at_port(v: Value) -> bool:
    """Whether a layer rounds a value before it is read, or all that read it do."""
    dequantized = v.node is not None and isinstance(v.node.op, DequantizeLinear)
    return dequantized or (not v.n_out and all(isinstance(n.op, QuantizeLinear) for n in v.users))


def _values(graph: Graph) -> list[Value]:
    """What is computed, and the inputs."""
    return [*graph.inputs, *(v for n in graph.nodes for v in n.outputs)]


def _read_in_8_bits(graph: Graph) -> set[Value]:
    demands = scheme()
    found: set[Value] = set()
    for node in reversed(list(graph.nodes)):
        moves = node.op.name in demands.same and not found.isdisjoint(node.outputs)
        if moves or _computes(node, demands):
            found.update(v for v in node.inputs if v is not None and v.data is None)
    return found


def _computes(node: Node, demands: Scheme) -> bool:
    """Whether a layer computes in 8 bits. A sum with a constant is one of floats."""
    return node.op.name in demands.integer and not (
        isinstance(node.op, Add) and any(v is not None and v.data is not None for v in node.inputs)
    )


def is_rounded(v: Value) -> bool:
    """Whether the package rounds a computed value to 8 bits."""
    return v.data is None and v.type.quant is not None and v.type.quant.dtype in ROUNDED


def is_product_of_rounded(node: Node) -> bool:
    """The pattern that the Neural Engine can get wrong."""
    return isinstance(node.op, Mul) and is_rounded(node.output) and any(v and is_rounded(v) for v in node.inputs)


def remarks(graph: Graph) -> list[str]:
    """What to know of a package whose values or weights are stored in few bits."""
    products = sum(map(is_product_of_rounded, graph.nodes))
    about = {
        "w8a8": any(map(is_rounded, _values(graph))),
        "mul": bool(products),
        "blocks": any(c.type.quant is not None and c.type.quant.block is not None for c in graph.constants),
        "coarse": any(_is_coarse(c.type) for c in graph.constants),
    }
    if not any(about.values()):
        return []
    lines = [f"{fact['text']} ({fact['confidence']})" for fact in rules()["facts"] if about.get(fact["about"])]
    return [*([_floats_between(graph)] if about["w8a8"] else []), *lines]


def _is_coarse(t: TensorType) -> bool:
    bits = [*([t.quant.dtype.bits] if t.quant else []), *([t.palette.bits] if t.palette else [])]
    return min(bits, default=8) < 8


def _floats_between(graph: Graph) -> str:
    """Which layers of a graph with rounded values compute in fp16."""
    demands = scheme()
    done = [n for n in graph.nodes if n.op.name in demands.integer and any(v and is_rounded(v) for v in n.inputs)]
    others = sorted({n.op.name for n in graph.nodes if not demands.is_integer(n)})
    return f"{len(done)} layers read operands of 8 bits; in fp16 between them: {', '.join(others) or 'none'}"

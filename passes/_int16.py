"""Values in 16 bits: their parameters, which layers take them, and what changes around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from compiler.graph import Graph, Node, Value
from compiler.ops.activation import Relu
from compiler.quantize import asymmetric, represented, symmetric
from compiler.tensor import I8, I16, I32, I64, Array, DType, QuantParams
from passes._int8_scheme import Range, Scheme
from passes._int8_weights import bias_params

FINER = 128  # steps of int16 in one of int8: 255 * 128 is the largest difference to a zero point, and int16 holds it


def widened(params: QuantParams) -> QuantParams:
    """Symmetric parameters in int16 that hold every number of these in int8 exactly; those of int16 as they are."""
    if params.dtype is I16:
        return params
    return QuantParams((params.scale[0] / FINER,), (0,), None, I16)


def narrowed(params: QuantParams) -> QuantParams:
    """Parameters in int8 for the numbers of these in int16; those of int8 as they are."""
    return params if params.dtype is I8 else asymmetric(*represented(params))


def tied(graph: Graph, scheme: Scheme, kinds: Sequence[DType] = (I8,)) -> list[list[Value]]:
    """The values that are stored so in groups: those of equal parameters that layers which do not rescale connect, or a
    rectifier, which is computed with the layer before."""
    first: dict[Value, Value] = {}

    def root(v: Value) -> Value:
        while first[v] is not v:
            first[v] = first[first[v]]
            v = first[v]
        return v

    first |= {v: v for v in values(graph) if v.type.quant is not None and v.type.quant.dtype in kinds}
    for node in graph.nodes:
        if node.op.name in scheme.same or isinstance(node.op, Relu):
            held = [v for v in (*node.outputs, *node.inputs) if v is not None and v in first]
            for v in held[1:]:
                if v.type.quant == held[0].type.quant:
                    first[root(v)] = root(held[0])
    groups: dict[Value, list[Value]] = {}
    for v in first:
        groups.setdefault(root(v), []).append(v)
    return list(groups.values())


def values(graph: Graph) -> Iterator[Value]:
    """The inputs and what layers compute."""
    yield from graph.inputs
    for node in graph.nodes:
        yield from node.outputs


def widen(group: Iterable[Value], scheme: Scheme, seen: Callable[[Value], Range] | None = None) -> int:
    """Store those values of a group in 16 bits of which all layers around have such a kernel; returns how many.

    seen  the range of a value, which is held even where the 8 bits saturated"""
    members = [v for v in group if all(n.op.name in scheme.wide for n in (*([v.node] if v.node else []), *v.users))]
    if not members:
        return 0
    given = members[0].type.quant
    assert given is not None
    fixed = [f for v in members if v.node is not None and (f := scheme.fixed16.get(v.node.op.name))]
    params = fixed[0] if fixed else widened(given)
    if seen is not None and not fixed:
        peak = max((abs(end) for v in members for end in seen(v)), default=0.0)
        params = max(params, symmetric([peak], None, I16), key=lambda p: p.scale)
    for v in members:
        v.type = v.type._replace(quant=params)
    return len(members)


def fit_biases(graph: Graph, scheme: Scheme, originals: Mapping[tuple[int, int], Array] | None = None) -> None:
    """Give each bias the step of the products around which values have changed, in 64 bits beside those of 16; weights
    and biases of layers that stay floats lose their parameters.

    originals  constants by the numbers of layer and operand, as those were before they were rounded"""
    for place, node in enumerate(graph.nodes):
        found = scheme.weight_of(node)
        if found is None:
            continue
        weight, index, _ = found
        bias = node.inputs[index + 1] if index + 1 < len(node.inputs) else None
        around = [v.type.quant for v in (node.inputs[0], *node.outputs) if v is not None]
        if None in around:
            _release(graph, node, {k: (originals or {}).get((place, k)) for k in (index, index + 1)})
        elif weight.type.quant is not None and bias is not None and bias.type.quant is not None:
            wide = any(q is not None and q.dtype is I16 for q in around)
            x = around[0]
            assert x is not None
            step = (widened(x) if wide else x).scale[0]
            params = bias_params(step, weight.type.quant)._replace(dtype=I64 if wide else I32)
            bias.type = bias.type._replace(quant=params)


def _release(graph: Graph, node: Node, originals: Mapping[int, Array | None]) -> None:
    """Constants of a layer by operand as they were, without parameters; of its own where others share them."""
    for index, data in originals.items():
        v = node.inputs[index] if index < len(node.inputs) else None
        if v is None or v.data is None or v.type.quant is None:
            continue
        if len(v.users) > 1 or (data is not None and data is not v.data):
            own = graph.const(v.data if data is None else data, v.name, v.origin)
            own.type = v.type
            graph.set_operand(node, index, own)
            v = own
        v.type = v.type._replace(quant=None)

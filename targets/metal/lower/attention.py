"""Attention: blocks of queries of 16 or 32 bits; of other types one query at a time."""

from __future__ import annotations

from codegen.metal.attention import Attention, attention
from compiler import ops
from compiler.graph import Node
from compiler.tensor import F16, F32
from targets.metal.program import MetalProgram
from targets.metal.table import lowers
from targets.source.elements import element_type
from targets.source.lower.heads import heads_of, result_of
from targets.source.lower.indexing import operands
from targets.source.lower.plain import plain_attention
from targets.source.needs import FLOATS, types_of
from targets.source.program import ctype_of


@lowers(ops.Attention, needs=(types_of(0, among=FLOATS, what="queries"),))
def _attention(p: MetalProgram, node: Node, op: ops.Attention) -> None:
    q, k, v, *masks = operands(node)
    given, steps = heads_of(p, node)
    is_whole = node.output.type.size and k.type.size
    kernel = attention(
        Attention(
            depth=q.type.dims[3],
            width=v.type.dims[3],
            ctype=ctype_of(q.type.dtype),
            mask_type=element_type(masks[0].type.dtype) if masks else "",
            causal=op.causal,
            softcap=float(op.softcap),
        )
    )
    if kernel is None or q.type.dtype not in (F16, F32) or not given.are_rows or not is_whole:
        plain_attention(p, node, op)
        return
    batch, heads, queries, _ = q.type.dims
    shared, keys = k.type.dims[1:3]
    places = [x.at(p) for x in given if x is not None]
    y, y_steps = result_of(p, node)
    strides = [n for x in given[:3] if x is not None for n in x.strides[:3]]
    numbers = (batch, heads, shared, queries, keys, *strides, *y_steps[:3], *(steps if masks else ()))
    title = f"attention of {q.type} to {k.type}"
    p.call(kernel, *places, y, *numbers, float(op.scale), node=node, title=title)

"""Products, convolutions and attention of any types, one result at a time."""

from __future__ import annotations

from codegen.neon.conv import PlainConv
from codegen.neon.deconv import PlainDeconv
from codegen.neon.matmul import PlainMatMul
from codegen.neon.plain import Ints, Plain
from codegen.neon.plain_attention import PlainAttention
from compiler import ops
from compiler.graph import Node
from compiler.tensor import BOOL, F64
from targets.source.lower.indexing import laid, operands
from targets.source.lower.moving import dense
from targets.source.lower.products import Matrices
from targets.source.program import Program, ctype_of

WIDE = {"float": "float", "double": "double", "half_t": "float", "bfloat_t": "float"}  # of sums; integers wrap around


def plain_product(p: Program, node: Node, of: Matrices) -> None:
    """A product of matrices that are both known at run time."""
    given = [p.at(v) for v in operands(node)]
    ctype = ctype_of(node.output.type.dtype)
    kernel = PlainMatMul(
        ctype=ctype,
        wide=WIDE.get(ctype, "uint64_t"),
        batch=of.batch,
        m=of.m,
        n=of.n,
        k=of.k,
        x=(*of.x_steps, *of.x),
        y=(*of.y_steps, *of.y),
        has_bias=len(given) > 2,
    )
    title = f"products of {'x'.join(map(str, of.batch)) or 'one'} matrices, {of.m}x{of.k} by {of.k}x{of.n}"
    p.call(kernel, *given, p.result(node.output), node=node, title=title)


def plain_conv(p: Program, node: Node, op: ops.Conv) -> None:
    """A convolution over any number of axes."""
    given = [v for v in node.inputs if v is not None]
    out = node.output.type
    ctype = ctype_of(out.dtype)
    axes = len(op.strides)
    kernel = PlainConv(
        ctype=ctype,
        wide=WIDE.get(ctype, "uint64_t"),
        x=laid(given[0]),
        w=laid(given[1]),
        y=laid(node.output),
        strides=op.strides,
        pads=op.pads[:axes],
        dilations=op.dilations,
        groups=op.groups,
        has_bias=len(given) > 2,
    )
    places = [p.at(v) for v in given]
    p.call(kernel, *places, p.result(node.output), node=node, title=f"convolution to {out}")


def plain_deconv(p: Program, node: Node, op: ops.ConvTranspose) -> None:
    """A transposed convolution over any number of axes."""
    given = [v for v in node.inputs if v is not None]
    out = node.output
    ctype = ctype_of(out.type.dtype)
    kernel = PlainDeconv(
        ctype=ctype,
        wide=Plain.computed(ctype),
        x=laid(given[0]),
        w=laid(given[1]),
        y=laid(out),
        strides=op.strides,
        pads=op.pads[: len(op.strides)],
        dilations=op.dilations,
        groups=op.groups,
        has_bias=len(given) > 2,
    )
    places = [p.at(v) for v in given]
    p.call(kernel, *places, p.result(out), node=node, title=f"transposed convolution to {out.type}")


def plain_attention(p: Program, node: Node, op: ops.Attention) -> None:
    """For operands in logical order."""
    q, k, v, *masks = operands(node)
    given = [p.at(x) for x in (q, k, v, *masks)]
    y = p.result(node.output)
    if not node.output.type.size:
        return
    batch, heads, queries, depth = q.type.dims
    shared, keys = k.type.dims[1:3]
    steps: Ints = (0, 0, 0, 0)
    for mask in masks:
        own = zip(mask.type.dims, dense(mask.type.dims), strict=True)
        steps = (*[0] * (4 - mask.type.rank), *(0 if d == 1 else s for d, s in own))
    kernel = PlainAttention(
        ctype=ctype_of(q.type.dtype),
        batch=batch,
        heads=heads,
        shared=shared,
        queries=queries,
        keys=keys,
        depth=depth,
        width=v.type.dims[3],
        scale=op.scale,
        causal=op.causal,
        softcap=op.softcap,
        mask_type=ctype_of(masks[0].type.dtype) if masks else "",
        is_choice=bool(masks) and masks[0].type.dtype is BOOL,
        mask=steps,
    )
    scores = p.scratch(max(keys, 1) * (8 if q.type.dtype is F64 else 4), "scores")
    p.call(kernel, *given, y, scores, node=node, title=f"attention of {q.type} to {k.type}")

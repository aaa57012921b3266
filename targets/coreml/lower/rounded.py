"""Annotated values, rounded: a quantize and a dequantize behind the layer that computes them."""

from __future__ import annotations

import numpy as np

from compiler.graph import Node, Value
from compiler.quantize import limits
from targets.coreml.int8 import is_product_of_rounded, is_rounded
from targets.coreml.lower.lowering import Lowering, Operands

KINDS = {"i8": "int8", "u8": "uint8"}
LEAST = float(np.finfo(np.float16).smallest_subnormal)  # a scale of 0 is none


def round_results(p: Lowering, node: Node) -> None:
    """Round the results of a layer as their annotations say. A product is limited to what they hold before, because the
    Neural Engine can get it wrong otherwise (int8_rules.json)."""
    for v in node.outputs:
        round_value(p, v, limited=is_product_of_rounded(node))


def round_value(p: Lowering, v: Value, limited: bool = False) -> None:
    """Let what is read of an annotated value be rounded."""
    if not is_rounded(v):
        return
    x, params = p.raw(v), v.type.quant
    assert params is not None
    kind, along = KINDS[params.dtype.name], params.axis is not None
    shape = (-1,) if along else ()
    scale = np.maximum(np.array(params.scale), LEAST).reshape(shape)
    point = np.array(params.zero_point, kind).reshape(shape)
    if limited and not along:
        low, high = (float(scale) * (end - int(point)) for end in limits(params.dtype))
        x = p.like(x, "clip", alpha=low, beta=high)
    scaling: Operands = {
        "scale": p.floats(scale, "scale", x.dtype),
        "zero_point": p.program.const(point, kind, name="zero_point"),
        "axis": params.axis,
    }
    stored = p.add("quantize", {"input": x, "output_dtype": kind, **scaling}, kind, x.shape, f"{v.name}_stored")
    p.bind(v, p.add("dequantize", {"input": stored, **scaling}, x.dtype, x.shape, v.name))

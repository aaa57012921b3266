"""What Q and DQ layers say of a value: their parameters as annotations, and the layers that they may pass."""

from __future__ import annotations

import numpy as np

from compiler import ops
from compiler.graph import Graph, Node, Value
from compiler.quantize import limits, quantized
from compiler.tensor import F32, I2, I4, I8, I16, I32, U2, U4, U8, U16, Array, QuantParams

SIGNED = {U2: I2, U4: I4, U8: I8, U16: I16}
MOVES = (ops.ConvertLayout, ops.DepthToSpace, ops.Expand, ops.Identity, ops.MaxPool, ops.Reshape, ops.Slice,
         ops.SpaceToDepth, ops.Tile, ops.Transpose)  # fmt: skip
PRODUCTS = (ops.Conv, ops.ConvTranspose, ops.Dense, ops.MatMul)


def params_of(node: Node) -> QuantParams | None:
    """The parameters of a Q or DQ layer; None unless they are known, in float32, and not in blocks."""
    op, (x, scale, *rest) = node.op, node.inputs
    assert isinstance(op, ops.QuantizeLinear | ops.DequantizeLinear) and x is not None and scale is not None
    real, stored = (x, node.output) if isinstance(op, ops.QuantizeLinear) else (node.output, x)
    zero = rest[0] if rest else None
    if scale.data is None or (zero is not None and zero.data is None) or op.block_size:
        return None
    kind, precision = stored.type.dtype, getattr(op, "precision", None)
    plain = real.type.dtype is F32 and scale.type.dtype is F32 and precision in (None, "f32")
    if not plain or not kind.is_integer or kind.bits > 32:
        return None
    scales = np.asarray(scale.data).reshape(-1)
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        return None
    zeros = np.zeros(scales.shape, np.int64) if zero is None else np.asarray(zero.data).reshape(-1).astype(np.int64)
    return QuantParams(tuple(map(float, scales)), tuple(map(int, zeros)), op.axis, kind)


def signed(params: QuantParams) -> QuantParams:
    """The same numbers in signed integers: stored integers and zero point are lower by half the range."""
    kind = SIGNED.get(params.dtype)
    if kind is None:
        return params
    half = 1 << (kind.bits - 1)
    return params._replace(zero_point=tuple(z - half for z in params.zero_point), dtype=kind)


def of_activation(node: Node) -> QuantParams | None:
    """The annotation of a value that a Q or DQ layer asks for: int8, or int16 that is symmetric, for a whole tensor;
    None if it asks for more."""
    params = params_of(node)
    if params is None or params.axis is not None:
        return None
    params = signed(params)
    known = params.dtype is I8 or (params.dtype is I16 and params.zero_point == (0,))
    return params if known else None


def of_constant(node: Node) -> QuantParams | None:
    """The annotation of a constant that is dequantized; fewer than 8 bits are held in 8."""
    params = params_of(node)
    if params is None:
        return None
    params = signed(params)
    return params._replace(dtype=I8) if params.dtype.bits < 8 else params


def carries_scales(graph: Graph) -> bool:
    """Whether a model is quantized: some product's operand is, by scales that are known, and not its weights alone."""
    for node in graph.of(*PRODUCTS):
        x = _before_moves(node.inputs[0])
        source = None if x is None else x.node
        if source is not None and isinstance(source.op, ops.DequantizeLinear) and of_activation(source) is not None:
            return True
    return any(has_known_scales(node) for node in graph.of(ops.QLinearConv, ops.QLinearMatMul))


def has_known_scales(node: Node) -> bool:
    """Whether the scales and zero points of a QLinear layer are constants, and one each for its operand and result."""
    scales = [v for i, v in enumerate(node.inputs[:8]) if i not in (0, 3)]
    known = all(v is not None and v.data is not None for v in scales)
    return known and all(v is not None and v.type.size == 1 for v in (*scales[:2], *scales[4:]))


def _before_moves(v: Value | None) -> Value | None:
    while v is not None and v.node is not None and isinstance(v.node.op, MOVES):
        v = v.node.inputs[0]
    return v


def before_clip(x: Value, params: QuantParams) -> Value:
    """What is clipped to `x`, if integers with these parameters saturate where the clip ends or before, and nobody
    reads it or more than one layer reads `x`; else `x`."""
    node = x.node
    if node is None or not isinstance(node.op, ops.Relu | ops.Clip) or len(x.users) > 1 or x.n_out:
        return x
    y = node.inputs[0]
    assert y is not None
    if y.node is None or len(y.users) > 1 or y.n_out or y.type.quant is not None:
        return x
    ends = (node.op.low, node.op.high) if isinstance(node.op, ops.Clip) else (0.0, np.inf)
    reached = tuple(map(int, quantized(np.array(ends, np.float32), params)))
    return y if reached == limits(params.dtype) else x


def is_held(node: Node) -> bool:
    """Whether the parameters of a Q or DQ layer of at most 16 bits, or of int32, are known."""
    if not isinstance(node.op, ops.QuantizeLinear | ops.DequantizeLinear):
        return False
    params = params_of(node)
    return params is not None and (params.dtype.bits <= 16 or params.dtype is I32)


def random_bytes(graph: Graph) -> dict[str, Array]:
    """Inputs of a quantized model: any integers where these are dequantized at once, usual numbers elsewhere."""
    rng = np.random.default_rng(0)
    found = {}
    for v in graph.inputs:
        if v.type.dtype in (I8, U8):
            found[v.name] = rng.integers(*limits(v.type.dtype), v.type.dims, endpoint=True).astype(v.type.dtype.numpy)
        else:
            found[v.name] = np.asarray(rng.standard_normal(v.type.dims)).astype(v.type.dtype.numpy)
    return found

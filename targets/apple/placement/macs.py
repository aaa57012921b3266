"""Multiply-accumulates of the operations that have any, by their kind in MIL."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from targets.apple.placement.operation import Operation

COUNTS: dict[str, Callable[[Operation], int]] = {}


def macs(op: Operation) -> int:
    """Multiply-accumulates of one execution; 0 for what sums no products."""
    count = COUNTS.get(op.kind)
    return count(op) if count is not None and op.outputs else 0


def reduction(op: Operation) -> int:
    """How many products a matrix product sums for each result."""
    x = op.operand("x")
    if x is None or not x.shape:
        return 0
    return x.shape[-2] if op.attributes.get("transpose_x") and len(x.shape) > 1 else x.shape[-1]


def summed_axes(op: Operation, operand: str, rank: int) -> tuple[int, ...]:
    """The axes of a constant operand along which products are summed; none if it takes no part in products."""
    if op.kind == "matmul" and operand in ("x", "y"):
        swapped = bool(op.attributes.get(f"transpose_{operand}"))
        last = (operand == "x") != swapped
        return (rank - 1 if last else rank - 2,)
    if operand != "weight":
        return ()
    return (0, *range(2, rank)) if op.kind == "conv_transpose" else tuple(range(1, rank))


def _conv(op: Operation) -> int:
    weight = op.operand("weight")
    return 0 if weight is None else op.outputs[0].elements * prod(weight.shape[1:])


def _conv_transpose(op: Operation) -> int:
    x, weight = op.operand("x"), op.operand("weight")
    return 0 if x is None or weight is None else x.elements * prod(weight.shape[1:])


def _product(op: Operation) -> int:
    return op.outputs[0].elements * reduction(op)


def _attention(op: Operation) -> int:
    query, key, value = (op.operand(name) for name in ("query", "key", "value"))
    if query is None or key is None or value is None:
        return 0
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _einsum(op: Operation) -> int:
    """The product of the sizes of all letters."""
    sizes: dict[str, int] = {}
    left = str(op.attributes.get("equation", "")).partition("->")[0].split(",")
    for letters, tensor in zip(left, op.operands, strict=False):
        sizes.update(zip(letters.strip(), tensor.shape, strict=False))
    return prod(sizes.values()) if sizes else 0


def _recurrent(op: Operation) -> int:
    """Every weight is used once a step and row: x is (steps, rows, inputs)."""
    x = op.operand("x")
    weights = [t for name, tensors in op.inputs.items() if name.startswith("weight") for t in tensors]
    return 0 if x is None else prod(x.shape[:2]) * sum(t.elements for t in weights)


COUNTS.update(
    conv=_conv, conv_quantized=_conv, conv_transpose=_conv_transpose, linear=_product, matmul=_product,
    scaled_dot_product_attention=_attention, einsum=_einsum, lstm=_recurrent, gru=_recurrent, rnn=_recurrent,
)  # fmt: skip

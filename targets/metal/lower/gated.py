"""Gated layers: two dense layers on one value, of which the tail of one reads the result of the other, are one product
whose columns lie in pairs."""

from __future__ import annotations

import numpy as np

from codegen.expression import Expression, Operand, substitute
from codegen.metal.gemv import MOST_ROWS
from compiler import ops
from compiler.graph import Node, Value
from compiler.tensor import Array
from targets.metal.program import MetalProgram


def other_of(p: MetalProgram, node: Node) -> Node | None:
    """The layer whose result alone the tail of this one reads, if both can be one product."""
    tail = p.tail(node)
    if len(tail.others) != 1:
        return None
    y = tail.others[0]
    other = next((head for head, own in p.tails.items() if own.value is y), y.node)
    if other is None or type(other.op) is not ops.Dense or other.op != node.op or other is node:
        return None
    is_alone = len(y.users) == 1 and not y.n_out and not p.tail(other).others
    alike = other.inputs[0] is node.inputs[0] and _kinds(other) == _kinds(node)
    many = y.type.size > MOST_ROWS * y.type.dims[-1]
    return other if is_alone and alike and many and _is_constant(node) and _is_constant(other) else None


def is_beside(p: MetalProgram, node: Node) -> bool:
    """Whether a layer is computed by such a product of another one."""
    y = p.tail(node).value
    heads = [head for head, tail in p.tails.items() if y in tail.others] if len(y.users) == 1 else []
    return len(heads) == 1 and type(heads[0].op) is ops.Dense and other_of(p, heads[0]) is node


def tail_of_both(p: MetalProgram, node: Node, other: Node) -> Expression:
    """What is done with the sums of both layers, operands 0 and 1."""
    return substitute(p.tail(node).expression, {1: substitute(p.tail(other).expression, {0: Operand(1)})})


def _kinds(node: Node) -> list[object]:
    return [None if v is None else (v.type.dtype, v.type.dims) for v in node.inputs[1:]]


def _is_constant(node: Node) -> bool:
    return all(v is None or v.data is not None for v in node.inputs[1:])


def pairs(some: Array, more: Array) -> Array:
    """Columns of two arrays in turn."""
    return np.stack([some, more], axis=-1).reshape(*some.shape[:-1], -1)


def paired_bias(some: Value | None, more: Value | None) -> Array | None:
    """Of both layers; they both have some, or none."""
    if some is None or more is None:
        return None
    return pairs(np.asarray(some.data).reshape(-1), np.asarray(more.data).reshape(-1))

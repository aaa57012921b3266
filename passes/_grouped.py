"""Grouped convolutions as ordinary ones, and rectifiers that go to the parts of a concatenation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler.graph import Value
from compiler.ops.conv import Conv
from compiler.ops.parts import Concat, Split
from compiler.pattern import Match
from compiler.rewrite import Builder
from compiler.tensor import Array
from passes._decompose import Layers

CHANNELS = 1  # the axis of them
Passes = Callable[[int, int], int]  # of an array of multipliers, for so many channels and filters


def ungrouped(add: Layers, op: Conv, operands: tuple[Value, Value, Value | None], passes: Passes) -> Value | None:
    """A convolution for each group, or one with zeros between the groups where that takes no more passes. None unless
    parameters are constant and groups have more than one channel."""
    x, w, b = operands
    each = w.type.dims[CHANNELS]
    if op.groups == 1 or each == 1 or w.data is None or (b is not None and b.data is None):
        return None
    one, kernels = op.with_(groups=1), np.split(np.asarray(w.data), op.groups)
    if passes(op.groups * each, w.type.dims[0]) <= op.groups * passes(each, len(kernels[0])):
        return add(one, x, add.const(_spread(kernels), w.type.dtype), b)
    shifts = [None] * op.groups if b is None else np.split(np.asarray(b.data), op.groups)
    parts = add.many(Split(axis=CHANNELS, sizes=(each,) * op.groups), x)
    results = []
    for part, kernel, shift in zip(parts, kernels, shifts, strict=True):
        own = None if shift is None else add.const(shift, x.type.dtype)
        results.append(add(one, part, add.const(kernel, x.type.dtype), own))
    return add(Concat(axis=CHANNELS), *results)


def _spread(kernels: list[Array]) -> Array:
    """The kernels [M,C,*K] of groups as one, with zeros where a filter does not read a channel."""
    filters, each = kernels[0].shape[:2]
    whole = np.zeros((len(kernels) * filters, len(kernels) * each, *kernels[0].shape[2:]), kernels[0].dtype)
    for g, kernel in enumerate(kernels):
        whole[g * filters : (g + 1) * filters, g * each : (g + 1) * each] = kernel
    return whole


def to_parts(m: Match, b: Builder) -> Value | None:
    """A rectifier or clip of joined convolutions, which each convolution can apply by itself."""
    joined = m.root.inputs[0]
    assert joined is not None and joined.node is not None
    parts = joined.node.inputs
    if not all(p is not None and _is_convolved(p) for p in parts):
        return None
    return b.add(joined.node.op, *(b.add(m.root.op, p) for p in parts))


def _is_convolved(v: Value) -> bool:
    """Whether a value is computed by a convolution for a single reader."""
    return v.node is not None and isinstance(v.node.op, Conv) and len(v.users) == 1 and not v.n_out

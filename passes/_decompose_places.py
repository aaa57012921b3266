"""The places of the largest elements of windows, by comparing what the windows see one element after another."""

from __future__ import annotations

from itertools import product
from math import inf, prod

import numpy as np

from compiler import ops
from compiler.ops.numeric import integer_range
from compiler.tensor import F32, I32, I64, Array
from passes._decompose import MADE, decomposes
from passes._terms import Term, formula

Ints = tuple[int, ...]
MOST_TAPS = 81  # elements of a window, each of which becomes layers of its own


@decomposes(ops.MaxPool)
@formula
def _max_pool_of_bytes(op: ops.MaxPool, x: Term) -> Term | None:
    """Numbers of 8 bits are exact as floats."""
    return None if op.indices or x.dtype.is_float else x.cast(F32).via(op).clip(*integer_range(x.dtype)).cast(x.dtype)


@decomposes(ops.MaxPool)
@formula
def _max_pool_with_places(op: ops.MaxPool, x: Term) -> tuple[Term, Term] | None:
    """Where windows see one element lies at a fixed distance from where they see the first one."""
    if not op.indices or prod(op.kernel) > MOST_TAPS or 8 * prod(x.dims[2:]) > MADE:
        return None
    spatial, out = x.dims[2:], x.add.node.outputs[0].type.dims[2:]
    padded, steps = _padded(op, x, out), _steps(op, spatial)
    largest: Term | None = None
    place = x.const(_first_inside(op, out, steps), I32)
    for tap in product(*map(range, op.kernel)):
        seen = padded
        for axis, (t, d, s, o) in enumerate(zip(tap, op.dilations, op.strides, out, strict=True), 2):
            seen = seen.part(axis, t * d, t * d + (o - 1) * s + 1, s)
        if largest is None:
            largest = seen
            continue
        distance = sum(t * d * step for t, d, step in zip(tap, op.dilations, steps, strict=True))
        place = seen.above(largest).choose(place.const(distance), place)
        largest = seen.via(ops.Max(), largest)
    assert largest is not None
    place = place + place.const(_starts(op, x.dims, out, steps))
    return largest, Term(x.add, x.add.expand(place.value, largest.dims)).cast(I64)


def _padded(op: ops.MaxPool, x: Term, out: Ints) -> Term:
    """x with less than everything around it, as far as the windows reach."""
    n = len(out)
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(out, op.strides, op.kernel, op.dilations, strict=True)]
    ends = [max(r - b - d, 0) for r, b, d in zip(reach, op.pads[:n], x.dims[2:], strict=True)]
    if not any(op.pads[:n]) and not any(ends):
        return x
    least = -inf if x.dtype.is_float else integer_range(x.dtype)[0]
    return x.via(ops.Pad(pads=(0, 0, *op.pads[:n], 0, 0, *ends), value=least))


def _steps(op: ops.MaxPool, spatial: Ints) -> list[int]:
    """How far apart the indices of neighbours along each axis are."""
    return [prod(spatial[:i] if op.storage_order else spatial[i + 1 :]) for i in range(len(spatial))]


def _along(values: Array, axis: int, axes: int) -> Array:
    return values.reshape([1, 1, *(-1 if i == axis else 1 for i in range(axes))])


def _starts(op: ops.MaxPool, dims: Ints, out: Ints, steps: list[int]) -> Array:
    """The index at which each window begins, perhaps before the image."""
    n = len(out)
    starts: Array = np.arange(prod(dims[:2])).reshape(*dims[:2], *[1] * n) * prod(dims[2:])
    for i in range(n):
        starts = starts + _along((np.arange(out[i]) * op.strides[i] - op.pads[i]) * steps[i], i, n)
    return starts


def _first_inside(op: ops.MaxPool, out: Ints, steps: list[int]) -> Array:
    """From where a window begins to its first element in the image, which it has if all are the least there is."""
    n = len(out)
    first: Array = np.zeros((1, 1, *out), np.int64)
    for i in range(n):
        before = np.maximum(op.pads[i] - np.arange(out[i]) * op.strides[i], 0)
        first = first + _along(-(-before // op.dilations[i]) * op.dilations[i] * steps[i], i, n)
    return first

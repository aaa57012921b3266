"""What the passes share that put other windows in the place of those of a convolution or a pool."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from compiler import ops
from compiler.graph import Value
from passes._decompose import Layers


def reached(add: Layers, x: Value, axis: int, begin: int, length: int) -> Value:
    """So many elements along an axis from `begin` on, which may be negative; zeros where x has none."""
    n = x.type.dims[axis]
    part = add.cut(x, axis, max(begin, 0), min(begin + length, n))
    before, after = max(-begin, 0), max(begin + length - n, 0)
    if not before and not after:
        return part
    pads = [0] * (2 * x.type.rank)
    pads[axis], pads[x.type.rank + axis] = before, after
    return add(ops.Pad(pads=tuple(pads)), part)


def interleaved(add: Layers, x: Value, axis: int, factor: int, into: int) -> Value:
    """Every factor-th element of a spatial axis is a slice of its own: behind each element of axis 1, or in front of
    all of axis 0 (`into`). The axis must be a multiple of the factor."""
    dims = x.type.dims
    if factor == 1:
        return x
    apart = add.reshape(x, (*dims[:axis], dims[axis] // factor, factor, *dims[axis + 1 :]))
    rest = [i for i in range(len(dims) + 1) if i != axis + 1]
    place = 2 if into == 1 else 0
    moved = add.transpose(apart, [*rest[:place], axis + 1, *rest[place:]])
    wide = [factor * d if i == into else d // factor if i == axis else d for i, d in enumerate(dims)]
    return add.reshape(moved, wide)


def deinterleaved(add: Layers, x: Value, axis: int, factor: int) -> Value:
    """The inverse of `interleaved` into axis 0."""
    dims = x.type.dims
    if factor == 1:
        return x
    apart = add.reshape(x, (factor, dims[0] // factor, *dims[1:]))
    moved = add.transpose(apart, [*range(1, axis + 2), 0, *range(axis + 2, len(dims) + 1)])
    return add.reshape(moved, [d // factor if i == 0 else d * factor if i == axis else d for i, d in enumerate(dims)])


def spread(add: Layers, x: Value, axis: int, factor: int) -> Value:
    """The inverse of `interleaved` into axis 1."""
    dims = x.type.dims
    if factor == 1:
        return x
    apart = add.reshape(x, (dims[0], dims[1] // factor, factor, *dims[2:]))
    moved = add.transpose(apart, [0, 1, *range(3, axis + 2), 2, *range(axis + 2, len(dims) + 1)])
    return add.reshape(moved, [d // factor if i == 1 else d * factor if i == axis else d for i, d in enumerate(dims)])


def strips(length: int, most: int) -> list[tuple[int, int]]:
    """The beginning and end of as few parts of a length as possible, none longer than `most`, about equally long."""
    count = -(-length // most)
    return [(length * i // count, length * (i + 1) // count) for i in range(count)]


def summed(add: Layers, parts: Sequence[Value]) -> Value:
    """Their sum, from the left."""
    total = parts[0]
    for part in parts[1:]:
        total = add(ops.Add(), total, part)
    return total


def merged(x: Value, first: int, last: int) -> tuple[int, ...]:
    """The shape of x with its axes from `first` to before `last` as one."""
    dims = x.type.dims
    return (*dims[:first], prod(dims[first:last]), *dims[last:])


def only_factors(n: int, factors: Sequence[int], most: int) -> int:
    """The largest divisor of n that is a product of some factors and at most `most`."""
    return max(d for d in range(1, min(n, most) + 1) if n % d == 0 and _is_product(d, factors))


def _is_product(n: int, factors: Sequence[int]) -> bool:
    for f in factors:
        while n % f == 0:
            n //= f
    return n == 1

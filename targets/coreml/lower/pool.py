"""Pooling: MIL's layers, and where they lack dilations or positions, the elements at each place of the window."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import inf, prod

import numpy as np

from compiler import ops
from compiler.graph import Node
from compiler.op import Op
from compiler.tensor import I8, I64, U8, Array
from targets.coreml.lower.lowering import Lowering, Operands
from targets.coreml.lower.movement import pairs
from targets.coreml.lower.table import FLOAT, FLOATS, lowers, makes, op_need, operand_types
from targets.coreml.mil import Operand, Var

MOST_TAPS = 64
FEW_TAPS = op_need(
    f"dilations of 1, or a window of at most {MOST_TAPS} elements, each of which becomes a layer of its own",
    lambda op: set(op.dilations) <= {1} or prod(op.kernel) <= MOST_TAPS,
)
FEW_PLACES = op_need(
    f"no indices, or a window of at most {MOST_TAPS} elements, each of which becomes layers of its own",
    lambda op: not op.indices or prod(op.kernel) <= MOST_TAPS,
)
PLANES = op_need("one to three spatial axes", lambda op: 1 <= len(op.kernel) <= 3)


def _place_bytes(node: Node) -> int:
    """Of the place of each element of the padded operand, and what of these each place in the window meets."""
    (x,), op = node.input_types, node.op
    assert x is not None and isinstance(op, ops.MaxPool)
    n = len(op.kernel)
    padded = prod(d + op.pads[i] + op.pads[n + i] for i, d in enumerate(x.dims[2:]))
    return 4 * (padded + prod(op.kernel) * prod(node.outputs[0].type.dims[2:])) if op.indices else 0


def _share_bytes(node: Node) -> int:
    """Of one over the number of elements in each window, where these are summed."""
    return 0 if set(getattr(node.op, "dilations", ())) <= {1} else 4 * prod(node.output.type.dims[2:])


def _window(op: ops.Pool, x: tuple[int, ...], y: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Begin and end pads of each spatial axis such that floor division gives the known output size; the last window
    of ceil mode may reach beyond what ONNX pads."""
    n = len(op.kernel)
    begins, ends = list(op.pads[:n]), list(op.pads[n:])
    for i in range(n):
        needed = (y[i + 2] - 1) * op.strides[i] + (op.kernel[i] - 1) * op.dilations[i] + 1
        ends[i] = needed - x[i + 2] - begins[i]
    return begins, ends


def _crop(p: Lowering, x: Var, ends: list[int]) -> Var:
    """Drop what no window reaches, where the needed end pad is negative."""
    stops = [*x.shape[:2], *(d + min(e, 0) for d, e in zip(x.shape[2:], ends, strict=True))]
    return p.slice(x, [0] * len(stops), stops, [1] * len(stops))


def _padded(p: Lowering, x: Var, pads: tuple[int, ...], value: float) -> Var:
    """`x` with its spatial axes padded."""
    if not any(pads):
        return x
    n = len(pads) // 2
    grown = (*x.shape[:2], *(d + pads[i] + pads[n + i] for i, d in enumerate(x.shape[2:])))
    operands: Operands = {"x": x, "pad": [0, 0, 0, 0, *pairs(pads)], "mode": "constant"}
    return p.add("pad", {**operands, "constant_val": value}, x.dtype, grown)


def _taps(p: Lowering, x: Var, op: ops.Pool, out: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Var]]:
    """For each place in the window, the elements of the padded `x` that it meets."""
    for place in product(*map(range, op.kernel)):
        begins = [0, 0, *(i * d for i, d in zip(place, op.dilations, strict=True))]
        steps = [1, 1, *op.strides]
        ends = [*x.shape[:2], *(b + (n - 1) * s + 1 for b, n, s in zip(begins[2:], out, op.strides, strict=True))]
        yield place, p.slice(x, begins, ends, steps)


def _layer(p: Lowering, kind: str, x: Var, op: ops.Pool, dims: tuple[int, ...], name: str, **more: Operand) -> Var:
    """MIL's layer; pads that it does not have are cut off x, those that are beyond it are its own."""
    begins, ends = _window(op, x.shape, dims)
    x = _crop(p, x, ends)
    operands: Operands = {
        "x": x,
        "kernel_sizes": list(op.kernel),
        "strides": list(op.strides),
        "pad_type": "custom",
        "pad": pairs((*begins, *(max(0, e) for e in ends))),
        "ceil_mode": False,
        **more,
    }
    return p.add(kind, operands, x.dtype, dims, name)


@lowers(ops.MaxPool, needs=[operand_types(*FLOATS, I8, U8, I64), PLANES, FEW_TAPS, FEW_PLACES, makes(_place_bytes)])
def _max_pool(p: Lowering, node: Node, op: ops.MaxPool) -> None:
    """Bytes are exact in every float type."""
    (given,) = p.operands(node)
    x = p.cast(given, p.precision)
    dims = node.outputs[0].type.dims
    if op.indices:
        y, places = _with_places(p, x, op, dims)
        p.bind(node.outputs[1], places)
    elif set(op.dilations) <= {1}:
        y = _layer(p, "max_pool", x, op, dims, node.outputs[0].name)
    else:
        begins, ends = _window(op, x.shape, dims)
        grown = _padded(p, _crop(p, x, ends), (*begins, *(max(0, e) for e in ends)), -inf)
        taps = _taps(p, grown, op, dims[2:])
        _, y = next(taps)
        for _, seen in taps:
            y = p.binary("maximum", y, seen)
    p.bind(node.outputs[0], p.cast(y, given.dtype))


def _with_places(p: Lowering, x: Var, op: ops.MaxPool, dims: tuple[int, ...]) -> tuple[Var, Var]:
    """The largest elements and the first place of each: place by place, whoever is larger than all before."""
    begins, ends = _window(op, x.shape, dims)
    pads = (*begins, *(max(0, e) for e in ends))
    grown = _padded(p, _crop(p, x, ends), pads, -inf)
    n, order = len(begins), "F" if op.storage_order else "C"
    inside: Array = np.arange(prod(x.shape[2:])).reshape(x.shape[2:], order=order)  # type: ignore[call-overload]  # order is C or F
    widths = [(begins[i], max(0, ends[i])) for i in range(n)]
    numbers = np.pad(inside, widths, constant_values=0)[None, None]
    best: Var | None = None
    place: Var | None = None
    places = _taps(p, p.ints(numbers, "places"), op, dims[2:])
    for (_, seen), (_, at) in zip(_taps(p, grown, op, dims[2:]), places, strict=True):
        if best is None or place is None:
            best, place = seen, p.spread(at, dims)
            continue
        better = p.test("greater", seen, best)
        best, place = p.select(better, seen, best), p.select(better, at, place)
    assert best is not None and place is not None
    planes = np.arange(prod(dims[:2])).reshape(*dims[:2], *[1] * n) * prod(x.shape[2:])
    return best, p.binary("add", place, p.ints(planes, "planes"))


@lowers(ops.AveragePool, needs=[FLOAT, PLANES, FEW_TAPS, makes(_share_bytes)])
def _average_pool(p: Lowering, node: Node, op: ops.AveragePool) -> None:
    """Pads that count are made explicit; those beyond (ceil mode) never count."""
    (x,) = p.operands(node)
    dims, n = node.output.type.dims, len(op.kernel)
    if not set(op.dilations) <= {1}:
        total = _tap_sum(p, x, op, dims)
        p.bind(node.output, p.like(total, "mul", y=_shares(p, op, x.shape, dims)))
        return
    if op.count_include_pad and any(op.pads):
        x, op = _padded(p, x, op.pads, 0.0), op.with_(pads=(0,) * (2 * n))
    p.bind(node.output, _layer(p, "avg_pool", x, op, dims, node.output.name, exclude_padding_from_average=True))


def _tap_sum(p: Lowering, x: Var, op: ops.Pool, dims: tuple[int, ...]) -> Var:
    begins, ends = _window(op, x.shape, dims)
    grown = _padded(p, _crop(p, x, ends), (*begins, *(max(0, e) for e in ends)), 0.0)
    taps = _taps(p, grown, op, dims[2:])
    _, total = next(taps)
    for _, seen in taps:
        total = p.binary("add", total, seen)
    return total


def _shares(p: Lowering, op: ops.AveragePool, x: tuple[int, ...], dims: tuple[int, ...]) -> Var:
    """One over the number of elements that count in each window."""
    counts: Array = np.ones((1, 1, *[1] * len(op.kernel)))
    for i, along in enumerate(op._counts(x[2:], dims[2:])):
        counts = counts * along.reshape([-1 if k == i + 2 else 1 for k in range(len(dims))])
    return p.floats(1 / counts, "shares")


@lowers(ops.LpPool, needs=[FLOAT, PLANES, FEW_TAPS])
def _lp_pool(p: Lowering, node: Node, op: ops.LpPool) -> None:
    """The root of the sum of powers; the sum is a mean of all places times their number."""
    (x,) = p.operands(node)
    dims = node.output.type.dims
    size = p.like(x, "abs")
    powers = size if op.p == 1 else p.like(size, "square") if op.p == 2 else p.like(size, "pow", y=float(op.p))
    if set(op.dilations) <= {1}:
        mean = _layer(p, "avg_pool", powers, op, dims, "mean", exclude_padding_from_average=False)
        total = p.like(mean, "mul", y=float(prod(op.kernel)))
    else:
        total = _tap_sum(p, powers, op, dims)
    p.bind(node.output, _root(p, total, op.p))


def _root(p: Lowering, x: Var, degree: int) -> Var:
    return x if degree == 1 else p.like(x, "sqrt") if degree == 2 else p.like(x, "pow", y=1 / degree)


@lowers(ops.GlobalAveragePool, ops.GlobalMaxPool, needs=[FLOAT])
def _global_pool(p: Lowering, node: Node, op: Op) -> None:
    (x,) = p.operands(node)
    kind = "reduce_max" if isinstance(op, ops.GlobalMaxPool) else "reduce_mean"
    if len(x.shape) == 2:
        p.bind(node.output, x)
    else:
        p.emit(node, kind, x=x, axes=list(range(2, len(x.shape))), keep_dims=True)


@lowers(ops.GlobalLpPool, needs=[FLOAT])
def _global_lp_pool(p: Lowering, node: Node, op: ops.GlobalLpPool) -> None:
    (x,) = p.operands(node)
    axes = range(2, len(x.shape))
    if not axes:
        p.emit(node, "abs", x=x)
    elif op.p in (1, 2):
        p.bind(node.output, p.reduce(x, f"reduce_l{op.p}_norm", axes))
    else:
        total = p.reduce(p.like(p.like(x, "abs"), "pow", y=float(op.p)), "reduce_sum", axes)
        p.bind(node.output, _root(p, total, op.p))

"""Layers under frames: what computes the same on (B, C, H, W) tensors, or on a list of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from compiler.graph import Node, Value
from compiler.op import Op
from compiler.ops.conv import Conv
from compiler.ops.index import Gather
from compiler.ops.matmul import Dense
from compiler.ops.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm, TrailingNorm
from compiler.ops.parts import Concat, Pad, Slice, Split
from compiler.ops.reduce import Reduce
from compiler.ops.softmax import AxisWise
from compiler.tensor import Array
from passes._bc1s_form import MAX_HEADS, Form
from passes._bc1s_frame import CHANNELS, HEADS, Frame, placed
from passes._bc1s_known import Known, Site, site_of, stacked, with_channels

Written = Sequence[Form] | None
Writer = Callable[[Known, Node], Written]


def dense(k: Known, node: Node, rows: Array | None = None) -> Written:
    """A dense layer is a 1x1 convolution, whose weight is a view of the layer's. `rows`: a factor for each of its
    results."""
    x, w, *more = node.inputs
    bias = more[0] if more else None
    assert x is not None and w is not None and isinstance(node.op, Dense)
    if w.data is None or (bias is not None and bias.data is None) or x.type.rank < 2:
        return None
    form = k.by_channels(x)
    if form is None:
        return None
    weight = w.data if node.op.transposed else w.data.T
    if rows is not None:
        weight = weight * rows[:, None].astype(weight.dtype)
    kernel = k.author.const(weight[:, :, None, None], w.type.dtype, w)
    if rows is not None and bias is not None and bias.data is not None:
        bias = k.author.const(bias.data * rows.astype(bias.data.dtype), bias.type.dtype, bias)
    op = Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
    y = k.author.add(op, form.tensors[0], kernel, *(() if bias is None else (bias,)))
    return [Form(with_channels(form.frame, len(weight)), (y,))]


def norm(k: Known, node: Node) -> Written:
    """A normalisation of the last axis is one over the channels, of each tensor of a list."""
    x, *parameters = node.inputs
    op = node.op
    assert x is not None and isinstance(op, TrailingNorm)
    known = all(v is not None and v.data is not None for v in parameters)
    if not known or op.axis != x.type.rank - 1 or op.count or x.type.rank < 2:
        return None
    frame = k.leader((x,), x.type.dims)
    frame = None if frame is None else frame.working()
    listed = frame is not None and frame.places[CHANNELS] and frame.holds(CHANNELS, [op.axis])
    form = (k.exactly(x, frame) if frame is not None and listed else None) or k.by_channels(x)
    if form is None:
        return None
    width = x.type.dims[-1]
    vectors = [
        k.author.const(np.broadcast_to(v.data, (width,)), v.type.dtype, v)
        for v in parameters
        if v is not None and v.data is not None
    ]
    over = type(op)(axis=1, count=1, eps=op.eps)
    return [Form(form.frame, tuple(k.author.add(over, t, *vectors) for t in form.tensors))]


def elementwise(k: Known, node: Node) -> Written:
    """A function of single elements: all operands in the frame of one that has all elements of the result."""
    frame = k.leader(node.inputs, node.output.type.dims)
    found = None if frame is None else _applied(k, node, frame)
    if found is None and frame is not None and (working := frame.working()) != frame:
        found = _applied(k, node, working)
    return found


def _applied(k: Known, node: Node, frame: Frame) -> Written:
    operands = [(None,) * frame.pieces if v is None else k.at(v, frame) for v in node.inputs]
    known = [vs for vs in operands if vs is not None]
    if len(known) < len(operands):
        return None
    return [Form(frame, tuple(k.author.add(node.op, *vs) for vs in zip(*known, strict=True)))]


def axis_wise(k: Known, node: Node) -> Written:
    """A softmax and the like, along all of a place."""
    (x,) = node.inputs
    op = node.op
    assert x is not None and isinstance(op, AxisWise)
    frame = k.leader((x,), x.type.dims)
    frame = None if frame is None else frame.working()
    at = (
        None if frame is None else next((p for p in range(1, 5) if frame.holds(p, [op.axis]) and frame.places[p]), None)
    )
    form = None if frame is None or at is None else k.exactly(x, frame)
    if form is None or at is None:
        return None
    return [Form(form.frame, tuple(k.author.add(op.with_(axis=at - 1), t) for t in form.tensors))]


def reduction(k: Known, node: Node) -> Written:
    """A reduction over all of some places."""
    (x,) = node.inputs
    op = node.op
    assert x is not None and isinstance(op, Reduce)
    frame = k.leader((x,), x.type.dims)
    if frame is None:
        return None
    frame = frame.working()
    hit = {p for p, place in enumerate(frame.places) for r in place if r[0] in op.axes}
    if not hit or any(r[0] not in op.axes for p in hit for r in frame.places[p]) or HEADS in hit:
        return None
    form = k.exactly(x, frame)
    if form is None:
        return None
    axes = tuple(sorted(p - 1 for p in hit))
    rest = frame.without(op.axes)
    if not op.keepdims:
        for axis in reversed(op.axes):
            rest = rest.dropped(axis)
    tensors = tuple(k.author.add(type(op)(**{**op.values(), "axes": axes, "keepdims": True}), t) for t in form.tensors)
    return [Form(rest.canonical(), tensors)]


def cut(k: Known, form: Form, site: Site, axis: int, ranges: Sequence[range]) -> Written:
    """Ranges along an exposed axis, in their order; only a single one may have a step."""
    frames = [form.frame.resized(axis, len(r)).canonical() for r in ranges]
    if site.place == HEADS:
        picked = [tuple(form.tensors[i] for i in r) for r in ranges]
        return [Form(frame, tensors) for frame, tensors in zip(frames, picked, strict=True)]
    (x,) = form.tensors
    at = site.place - 1
    first, length = ranges[0], form.frame.shape[axis]
    if len(ranges) == 1 and first.step < 0:
        turned = [at], [first.start], [first[-1] - 1 if first[-1] else -length - 1], [first.step]
        alone = site.inner * site.outer == 1
        return [Form(frames[0], (k.author.add(Slice.of(x.type, *turned), x),))] if alone else None
    if len(ranges) == 1 and first.step > 1:  # every n-th of a row is every n-th of all rows, if it divides them
        every = length % first.step == 0 and len(first) == length // first.step
        if site.inner > 1 or (site.outer > 1 and not every):
            return None
        last = first[-1] + (site.outer - 1) * length
        return [Form(frames[0], (k.author.add(Slice.of(x.type, [at], [first.start], [last + 1], [first.step]), x),))]
    if site.outer == 1 and len(ranges) == 1:
        bounds = [at], [first.start * site.inner], [first.stop * site.inner]
        return [Form(frames[0], (k.author.add(Slice.of(x.type, *bounds), x),))]
    ends = sorted({0, length, *(e for r in ranges for e in (r.start, r.stop))})
    if any(r.step > 1 for r in ranges) or (site.outer > 1 and (site.place != CHANNELS or site.outer > MAX_HEADS)):
        return None
    sizes = [(b - a) * site.inner for a, b in pairwise(ends)]
    pieces = k.author.many(Split(axis=at, sizes=tuple(sizes * site.outer)), x)
    frames = [form.frame.unpacked(site.position).resized(axis, len(r)).canonical() for r in ranges]
    picked = [pieces[ends.index(r.start) :: len(sizes)] for r in ranges]
    return [Form(frame, tensors) for frame, tensors in zip(frames, picked, strict=True)]


def slices(k: Known, node: Node) -> Written:
    """A slice along one axis."""
    (x,) = node.inputs
    op = node.op
    assert x is not None and isinstance(op, Slice)
    bounds = zip(x.type.dims, op.starts, op.ends, op.steps, strict=True)
    taken = [range(d)[start : None if end < 0 else end : step] for d, start, end, step in bounds]
    axes = [a for a, (d, r) in enumerate(zip(x.type.dims, taken, strict=True)) if r != range(d)]
    found = k.exposed(x, axes[0]) if len(axes) == 1 else None
    return None if found is None else cut(k, *found, axes[0], [_tight(taken[axes[0]])])


def _tight(taken: range) -> range:
    """The same numbers, up to just behind the last."""
    return range(taken.start, taken[-1] + (1 if taken.step > 0 else -1), taken.step)


def split(k: Known, node: Node) -> Written:
    """A split along one axis."""
    (x,) = node.inputs
    op = node.op
    assert x is not None and isinstance(op, Split)
    found = k.exposed(x, op.axis) if all(op.sizes) and len(op.sizes) > 1 else None
    ends = np.cumsum(op.sizes).tolist()
    return (
        None
        if found is None
        else cut(k, *found, op.axis, [range(e - n, e) for e, n in zip(ends, op.sizes, strict=True)])
    )


def gather(k: Known, node: Node) -> Written:
    """One place along an axis, or some at constant positions."""
    x, index = node.inputs
    op = node.op
    assert x is not None and index is not None and isinstance(op, Gather)
    if index.data is None or index.type.rank > 1 or not index.data.size:
        return None
    found = k.exposed(x, op.axis) if x.type.dims[op.axis] > 1 else None
    if found is None:
        return None
    form, site = found
    length = x.type.dims[op.axis]
    positions = [int(i) + length * (int(i) < 0) for i in index.data.reshape(-1)]
    taken = range(positions[0], positions[-1] + 1)
    if list(taken) == positions:
        parts = cut(k, form, site, op.axis, [taken])
        if parts is None or index.type.rank:
            return parts
        return [Form(parts[0].frame.dropped(op.axis).canonical(), parts[0].tensors)]
    if site.place == HEADS or site.inner * site.outer > 1:
        return None
    at = k.author.const(np.array(positions), index.type.dtype, index)
    frame = form.frame.resized(op.axis, len(positions)).canonical()
    return [Form(frame, (k.author.add(Gather(axis=site.place - 1), form.tensors[0], at),))]


def concat(k: Known, node: Node) -> Written:
    """Values side by side along an axis."""
    op = node.op
    assert isinstance(op, Concat)
    frame = _joined_frame(k, node, op.axis)
    site = None if frame is None else site_of(frame, op.axis)
    if frame is None or site is None:
        return None
    alone = site.outer == 1 or (site.place == CHANNELS and site.outer <= MAX_HEADS)
    listed = frame.unpacked(site.position) if site.outer > 1 and site.place == CHANNELS else frame
    parts = [
        k.exactly(v, listed.resized(op.axis, v.type.dims[op.axis]).canonical()) for v in node.inputs if v is not None
    ]
    known = [part.tensors for part in parts if part is not None]
    if not alone or len(known) < len(parts):
        return None
    if site.place == HEADS:
        return [Form(frame, tuple(t for tensors in known for t in tensors))]
    pieces = [t for column in zip(*known, strict=True) for t in column]
    return [Form(frame.canonical(), (k.author.add(Concat(axis=site.place - 1), *pieces),))]


def _joined_frame(k: Known, node: Node, axis: int) -> Frame | None:
    """The frame of a concatenation, from that of an operand which has one."""
    total, frames = node.output.type.dims[axis], []
    for v in node.inputs:
        near = k.near(v) if v is not None and v.data is None else None
        if near is None:
            continue
        if near.sizes[axis]:
            whole = near if near.places[HEADS] == near.refs(axis) else near.packed()
            return whole.resized(axis, total) if len(whole.sizes[axis]) == 1 else None
        frames.append(near)
    return stacked(frames[0].packed(), axis, total) if frames and total > 1 else None


def conv(k: Known, node: Node) -> Written:
    """A convolution along one axis is one along the width; one of an image stays."""
    x, w, *bias = node.inputs
    op = node.op
    assert x is not None and w is not None and isinstance(op, Conv)
    form = _image(k, x) if all(v is None or v.data is not None for v in bias) else None
    if form is None or w.data is None:
        return None
    if x.type.rank == 4:
        return [Form(_images(node.output.type.dims), (k.author.add(op, form.tensors[0], w, *bias),))]
    (stride,), (begin, end), (dilation,) = op.strides, op.pads, op.dilations
    kernel = k.author.const(w.data[:, :, None], w.type.dtype, w)
    wide = op.with_(strides=(1, stride), pads=(0, begin, 0, end), dilations=(1, dilation))
    y = k.author.add(wide, form.tensors[0], kernel, *bias)
    return [Form(_images(node.output.type.dims), (y,))]


def _images(dims: Sequence[int]) -> Frame:
    """Batch, channels and width of three axes; batch, channels, height and width of four."""
    return placed([(d,) if d > 1 else () for d in dims], ((0,), (1,), (2,) if len(dims) == 4 else (), (len(dims) - 1,)))


def _image(k: Known, x: Value) -> Form | None:
    """A value that has a frame as an image; one of four axes must be one already."""
    near = k.near(x)
    frame = _images(x.type.dims) if x.type.rank in (3, 4) else None
    if near is None or frame is None or (x.type.rank == 4 and near.packed() != frame):
        return None
    return k.exactly(x, frame)


def channel_norm(k: Known, node: Node) -> Written:
    """Statistics of channels: of each, of groups of them, or given."""
    x, *parameters = node.inputs
    assert x is not None
    form = _image(k, x) if all(v is not None and v.data is not None for v in parameters) else None
    return None if form is None else [Form(form.frame, (k.author.add(node.op, form.tensors[0], *parameters),))]


def pad(k: Known, node: Node) -> Written:
    """Elements around axes that have their places for themselves."""
    x, *fill = node.inputs
    op = node.op
    assert x is not None and isinstance(op, Pad)
    rank = x.type.rank
    widths = {a: (b, e) for a, (b, e) in enumerate(zip(op.pads[:rank], op.pads[rank:], strict=True)) if b or e}
    near = frame = k.leader((x,), x.type.dims)
    sites = {} if frame is None else {a: site_of(frame, a) for a in widths if frame.sizes[a]}
    if near is None or frame is None or fill or len(sites) < len(widths) or not widths:
        return None
    pads = [0] * 8
    for axis, site in sites.items():
        if site is None or site.inner * site.outer > 1:
            return None
        pads[site.place - 1], pads[site.place + 3] = widths[axis]
        frame = frame.resized(axis, node.output.type.dims[axis])
    form = k.exactly(x, near)
    return None if form is None else [Form(frame, (k.author.add(op.with_(pads=tuple(pads)), form.tensors[0]),))]


WRITERS: dict[type[Op], Writer] = {
    BatchNorm: channel_norm,
    Concat: concat,
    Conv: conv,
    Gather: gather,
    GroupNorm: channel_norm,
    InstanceNorm: channel_norm,
    LayerNorm: norm,
    Pad: pad,
    RmsNorm: norm,
    Slice: slices,
    Split: split,
}


def writer(op: Op) -> Writer | None:
    """What writes an operation under frames, attention and dense layers apart."""
    if op.elementwise:
        return elementwise
    if isinstance(op, AxisWise):
        return axis_wise
    return reduction if isinstance(op, Reduce) else WRITERS.get(type(op))

"""What is known of each value while a graph is rewritten: its form, where it has one."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from compiler.graph import Value
from passes._bc1s_form import MAX_HEADS, Author, Form
from passes._bc1s_frame import CHANNELS, HEADS, WIDTH, Frame, default, loose


class Site(NamedTuple):
    """A place, how many factors are there before that of an axis, and how many elements these and those after it
    have."""

    place: int
    position: int
    outer: int
    inner: int


class Known:
    """Forms by value, and the author of the layers that they need."""

    def __init__(self, author: Author) -> None:
        self.author = author
        self.forms: dict[Value, Form] = {}

    def of(self, v: Value) -> Form:
        """The form of a value; of one that has none, as it lies."""
        return self.forms.get(v) or Form(loose(v.type.dims), (v,))

    def is_placed(self, v: Value) -> bool:
        """Whether a value has been computed in a frame."""
        return v in self.forms and not self.forms[v].frame.is_loose

    def near(self, v: Value) -> Frame | None:
        """The frame of a value that has one, or gets it by reshapes alone although it is seen through a transpose."""
        form = self.forms.get(v)
        if form is None or not form.frame.is_loose:
            return None if form is None else form.frame
        frame = default(form.frame.sizes)
        in_order = tuple(r for axis in range(len(form.frame.sizes)) for r in form.frame.refs(axis))
        lies_so = form.frame.order == frame.order and form.frame.order != in_order
        return frame if lies_so else None

    def leader(self, operands: Sequence[Value | None], shape: tuple[int, ...]) -> Frame | None:
        """The frame, as one tensor, of an operand that has a frame and all of a shape; None if there is none."""
        for v in operands:
            frame = self.near(v) if v is not None and v.data is None else None
            lifted = None if frame is None else frame.lifted(len(shape))
            if lifted is not None and lifted.shape == shape:
                return lifted.packed()
        return None

    def at(self, v: Value, frame: Frame) -> tuple[Value, ...] | None:
        """The tensors of a value that broadcasts to a frame's shape, one for each tensor of the frame."""
        if v.data is not None:
            return (v,) * frame.pieces if v.type.rank == 0 else self.author.constant(v, frame)
        form = self.of(v)
        if form.frame == frame:
            return form.tensors
        own = Form(form.frame.lifted(len(frame.sizes)), form.tensors)
        missing = [a for a, d in enumerate(own.frame.shape) if d == 1 and frame.sizes[a]]
        kept = frame.without(missing)
        if any(0 < len(k) < len(p) for k, p in zip(kept.places[1:], frame.places[1:], strict=True)):
            return None
        found = self.author.converted(own, kept.canonical())
        if found is None:
            return None
        sizes = [(frame.size(r), r[0] not in missing) for r in frame.places[HEADS]]
        index = np.arange(kept.pieces).reshape([n if there else 1 for n, there in sizes])
        return tuple(found.tensors[i] for i in np.broadcast_to(index, [n for n, _ in sizes]).reshape(-1))

    def exactly(self, v: Value, frame: Frame) -> Form | None:
        """The value in a frame of its own shape."""
        found = self.at(v, frame)
        return None if found is None else Form(frame, found)

    def by_channels(self, v: Value) -> Form | None:
        """The value as one list-free form whose last axis is all of the channels."""
        frame = self.of(v).frame if self.is_placed(v) else self.near(v)
        if frame is None or not frame.packed().holds(CHANNELS, [len(frame.sizes) - 1]):
            frame = default(self.of(v).frame.sizes)
        return self.exactly(v, frame.packed())

    def exposed(self, v: Value, axis: int) -> tuple[Form, Site] | None:
        """The value in a form in which an axis longer than 1 is one factor, and where that lies."""
        frame = self.near(v)
        if frame is None:
            return None
        if frame.places[HEADS] != frame.refs(axis):
            frame = frame.packed()
        if len(frame.sizes[axis]) > 1:
            frame = frame.straightened()
        site = site_of(frame, axis)
        form = None if site is None else self.exactly(v, frame)
        return None if form is None or site is None else (form, site)


def site_of(frame: Frame, axis: int) -> Site | None:
    """Where an axis lies; None if it is not one factor."""
    if len(frame.sizes[axis]) != 1:
        return None
    place = next(i for i, refs in enumerate(frame.places) if (axis, 0) in refs)
    refs = frame.places[place]
    position = refs.index((axis, 0))
    return Site(place, position, prod(map(frame.size, refs[:position])), prod(map(frame.size, refs[position + 1 :])))


def with_channels(frame: Frame, n: int) -> Frame:
    """The frame with another extent of its last axis, which is all of the channels."""
    last = len(frame.sizes) - 1
    bare = frame.without([last])
    if n == 1:
        return bare
    places = (*bare.places[:CHANNELS], ((last, 0),), *bare.places[CHANNELS + 1 :])
    return Frame((*bare.sizes[:-1], (n,)), places)


def stacked(frame: Frame, axis: int, n: int) -> Frame | None:
    """The frame with an axis of 1 grown to n, on the width if that is free, else as a list; None if both are taken."""
    place = WIDTH if not frame.places[WIDTH] else HEADS
    if frame.places[place] or n > MAX_HEADS:
        return None
    places = tuple(((axis, 0),) if i == place else p for i, p in enumerate(frame.places))
    return Frame((*frame.sizes[:axis], (n,), *frame.sizes[axis + 1 :]), places)

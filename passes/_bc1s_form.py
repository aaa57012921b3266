"""Values under their frames: what holds them, and the layers that bring them from one frame to another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.ops.parts import Concat, Split
from compiler.ops.shape import Reshape, Transpose
from compiler.tensor import Array, DType
from passes._bc1s_frame import CHANNELS, Frame, Ref, refined

MAX_HEADS = 64  # tensors of a list


class Form(NamedTuple):
    """A value: its tensors, and how it lies in them."""

    frame: Frame
    tensors: tuple[Value, ...]


class Author:
    """Adds layers before the layer that is being rewritten, and none again that is there already."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.added: list[Node] = []
        self._places = {node: i for i, node in enumerate(graph.nodes)}
        self._before: Node | None = None
        self._made: dict[tuple[object, ...], tuple[int, tuple[Value, ...]]] = {}
        self._constants: dict[tuple[object, ...], tuple[Value, ...]] = {}

    def at(self, node: Node) -> None:
        """What follows is for this layer."""
        self._before = node

    def add(self, op: Op, *inputs: Value | None) -> Value:
        """A layer with one result."""
        return self.many(op, *inputs)[0]

    def many(self, op: Op, *inputs: Value | None) -> tuple[Value, ...]:
        """A layer and its results."""
        assert self._before is not None
        key, place = (op, *inputs), self._places[self._before]
        made = self._made.get(key)
        if made is None or made[0] > place:
            values = self.graph.add(op, *inputs, before=self._before, origin=self._before.origin)
            assert values[0].node is not None
            self.added.append(values[0].node)
            made = self._made[key] = place, values
        return made[1]

    def const(self, data: Array, dtype: DType, like: Value | None = None) -> Value:
        """A constant of an element type; a view of the data if it is of that type, as weights are large."""
        array = np.asarray(data, dtype.numpy)
        return self.graph.const(array, *(() if like is None else (like.name, like.origin)))

    def number(self, value: float, dtype: DType) -> Value:
        """A constant of no axes, once for each number."""
        return self.kept(("number", value, dtype.name), lambda: [self.const(np.array(value), dtype)])[0]

    def kept(self, key: tuple[object, ...], make: Callable[[], Sequence[Value]]) -> tuple[Value, ...]:
        """Constants that are made once for each key."""
        if key not in self._constants:
            self._constants[key] = tuple(make())
        return self._constants[key]

    def constant(self, v: Value, frame: Frame) -> tuple[Value, ...]:
        """A constant that broadcasts to the shape of a frame, in that frame, with axes of 1 where all of a place is."""

        def parts() -> list[Value]:
            assert v.data is not None
            made = [self.const(a, v.type.dtype, v) for a in arranged(v.data, frame)]
            return made * (frame.pieces // len(made))

        return self.kept((v, frame), parts)

    def converted(self, form: Form, frame: Frame) -> Form | None:
        """The value in another frame of the same shape; None if no reshapes and transposes lead there."""
        if form.frame == frame:
            return form
        if max(frame.pieces, form.frame.pieces) > MAX_HEADS:
            return None
        whole = form.tensors[0]
        if form.frame.pieces > 1:
            whole = self.add(Concat(axis=CHANNELS - 1), *form.tensors)
        source, target = form.frame.packed(), frame.packed()
        both = refined(source, target)
        if both is None:
            return None
        if source != target:
            shuffled = self.shuffled(whole, *both)
            whole = shuffled or self.laid(whole, both[0], both[1].order, target.tensor)
        return Form(frame, self.parted(whole, frame))

    def shuffled(self, whole: Value, source: Frame, target: Frame) -> Value | None:
        """Blocks of channels in another order, where nothing else moves: cut and joined, which no row takes part in."""
        if source.is_loose or any(
            a != b for i, (a, b) in enumerate(zip(source.places, target.places, strict=True)) if i != CHANNELS
        ):
            return None
        old, new = source.places[CHANNELS], target.places[CHANNELS]
        if sorted(old) != sorted(new):
            return None
        kept = next(n for n in range(len(old) + 1) if n == len(old) or old[-1 - n] != new[-1 - n])
        moving = [source.size(r) for r in old[: len(old) - kept]]
        if prod(moving) > MAX_HEADS:
            return None
        width = source.dims[CHANNELS] // prod(moving)
        blocks = self.many(Split(axis=CHANNELS - 1, sizes=(width,) * prod(moving)), whole)
        order = np.arange(len(blocks)).reshape(moving).transpose([old.index(r) for r in new[: len(moving)]]).reshape(-1)
        return self.add(Concat(axis=CHANNELS - 1), *(blocks[i] for i in order))

    def parted(self, whole: Value, frame: Frame) -> tuple[Value, ...]:
        """The tensors of a list that lies outermost on the channels of one."""
        if frame.pieces == 1:
            return (whole,)
        return self.many(Split(axis=CHANNELS - 1, sizes=(frame.dims[CHANNELS],) * frame.pieces), whole)

    def logical(self, form: Form) -> Value:
        """The value in its logical order and shape."""
        source = form.frame.packed()
        whole = form.tensors[0] if form.frame.pieces == 1 else self.add(Concat(axis=CHANNELS - 1), *form.tensors)
        order = tuple(r for axis in range(len(source.sizes)) for r in source.refs(axis))
        return self.laid(whole, source, order, source.shape)

    def laid(self, x: Value, frame: Frame, order: Sequence[Ref], shape: tuple[int, ...]) -> Value:
        """`x`, whose factors lie as the frame says, with its factors in another order, under a shape."""
        source = list(frame.order)
        runs = _runs(source, order)
        sizes = [prod(frame.size(r) for r in run) for run in runs]
        at = {run[0]: i for i, run in enumerate(runs)}
        perm = [at[r] for r in order if r in at]
        if perm == sorted(perm):
            return self._reshaped(x, shape)
        after = _axes_of([sizes[i] for i in perm], shape)
        if after is not None:  # each axis of the result is one run: a transpose gives its shape
            direct = _swapped(_axes_of(sizes, x.type.dims), [None if i is None else perm[i] for i in after])
            if direct is not None:
                return self.add(Transpose(perm=direct), x)
            axes = _placed_by(after, perm)
            x = self._reshaped(x, tuple(shape[a] for a in axes))
            return self.add(Transpose(perm=tuple(axes.index(a) for a in range(len(shape)))), x)
        x = self._reshaped(x, tuple(sizes))
        return self._reshaped(self.add(Transpose(perm=tuple(perm)), x), shape)

    def _reshaped(self, x: Value, shape: tuple[int, ...]) -> Value:
        return x if x.type.shape == shape else self.add(Reshape(shape=shape), x)


def _runs(source: Sequence[Ref], order: Sequence[Ref]) -> list[list[Ref]]:
    """The factors of `source` in groups that stay together in another order."""
    following = dict(itertools.pairwise(order))
    runs: list[list[Ref]] = []
    for r in source:
        if runs and following.get(runs[-1][-1]) == r:
            runs[-1].append(r)
        else:
            runs.append([r])
    return runs


def _axes_of(sizes: Sequence[int], shape: Sequence[int]) -> list[int | None] | None:
    """Which of the runs each axis of the shape holds, None for axes of 1; None if an axis holds several or a part."""
    found: list[int | None] = []
    position = 0
    for d in shape:
        if d == 1:
            found.append(None)
        elif position < len(sizes) and sizes[position] == d:
            found.append(position)
            position += 1
        else:
            return None
    return found


def _swapped(before: Sequence[int | None] | None, after: Sequence[int | None]) -> tuple[int, ...] | None:
    """The permutation that moves runs from axis to axis, the axes of 1 among them in their order; None if there are
    more axes on one side."""
    if before is None or len(before) != len(after):
        return None
    ones = (i for i, run in enumerate(before) if run is None)
    return tuple(next(ones) if run is None else before.index(run) for run in after)


def _placed_by(after: Sequence[int | None], perm: Sequence[int]) -> list[int]:
    """The axes of the result in the order in which their runs lie before the transpose, axes of 1 before them: rows
    then stay rows."""
    keys = [-1 if run is None else perm[run] for run in after]
    return sorted(range(len(after)), key=keys.__getitem__)


def arranged(data: Array, frame: Frame) -> list[Array]:
    """The tensors of a constant that broadcasts to the frame's shape: one, or as many as the frame has."""
    rank = len(frame.sizes)
    data = data.reshape((1,) * (rank - data.ndim) + data.shape)
    atoms = [n if data.shape[axis] > 1 else 1 for axis, sizes in enumerate(frame.sizes) for n in sizes]
    refs = [r for axis in range(rank) for r in frame.refs(axis)]
    kept = dict(zip(refs, atoms, strict=True))
    for place in frame.places:
        if len({data.shape[r[0]] > 1 for r in place}) > 1:
            kept.update({r: frame.size(r) for r in place})
    array = np.broadcast_to(data.reshape(atoms), [kept[r] for r in refs])
    array = array.transpose([refs.index(r) for r in frame.order])
    dims = [prod(kept[r] for r in place) for place in frame.places]
    return list(array.reshape(dims))

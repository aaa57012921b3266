"""How a logical value lies on the axes of an accelerator: each logical axis is a product of factors, outermost first,
and each place (an axis of the tensor) holds some of them in order. Reshapes and transposes of the logical value then
regroup factors and move nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from math import prod
from operator import mul
from typing import NamedTuple

Ref = tuple[int, int]  # a logical axis, and the number of a factor in it
HEADS, BATCH, CHANNELS, HEIGHT, WIDTH = range(5)  # places; along HEADS a value is a list of tensors


class Frame(NamedTuple):
    """The sizes of the factors of each logical axis, all above 1, and the factors at each place."""

    sizes: tuple[tuple[int, ...], ...]
    places: tuple[tuple[Ref, ...], ...]

    @property
    def is_loose(self) -> bool:
        """Whether the value lies as the layers around the region have it, with all factors at one place."""
        return len(self.places) == 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical."""
        return tuple(prod(s) for s in self.sizes)

    @property
    def order(self) -> tuple[Ref, ...]:
        """Factors as they lie, from the outermost."""
        return tuple(r for place in self.places for r in place)

    @property
    def dims(self) -> tuple[int, ...]:
        """The extent of each place."""
        return tuple(prod(self.size(r) for r in place) for place in self.places)

    @property
    def tensor(self) -> tuple[int, ...]:
        """The shape of each tensor."""
        return self.dims[1:]

    @property
    def pieces(self) -> int:
        """How many tensors there are."""
        return self.dims[0]

    def size(self, ref: Ref) -> int:
        return self.sizes[ref[0]][ref[1]]

    def refs(self, axis: int) -> tuple[Ref, ...]:
        """The factors of an axis."""
        return tuple((axis, i) for i in range(len(self.sizes[axis])))

    def holds(self, place: int, axes: Iterable[int]) -> bool:
        """Whether a place holds exactly these axes, in order, and nothing else."""
        return self.places[place] == tuple(r for a in axes for r in self.refs(a))

    def canonical(self) -> Frame:
        """With factors joined that follow each other on their axis and at their place: equal frames are then equal."""
        follows = {(a, i + 1) for place in self.places for (a, i), r in pairwise(place) if r == (a, i + 1)}
        if not follows:
            return self
        renamed: dict[Ref, Ref] = {}
        sizes = []
        for axis, factors in enumerate(self.sizes):
            joined: list[int] = []
            for i, n in enumerate(factors):
                if (axis, i) in follows:
                    joined[-1] *= n
                else:
                    joined.append(n)
                    renamed[axis, i] = axis, len(joined) - 1
            sizes.append(tuple(joined))
        places = tuple(tuple(renamed[r] for r in place if r in renamed) for place in self.places)
        return Frame(tuple(sizes), places)

    def regrouped(self, cuts: Sequence[Sequence[int]], axes: Sequence[int]) -> Frame:
        """With the i-th factor in logical order cut into factors of sizes cuts[i], the j-th of which belongs to logical
        axis axes[j] of the result."""
        sizes: list[list[int]] = [[] for _ in range(max(axes, default=-1) + 1)]
        named: dict[Ref, list[Ref]] = {}
        position = 0
        for ref, parts in zip((r for a in range(len(self.sizes)) for r in self.refs(a)), cuts, strict=True):
            for n in parts:
                axis = axes[position]
                named.setdefault(ref, []).append((axis, len(sizes[axis])))
                sizes[axis].append(n)
                position += 1
        places = tuple(tuple(new for r in place for new in named[r]) for place in self.places)
        return Frame(tuple(map(tuple, sizes)), places)

    def reshaped(self, shape: Sequence[int]) -> Frame | None:
        """The frame of the value under another shape; None if a factor would have to be cut unevenly."""
        found = common([[n for s in self.sizes for n in s]], [shape])
        if found is None:
            return None
        cuts, axes = found
        new = self.regrouped(cuts, axes)
        return Frame((*new.sizes, *((),) * (len(shape) - len(new.sizes))), new.places).canonical()

    def transposed(self, perm: Sequence[int]) -> Frame:
        """The frame of the transpose: axis i of it is axis perm[i]."""
        at = {old: new for new, old in enumerate(perm)}
        return Frame(
            tuple(self.sizes[p] for p in perm), tuple(tuple((at[a], i) for a, i in place) for place in self.places)
        )

    def lifted(self, rank: int) -> Frame:
        """With leading axes of 1 up to a rank."""
        more = rank - len(self.sizes)
        if not more:
            return self
        return Frame(
            (*((),) * more, *self.sizes), tuple(tuple((a + more, i) for a, i in place) for place in self.places)
        )

    def without(self, axes: Iterable[int]) -> Frame:
        """With some axes reduced to 1."""
        gone = set(axes)
        sizes = tuple(() if a in gone else s for a, s in enumerate(self.sizes))
        return Frame(sizes, tuple(tuple(r for r in place if r[0] not in gone) for place in self.places))

    def dropped(self, axis: int) -> Frame:
        """Without a logical axis, which is 1."""
        sizes = (*self.sizes[:axis], *self.sizes[axis + 1 :])
        return Frame(sizes, tuple(tuple((a - (a > axis), i) for a, i in place) for place in self.places))

    def resized(self, axis: int, n: int) -> Frame:
        """With another extent of an axis of one factor."""
        if n == 1:
            return self.without([axis])
        return Frame((*self.sizes[:axis], (n,), *self.sizes[axis + 1 :]), self.places)

    def packed(self) -> Frame:
        """As one tensor: what was a list lies outermost on the channels."""
        if self.is_loose:
            return self
        heads, batch, channels, *rest = self.places
        if not heads:
            return self.canonical()
        return Frame(self.sizes, ((), batch, (*heads, *channels), *rest)).canonical()

    def straightened(self) -> Frame:
        """With the factors on the channels in their logical order."""
        places = [tuple(sorted(place)) if i == CHANNELS else place for i, place in enumerate(self.places)]
        return Frame(self.sizes, tuple(places)).canonical()

    def unpacked(self, count: int) -> Frame:
        """With the `count` outermost factors of the channels as a list."""
        heads, batch, channels, *rest = self.places
        return Frame(self.sizes, ((*heads, *channels[:count]), batch, channels[count:], *rest))

    def working(self) -> Frame:
        """The form for computing: what lies on the channels outside the axis of the innermost factor is a list."""
        whole = self.packed()
        channels = whole.places[CHANNELS]
        outside = [r for r in channels if r[0] != channels[-1][0]]
        return whole.unpacked(len(outside)) if outside == list(channels[: len(outside)]) else whole


def loose(shape: Sequence[int]) -> Frame:
    """A value that lies in its logical order."""
    sizes = tuple(() if d == 1 else (d,) for d in shape)
    return Frame(sizes, ((), tuple((a, 0) for a, s in enumerate(sizes) if s)))


def placed(sizes: Sequence[tuple[int, ...]], axes: Sequence[Sequence[int]]) -> Frame:
    """The frame with the given logical axes, in their order, on batch, channels, height and width."""
    refs = [[(a, i) for a in group for i in range(len(sizes[a]))] for group in axes]
    return Frame(tuple(sizes), ((), *map(tuple, refs))).canonical()


def default(sizes: Sequence[tuple[int, ...]]) -> Frame:
    """The frame of a value that lies elsewhere: the last axis on the channels, the one before on the width. Of three
    axes and more the first is the batch, unless it is the only one beside the channels."""
    if not sizes:
        return placed(sizes, ((), (), (), ()))
    *lead, last = range(len(sizes))
    filled = [a for a in lead if sizes[a]]
    if len(filled) < 2 or len(lead) < 2:
        return placed(sizes, ((), (last,), (), filled))
    batch, *rest = filled
    if not sizes[0]:
        batch, rest = 0, filled
    height = rest[:1] if len(rest) == 2 else []
    return placed(sizes, ((batch,), (last,), height, rest[len(height) :]))


def common(left: Sequence[Sequence[int]], right: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]] | None:
    """The coarsest factors that both lists of extents are products of: the parts of each extent on the left, and for
    each part which extent on the right it belongs to; None if there are none."""
    a, b = ([n for group in side for n in group] for side in (left, right))
    if prod(a) != prod(b) or 0 in a:
        return None
    starts, ends = ([*accumulate(side, mul, initial=1)] for side in (a, b))
    points = sorted({*starts, *ends})
    if any(q % p for p, q in pairwise(points)):
        return None
    cuts: list[list[int]] = []
    axes: list[int] = []
    for lo, n in zip(starts, a, strict=False):
        inside = [p for p in points if lo < p <= lo * n]
        cuts.append([q // p for p, q in zip([lo, *inside], inside, strict=False)])
        axes.extend(next(j for j, top in enumerate(ends[1:]) if q <= top) for q in inside)
    return cuts, axes


def refined(x: Frame, y: Frame) -> tuple[Frame, Frame] | None:
    """Two frames of values of one shape with the same factors; None if factors of theirs do not divide each other."""
    both = []
    for one, other in ((x, y), (y, x)):
        cuts: list[list[int]] = []
        axes: list[int] = []
        for axis, (s, t) in enumerate(zip(one.sizes, other.sizes, strict=True)):
            found = common([s], [t])
            if found is None:
                return None
            cuts.extend(found[0])
            axes.extend(axis for part in found[0] for _ in part)
        new = one.regrouped(cuts, axes)
        both.append(Frame((*new.sizes, *((),) * (len(one.sizes) - len(new.sizes))), new.places))
    return both[0], both[1]

"""MergeSlices: slices of slices and of concatenations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from compiler.ops.parts import Concat, Slice
from passes.merge_slices import MergeSlices
from tests.passes.composed import Net, Term, becomes, run, stays

INDEX = st.integers(-8, 8)
STEP = st.sampled_from([-3, -2, -1, 1, 1, 2, 3])
CUT = st.tuples(
    st.lists(INDEX, min_size=2, max_size=2),
    st.lists(INDEX, min_size=2, max_size=2),
    st.lists(STEP, min_size=2, max_size=2),
)
Cut = tuple[list[int], list[int], list[int]]


def cut(x: Term, starts: list[int], ends: list[int], steps: list[int]) -> Term:
    return x.net(Slice.of(x.value.type, range(len(starts)), starts, ends, steps), x)


@given(CUT, CUT)
def test_two_slices_are_one(first: Cut, second: Cut) -> None:
    net = Net()
    graph = becomes(MergeSlices(), net.returns(cut(cut(net.input(7, 5), *first), *second)), {"slice": 1})
    (node,) = graph.nodes
    assert isinstance(node.op, Slice)
    bounds = [list(b) for b in (node.op.starts, node.op.ends, node.op.steps)]
    assert node.op == Slice.of(
        graph.inputs[0].type, (0, 1), bounds[0], [e if e >= 0 else -99 for e in bounds[1]], bounds[2]
    )


@given(st.integers(0, 9), st.integers(0, 9))
def test_a_slice_of_a_concatenation(start: int, end: int) -> None:
    net = Net()
    a, b, c = (net.input(n, 2) for n in (3, 2, 4))
    graph = net.returns(cut(net(Concat(axis=0), a, b, c), [start], [end], [1]))
    inside = end <= start or any(low <= start and end <= high for low, high in ((0, 3), (3, 5), (5, 9)))
    run(MergeSlices(), graph)
    assert ("concat" not in graph.op_counts) == inside


def test_other_axes_are_cut_on_the_way() -> None:
    net = Net()
    a, b = net.input(3, 4), net.input(2, 4)
    y = cut(net(Concat(axis=0), a, b), [4, 1], [5, 4], [1, 2])
    graph = becomes(MergeSlices(), net.returns(y), {"slice": 1})
    assert [(n.op, n.inputs[0]) for n in graph.nodes] == [
        (Slice.of(b.value.type, (0, 1), [1, 1], [2, 4], [1, 2]), b.value)
    ]


def test_backwards_through_a_concatenation_stays() -> None:
    net = Net()
    stays(MergeSlices(), net.returns(cut(net(Concat(axis=0), net.input(3), net.input(2)), [2], [0], [-1])))


def test_unbound_dimensions() -> None:
    net = Net()
    x = net.input("n", 6)
    y = x
    for bounds in ([1], [6]), ([0], [4]):
        y = net(Slice.of(y.value.type, [1], *bounds), y)
    graph = becomes(MergeSlices(), net.returns(y), {"slice": 1})
    assert [n.op for n in graph.nodes] == [Slice.of(x.value.type, [1], [1], [5])]


def test_no_axes() -> None:
    net = Net()
    becomes(MergeSlices(), net.returns(cut(cut(net.input(), [], [], []), [], [], [])), {"slice": 1})

"""Plans of memory never let two buffers overlap that are in use together, and are near the least that is possible."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from codegen.arena import ALIGNMENT, Span, aligned, lower_bound, plan

SPANS = st.lists(
    st.builds(
        lambda nbytes, first, length: Span(nbytes, first, first + length),
        st.integers(1, 10_000),
        st.integers(0, 20),
        st.integers(0, 8),
    ),
    max_size=25,
)


@given(SPANS)
def test_no_overlap(spans: list[Span]) -> None:
    made = plan(spans)
    assert len(made.offsets) == len(spans)
    for i, (a, x) in enumerate(zip(spans, made.offsets, strict=True)):
        assert x % ALIGNMENT == 0 and x + aligned(a.nbytes) <= made.size
        for b, y in list(zip(spans, made.offsets, strict=True))[:i]:
            if a.first <= b.last and b.first <= a.last:
                assert x + a.nbytes <= y or y + b.nbytes <= x


@given(SPANS)
def test_bound_is_one(spans: list[Span]) -> None:
    made = plan(spans)
    each = [sum(aligned(s.nbytes) for s in spans if s.first <= t <= s.last) for t in range(30)]
    assert made.bound == lower_bound(spans) == max(each, default=0)
    assert made.bound <= made.size <= sum(aligned(s.nbytes) for s in spans)


def test_chain_takes_two_neighbours() -> None:
    spans = [Span(size, i, i + 1) for i, size in enumerate((640, 6400, 1280, 128, 9600))]
    made = plan(spans)
    assert made.size == made.bound == 128 + 9600

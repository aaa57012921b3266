"""MergeCasts: which detours through another element type lose nothing."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ops.elementwise import Cast
from compiler.tensor import DTYPES
from passes.merge_casts import MergeCasts, holds
from tests.passes.composed import Net, becomes, stays

LOSSLESS = [
    ("f32", "f64"),
    ("f16", "f32"),
    ("i32", "i64"),
    ("i8", "f16"),
    ("i32", "f64"),
    ("u8", "i16"),
    ("bool", "f32"),
]
LOSSY = [
    ("f64", "f32"),
    ("f32", "f16"),
    ("i64", "i32"),
    ("i32", "f32"),
    ("u8", "i8"),
    ("i8", "u8"),
    ("f32", "i64"),
    ("i64", "f64"),
]


def through(first: str, *others: str) -> Net:
    net = Net(DTYPES[first])
    x = net.input(7)
    for name in others:
        x = net(Cast(to=name), x)
    net.returns(x)
    return net


@pytest.mark.parametrize(("first", "middle"), LOSSLESS)
def test_there_and_back(first: str, middle: str) -> None:
    becomes(MergeCasts(), through(first, middle, first).graph, {})


@pytest.mark.parametrize(("first", "middle"), LOSSY)
def test_there_and_back_with_loss(first: str, middle: str) -> None:
    stays(MergeCasts(), through(first, middle, first).graph)


@pytest.mark.parametrize(
    "names", [("f16", "f32", "f64"), ("i8", "i32", "i16"), ("bool", "i64", "f16"), ("f32", "f64", "f16")]
)
def test_a_detour(names: tuple[str, ...]) -> None:
    graph = becomes(MergeCasts(), through(*names).graph, {"cast": 1})
    assert [n.op for n in graph.nodes] == [Cast(to=names[-1])]


@pytest.mark.parametrize("names", [("i32", "f64", "i8"), ("i32", "f64", "f16"), ("f32", "i32", "f64")])
def test_a_detour_through_another_kind(names: tuple[str, ...]) -> None:
    stays(MergeCasts(), through(*names).graph)


def test_a_cast_with_other_readers_is_bypassed() -> None:
    net = Net()
    x = net.input(3)
    wide = net(Cast(to="f64"), x)
    graph = becomes(MergeCasts(), net.returns(wide, net(Cast(to="f32"), wide)), {"cast": 1})
    assert graph.outputs[1] is x.value


@pytest.mark.parametrize("narrow", ["f16", "bf16", "i8", "u8", "i16", "u16", "bool"])
@pytest.mark.parametrize("wide", ["f16", "bf16", "f32", "i8", "u8", "i16", "u16", "i32"])
def test_what_holds_what(narrow: str, wide: str) -> None:
    """Against all 256 or 65,536 values."""
    a, b = DTYPES[narrow].numpy, DTYPES[wide].numpy
    every = (
        np.array([False, True])
        if narrow == "bool"
        else np.arange(2 ** (8 * a.itemsize)).astype(f"u{a.itemsize}").view(a)
    )
    with np.errstate(all="ignore"):
        every = every[np.isfinite(every.astype(np.float64))]
        same = bool(np.all(every.astype(b).astype(np.float64) == every.astype(np.float64)))
    assert holds(DTYPES[wide], DTYPES[narrow]) == same

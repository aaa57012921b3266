"""Layers whose tensors, or whose constants made by the lowering, are too large for a package are refused at once."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from compiler import ops
from compiler.errors import LegalityError
from compiler.graph import Graph
from compiler.op import Op
from compiler.tensor import F32, I32, I64, Array, TensorType
from targets.coreml.target import CoreMLTarget

TENSOR = "needs tensors of at most 16 GiB with axes of at most 2147483647 elements"
TO_DECOMPOSE = "(limits in docs/passes/decompose.md)"
MADE = "needs sizes for which the constants made for it have at most 256 MiB"
LONG = 1 << 27


class Case(NamedTuple):
    op: Op
    operands: tuple[TensorType | Array, ...]


def f32(*shape: int) -> TensorType:
    return TensorType(F32, shape)


def resize(mode: str, *sizes: int, **more: object) -> ops.Resize:
    return ops.Resize(sizes=sizes, scales=tuple(n / 4 if n > 4 else 1.0 for n in sizes), mode=mode, **more)  # type: ignore[arg-type]  # fields of the operation


def built(case: Case) -> Graph:
    graph = Graph()
    operands = [
        graph.add_input(t, f"x{i}") if isinstance(t, TensorType) else graph.const(t)
        for i, t in enumerate(case.operands)
    ]
    outputs = graph.add(case.op, *operands, names=["layer"])
    graph.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
    return graph


CROP = {"coordinates": "tf_crop_and_resize", "roi": (0.0, 0.0, 0.1, 0.1, 1.0, 1.0, 1.2, 1.2)}
TOO_LARGE = {
    "resize, nearest": Case(resize("nearest", 1, 1, 10**8, 10**8), (f32(1, 1, 4, 4),)),
    "resize, cubic": Case(resize("cubic", 1, 1, 10**8, 10**8), (f32(1, 1, 4, 4),)),
    "expand": Case(ops.Expand(shape=(2**20, 2**13)), (f32(1, 1),)),
    "constant of shape": Case(ops.ConstantOfShape(shape=(2**31,), value=0, dtype="u8"), ()),
}
TOO_MUCH_MADE = {
    "resize, nearest": Case(resize("nearest", 1, 1, 1, LONG), (f32(1, 1, 1, 4),)),
    "resize, cubic": Case(resize("cubic", 1, 1, 1, LONG), (f32(1, 1, 1, 4),)),
    "resize, from many": Case(
        ops.Resize(sizes=(1, 1, 4), scales=(1.0, 1.0, 4 / LONG), mode="cubic"), (f32(1, 1, LONG),)
    ),
    "resize, mask of a crop": Case(resize("linear", 1, 1, 2**15, 2**15, **CROP), (f32(1, 1, 4, 4),)),
    "trilu": Case(ops.Trilu(), (f32(2**15, 2**15),)),
    "one-hot": Case(ops.OneHot(axis=1, depth=LONG), (TensorType(I32, (1,)), f32(2))),
    "hardmax": Case(ops.Hardmax(axis=1), (f32(1, LONG),)),
    "dft of a long operand": Case(ops.DFT(axis=1, length=16), (f32(1, 10**6, 1),)),
    "causal attention": Case(ops.Attention(scale=1.0, causal=True), (f32(1, 1, 2**14, 8),) * 3),
    "pad": Case(ops.Pad(pads=(0, 0, 0, LONG), mode="wrap"), (f32(1, 4),)),
    "max pool with places": Case(
        ops.MaxPool(kernel=(3,), strides=(1,), pads=(0, 0), dilations=(1,), indices=True), (f32(1, 1, LONG),)
    ),
    "average pool": Case(ops.AveragePool(kernel=(3,), strides=(1,), pads=(0, 0), dilations=(2,)), (f32(1, 1, LONG),)),
    "scatter": Case(ops.ScatterElements(axis=0), (f32(4, LONG), TensorType(I64, (4, LONG - 1)), f32(4, LONG - 1))),
    "col2im": Case(
        ops.Col2Im(image=(10**4,), block=(10**4,), strides=(1,), pads=(0, 0), dilations=(1,)), (f32(1, 10**4, 1),)
    ),
}


def refusal(case: Case) -> str:
    with pytest.raises(LegalityError, match="1 layer cannot run") as caught:
        CoreMLTarget().prepare(built(case))
    return caught.value.message


@pytest.mark.parametrize("case", TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_tensors_that_core_ml_cannot_hold(case: Case) -> None:
    assert refusal(case).endswith(TENSOR)


@pytest.mark.parametrize("case", TOO_MUCH_MADE.values(), ids=TOO_MUCH_MADE.keys())
def test_constants_that_a_lowering_would_make(case: Case) -> None:
    assert refusal(case).endswith((MADE, TO_DECOMPOSE))


@pytest.mark.parametrize("shape", [(4096, 4096), (2, 16384, 16384)])
def test_what_makes_few_constants_may_be_large(shape: tuple[int, ...]) -> None:
    graph = built(Case(ops.Trilu(), (f32(*shape),)))
    assert CoreMLTarget().prepare(graph) is graph


def test_mils_own_resampling_of_long_axes_has_no_matrix() -> None:
    graph = built(Case(resize("linear", 1, 1, 4, 2**27), (f32(1, 1, 4, 4),)))
    assert CoreMLTarget().prepare(graph) is graph

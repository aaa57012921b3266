"""Decompose: every operation that has a decomposition, on random instances, and what stays as it is."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.evaluate import evaluate
from compiler.graph import Graph, Node
from compiler.op import Op
from compiler.ops.layout import ConvertLayout
from compiler.ops.numeric import integer_range
from compiler.rewrite import Unobserved
from compiler.tensor import BOOL, F16, F32, F64, I8, I16, I32, I64, U8, U16, Array, DType, TensorType
from passes._decompose import DECOMPOSITIONS
from passes._decompose_rank import _along, _elementwise, _gathered, _reduced
from passes.decompose import DECOMPOSED, Decompose
from tests.harness import check, run_pass
from tests.one_op import layer_of, one_layer

INSTANCES = 40
ENOUGH = 3
PAGE = Path(__file__).parents[2] / "docs" / "passes" / "decompose.md"
# Products with constant matrices, and weights of 0, turn one NaN into more; a comparison with NaN is false.
SPREADS_NAN = {
    "col2im", "conv", "conv_integer", "conv_transpose", "deform_conv", "dequantize_linear", "det", "dft",
    "dynamic_quantize_linear", "grid_sample", "matmul_integer", "max_pool", "max_roi_pool", "qlinear_conv",
    "qlinear_matmul", "quantize_linear", "roi_align", "stft",
}  # fmt: skip
UNSAMPLED = {"constant_of_shape", "range", "sum", "max", "min", "conv", "transpose"}  # tried below
RANKS = [cls for cls in DECOMPOSED if set(DECOMPOSITIONS[cls]) <= {_along, _reduced, _elementwise, _gathered}]


@pytest.mark.parametrize("cls", [cls for cls in DECOMPOSED if cls not in RANKS], ids=lambda cls: cls.name)
def test_parts_compute_the_whole(cls: type[Op]) -> None:
    fired = 0
    for seed in range(INSTANCES):
        rng = np.random.default_rng(seed)
        graph = one_layer(cls, rng)
        if graph is not None:
            fired += bool(check(Decompose(), graph, rng, cls.name not in SPREADS_NAN).fired)
    assert fired >= ENOUGH or cls.name in UNSAMPLED


@pytest.mark.parametrize("cls", RANKS, ids=lambda cls: cls.name)
def test_layers_on_many_axes_are_layers_on_fewer(cls: type[Op]) -> None:
    fired = 0
    for seed in range(2 * INSTANCES):
        rng = np.random.default_rng(seed)
        dtype = (F32, I64, BOOL)[int(rng.integers(3))]
        x = TensorType(dtype, tuple(int(d) for d in rng.integers(1, 4, int(rng.integers(5, 8)))))
        sample = cls.sample(rng, x)
        if sample is not None:
            checked = check(Decompose(), layer_of(*sample, x), rng)
            fired += bool(checked.fired)
            others = [n for n in checked.after.nodes if not isinstance(n.op, ops.Reshape)]
            assert not checked.fired or max(v.type.rank for n in others for v in n.outputs) < x.rank
    assert fired >= ENOUGH


def of(dtype: DType, *shape: int) -> TensorType:
    return TensorType(dtype, shape)


def parts(op: Op, x: TensorType, *others: TensorType | Array | None) -> dict[str, int]:
    """How often each operation occurs in the decomposition of a layer, which is checked."""
    graph = layer_of(op, others, x)
    return check(Decompose(), graph, np.random.default_rng(0), op.name not in SPREADS_NAN).after.op_counts


X = of(F32, 2, 3, 5)
STILL, BARE = (1, 1), (0, 0, 0, 0)
IMAGE = of(F32, 1, 2, 9, 9)


@pytest.mark.parametrize(
    ("op", "operands", "counts"),
    [
        (ops.Silu(), (X,), {"mul": 1, "sigmoid": 1}),
        (ops.Celu(alpha=2.0), (X,), {"mul": 2, "elu": 1}),
        (ops.Elu(alpha=2.0), (X,), {"min": 1, "elu": 1, "mul": 1, "relu": 1, "add": 1}),
        (ops.PRelu(), (X, np.array([0.5], np.float32)), {"max": 1, "min": 1, "mul": 1, "add": 1}),
        (ops.PRelu(), (X, np.array([inf], np.float32)), {"less": 1, "mul": 1, "where": 1}),
        (ops.Sum(), (X, X, X), {"add": 2}),
        (ops.Max(), (X, X, X, X), {"max": 3}),
        (ops.Min(), (X,), {}),
        (ops.Mean(), (X, X), {"add": 1, "mul": 1}),
        (ops.Mod(fmod=1), (of(U8, 4), of(U8, 4)), {"mod": 1}),
        (ops.BitwiseNot(), (of(I8, 4),), {"sub": 1}),
        (ops.IsInf(), (X,), {"abs": 1, "equal": 1}),
        (ops.IsInf(detect_negative=0, detect_positive=0), (X,), {"abs": 1, "less": 1}),
        (ops.ReduceMean(axes=(0,)), (of(I64, 2, 3),), {"reduce_sum": 1, "div": 1}),
        (ops.ReduceL1(axes=(0,)), (X,), {"abs": 1, "reduce_sum": 1}),
        (ops.ReduceL2(axes=(0,)), (of(I32, 3),), {"mul": 1, "reduce_sum": 1, "cast": 2, "sqrt": 1}),
        (ops.GlobalMaxPool(), (IMAGE,), {"reduce_max": 1}),
        (ops.GlobalAveragePool(), (of(F32, 2, 3),), {}),
        (ops.Trilu(), (of(F32, 4, 4),), {"where": 1}),
        (ops.Hardmax(axis=1), (X,), {"argmax": 1, "equal": 1, "cast": 1}),
        (ops.ShapeOf(), (X,), {}),
        (ops.Einsum(equation="ij,jk->ik"), (of(F32, 2, 3), of(F32, 3, 4)), {"matmul": 1, "reshape": 3}),
        (ops.MaxPool(kernel=(3, 3), dilations=(2, 2), strides=STILL, pads=BARE), (IMAGE,), {"slice": 6, "max": 4}),
        (
            ops.MaxPool(kernel=(3, 3), dilations=(2, 2), strides=(2, 4), pads=(0, 0, 0, 0)),
            (IMAGE,),
            {"slice": 2, "max_pool": 1},
        ),
        (
            ops.LpPool(kernel=(2, 2), dilations=(1, 1), strides=STILL, pads=BARE),
            (IMAGE,),
            {"abs": 1, "mul": 2, "average_pool": 1, "sqrt": 1},
        ),
        (ops.CumProd(axis=2), (X,), {"slice": 3, "concat": 3, "mul": 3}),
    ],
    ids=lambda v: str(v) if isinstance(v, Op) else "",
)  # fmt: skip
def test_parts(op: Op, operands: tuple[TensorType | Array, ...], counts: dict[str, int]) -> None:
    x, *others = operands
    assert isinstance(x, TensorType)
    assert parts(op, x, *others) == counts


def test_ranges_and_fillings() -> None:
    for dtype, numbers in ((F32, (0.5, 3.0, 0.25)), (I64, (5, -4, -2))):
        graph = Graph()
        scalars = [graph.add_input(of(dtype), f"x{i}") for i in range(3)]
        graph.set_outputs(graph.add(ops.Range(dim=ops.Range.count(*map(np.array, numbers))), *scalars), ["y"])
        assert Decompose().run(graph, Unobserved()) == 1
        feeds = {f"x{i}": np.array(n, dtype.numpy) for i, n in enumerate(numbers)}
        assert np.array_equal(evaluate(graph, feeds)["y"], np.arange(*numbers))
    for shape in ((2, 3), (50, 50)):
        graph = Graph()
        graph.set_outputs(graph.add(ops.ConstantOfShape(shape=shape, value=7, dtype="i32")), ["y"])
        assert Decompose().run(graph, Unobserved()) == 1
        assert (evaluate(graph, {})["y"] == np.full(shape, 7, np.int32)).all()
        assert len(graph) == (shape == (50, 50))


def test_a_target_says_what_stays() -> None:
    graph = layer_of(ops.Mish(), (), X)
    graph.set_outputs([*graph.outputs, *graph.add(ops.Trilu(), graph.inputs[0])], ["y", "z"])
    mishes = Decompose(keeps=lambda node: isinstance(node.op, ops.Mish))
    assert check(mishes, graph, np.random.default_rng(0)).after.op_counts == {"mish": 1, "where": 1}


@pytest.mark.parametrize("x", [TensorType(F32, ("n", 3)), of(F32, 0, 3)], ids=str)
def test_unknown_and_empty_shapes_stay(x: TensorType) -> None:
    graph = layer_of(ops.Mish(), (), x)
    assert Decompose().run(graph, Unobserved()) == 0


def test_values_that_have_an_order_in_memory_stay() -> None:
    graph = layer_of(ConvertLayout(order=(0, 2, 1)), (), X)
    graph.set_outputs(graph.add(ops.Mish(), graph.outputs[0]), ["y"])
    assert (Decompose().run(graph, Unobserved()) == 0) == (graph.outputs[0].type.layout is not None)


def test_what_has_no_decomposition_stays() -> None:
    for op, x in (
        (ops.Celu(alpha=0.0), X),
        (ops.Det(), of(F32, 9, 9)),
        (ops.MaxPool(kernel=(2,), strides=(1,), pads=(0, 0), dilations=(1,)), X),
    ):
        assert Decompose().run(layer_of(op, (), x), Unobserved()) == 0


def test_the_page_names_every_operation_that_is_decomposed() -> None:
    page = PAGE.read_text()
    assert [cls.name for cls in DECOMPOSED if f"`{cls.name}`" not in page] == []


@pytest.mark.parametrize("dtype", [U8, I8, U16, I16, I32])
def test_means_of_integers_whose_sum_leaves_32_bits(dtype: DType) -> None:
    low, high = integer_range(dtype)
    x = np.full((1 << 17) + 2, high, dtype.numpy)
    x[:2] = low
    graph = layer_of(ops.ReduceMean(axes=(0,)), (), TensorType(dtype, x.shape))
    (name,) = (v.name for v in graph.inputs)
    expected = evaluate(graph, {name: x})
    assert run_pass(Decompose(), graph) == 1
    assert evaluate(graph, {name: x}) == expected


@pytest.mark.parametrize("dtype", [F16, F32, F64])
@pytest.mark.parametrize("op", [ops.Asinh(), ops.Acosh()], ids=lambda op: op.name)
def test_hyperbolic_functions_of_numbers_whose_square_overflows(op: Op, dtype: DType) -> None:
    largest = float(np.finfo(dtype.numpy).max)
    x = np.array([1.0, 2.0, 100.0, 300.0, largest / 4, inf, -2.0, -300.0, -largest / 4, -inf, np.nan], dtype.numpy)
    graph = layer_of(op, (), TensorType(dtype, x.shape))
    (name,) = (v.name for v in graph.inputs)
    (expected,) = evaluate(graph, {name: x}).values()
    assert run_pass(Decompose(), graph) == 1
    (found,) = evaluate(graph, {name: x}).values()
    np.testing.assert_allclose(found, expected, 4 * float(np.finfo(dtype.numpy).eps))


@settings(max_examples=60)
@given(st.permutations(range(8)), st.lists(st.integers(1, 2), min_size=8, max_size=8))
def test_axes_that_move_apart_in_many_groups(perm: list[int], dims: list[int]) -> None:
    """Every movement is of at most four groups."""
    graph = layer_of(ops.Transpose(perm=tuple(perm)), (), TensorType(F32, tuple(dims)))
    after = check(Decompose(), graph, np.random.default_rng(0)).after
    moves = [n for n in after.nodes if isinstance(n.op, ops.Transpose)]
    assert len(moves) <= 7 and max((groups(n) for n in moves), default=0) <= 4


def groups(node: Node) -> int:
    """How many groups of axes longer than 1 move apart."""
    assert isinstance(node.op, ops.Transpose) and node.inputs[0] is not None
    dims = node.inputs[0].type.dims
    kept = [a for a in range(len(dims)) if dims[a] != 1]
    places = [kept.index(a) for a in node.op.perm if dims[a] != 1]
    return 1 + sum(b != a + 1 for a, b in pairwise(places))

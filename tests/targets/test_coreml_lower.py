"""Every lowering, over the registry of operations: executed packages give what the operations mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from compiler import ops
from compiler.errors import LegalityError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.op import OPS, Op
from compiler.tensor import BF16, BOOL, DTYPES, F16, F32, F64, I8, I16, I32, I64, U8, U16, Array, DType, TensorType
from passes.decompose import DECOMPOSED
from targets.coreml.lower import TABLE
from targets.coreml.lower.refused import REASONS
from targets.coreml.target import CoreMLTarget
from tests.targets.coreml_harness import reload
from tests.targets.coreml_layers import Layer, compiled, difference, fault, kinds, layers, rounded_to_fp16

LOWERED = sorted(cls.name for cls in TABLE.entries if cls not in REASONS or cls in DECOMPOSED)
SAMPLES = {"fp32": 14, "fp16": 6}
UNSAMPLED = ("constant_of_shape", "range")  # without an operand, or without a known number of results
STEEP = ("tan", "grid_sample")  # near poles, and at places in an image, rounding gives another number
OFF_BY_ONE = (
    "dynamic_quantize_linear",
    "quantize_linear",
    "qlinear_conv",
    "qlinear_matmul",
)  # their scales are rounded


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_operation_is_lowered_or_refused_with_a_reason(name: str) -> None:
    assert OPS[name] in TABLE.entries


@pytest.mark.parametrize("name", LOWERED)
def test_fp32_package_computes_the_operation(name: str, tmp_path: Path) -> None:
    ran, refusals = 0, []
    for layer in layers(name, SAMPLES["fp32"]):
        try:
            assert fault(layer, tmp_path) is None
            ran += 1
        except LegalityError as e:
            refusals.append(e.message)
    assert all(" -- needs " in message for message in refusals)
    assert ran or name in UNSAMPLED, f"all {len(refusals)} samples are refused: {refusals[:1]}"


@pytest.mark.parametrize(
    "name",
    [name for name in LOWERED if name not in STEEP],
)
def test_fp16_package_computes_the_operation(name: str, tmp_path: Path) -> None:
    for layer in layers(name, SAMPLES["fp16"]):
        try:
            assert fault(rounded_to_fp16(layer), tmp_path, "fp16", slack=name in OFF_BY_ONE) is None
        except LegalityError:
            continue


@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS18", "iOS26"])
@pytest.mark.parametrize(
    "name",
    [
        "conv_transpose",
        "gather",
        "gather_elements",
        "gather_nd",
        "lstm",
        "quantize_linear",
        "dequantize_linear",
        "topk",
    ],
)
def test_older_and_newer_systems_compute_the_same(name: str, target: str, tmp_path: Path) -> None:
    for layer in layers(name, 6):
        try:
            assert fault(layer, tmp_path, target=target) is None
        except LegalityError as e:
            if "--deployment-target" in e.message:
                assert int(target[3:]) < 17
            else:
                with pytest.raises(LegalityError):
                    compiled(layer[0], tmp_path)


def one(op: Op, *operands: Array | TensorType, inputs: Sequence[Array] = ()) -> Layer:
    """A layer of given operands: arrays are constants, types are inputs that get the arrays of `inputs`."""
    graph, feeds, rest = Graph(), dict[str, Array](), iter(inputs)
    values: list[Value] = []
    for i, operand in enumerate(operands):
        if isinstance(operand, TensorType):
            values.append(graph.add_input(operand, f"x{i}"))
            feeds[f"x{i}"] = next(rest)
        else:
            values.append(graph.const(operand, f"c{i}"))
    results = graph.add(op, *values)
    graph.set_outputs(results, [f"y{i}" for i in range(len(results))])
    return graph, feeds


def of(dtype: DType, *shape: int) -> TensorType:
    return TensorType(dtype, shape)


def run(layer: Layer, path: Path, precision: str = "fp32", target: str = "iOS17") -> Array:
    return compiled(layer[0], path, precision, target).run(layer[1])["y0"]


RNG = np.random.default_rng(3)
QUERIES, KEYS, VALUES = (RNG.standard_normal(s).astype(np.float32) for s in ((1, 4, 3, 8), (1, 2, 5, 8), (1, 2, 5, 6)))
QKV = [of(F32, *a.shape) for a in (QUERIES, KEYS, VALUES)]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("known", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_query_that_sees_nothing_gives_zero(
    kind: str, causal: bool, known: bool, precision: str, tmp_path: Path
) -> None:
    mask: Array = np.ones((3, 5), bool)
    mask[1] = False
    mask[2, :2] = False
    if kind == "float":
        mask = np.where(mask, 0.25, -np.inf).astype(np.float32)
    attention = ops.Attention(scale=0.3, causal=causal)
    inputs = [QUERIES, KEYS, VALUES, *([] if known else [mask])]
    layer = one(attention, *QKV, mask if known else of(BOOL if kind == "bool" else F32, 3, 5), inputs=inputs)
    assert fault(layer, tmp_path, precision) is None
    assert not run(layer, tmp_path, precision)[:, :, 1].any()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_finite_mask_that_hides_all_leaves_the_mean(causal: bool, precision: str, tmp_path: Path) -> None:
    """Of what the query may see, as with padding in front: what comes later is hidden even where it is no padding."""
    graph = Graph()
    q, k, v = (graph.add_input(TensorType(F32, (1, 2, 4, 4)), name) for name in "qkv")
    seen = graph.add_input(TensorType(BOOL, (4,)), "seen")
    (number,) = graph.add(ops.Cast(to="f32"), seen)
    (absent,) = graph.add(ops.Sub(), graph.const(np.array(1, np.float32)), number)
    (mask,) = graph.add(ops.Mul(), absent, graph.const(np.array(np.finfo(np.float32).min)))
    (bound,) = graph.add(ops.Reshape(shape=(1, 4)), mask)
    graph.set_outputs(graph.add(ops.Attention(scale=0.3, causal=causal), q, k, v, bound), ["y"])
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {name: rng.normal(size=(1, 2, 4, 4)).astype(np.float32) for name in "qkv"}
    feeds["seen"] = np.array([0, 0, 1, 1], bool) if causal else np.zeros(4, bool)
    target = CoreMLTarget(precision=precision)
    artifact = target.emit(target.prepare(graph.clone()), tmp_path / "a.mlpackage")
    np.testing.assert_allclose(artifact.run(feeds)["y"], evaluate(graph, feeds)["y"], atol=3e-3)


@pytest.mark.parametrize("kind", ["none", "bool", "float", "computed"])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_one_operation_for_the_gpu(kind: str, causal: bool, tmp_path: Path) -> None:
    """The same numbers as without it, queries that see nothing included."""
    mask: Array = np.ones((3, 5), bool)
    mask[1] = False
    if kind in ("float", "computed"):
        mask = np.where(mask, 0.25, -np.inf).astype(np.float32)
    given = {"none": [], "computed": [of(F32, 3, 5)]}.get(kind, [mask])
    inputs = [QUERIES, KEYS, VALUES, *([mask] if kind == "computed" else [])]
    layer = one(ops.Attention(scale=0.3, causal=causal), *QKV, *given, inputs=inputs)
    target = CoreMLTarget("fp32", "iOS18", units="cpu-and-gpu")
    artifact = target.emit(target.prepare(layer[0]), tmp_path / "m.mlpackage")
    assert "scaled_dot_product_attention" in kinds(artifact.path)
    reload(artifact.path)
    expected = evaluate(*layer)["y0"]
    np.testing.assert_allclose(artifact.run(layer[1])["y0"], expected, rtol=2e-5, atol=1e-6)


WRAPPING = [
    (ops.Add(), U8, 255, 3, 2),
    (ops.Sub(), U8, 2, 5, 253),
    (ops.Mul(), I8, 100, 3, 44),
    (ops.Add(), I16, 32767, 1, -32768),
    (ops.Mul(), U16, 300, 300, 24464),
    (ops.Div(), I32, -7, 2, -3),
    (ops.Div(), I64, 7, -2, -3),
    (ops.Mod(), I32, -7, 3, 2),
    (ops.Mod(fmod=1), I32, -7, 3, -1),
    (ops.BitShift(direction="LEFT"), U8, 200, 1, 144),
    (ops.BitShift(direction="LEFT"), U16, 65535, 15, 32768),
    (ops.BitShift(direction="RIGHT"), U8, 200, 9, 0),
    (ops.Pow(), I32, -3, 3, -27),
]


@pytest.mark.parametrize("case", WRAPPING, ids=lambda c: f"{c[0].name}-{c[1]}-{c[2]}-{c[3]}")
def test_integers_wrap_and_divide_as_in_onnx(case: tuple[Op, DType, int, int, int], tmp_path: Path) -> None:
    op, dtype, x, y, expected = case
    a, b = (np.array([v], dtype.numpy) for v in (x, y))
    assert run(one(op, of(dtype, 1), of(dtype, 1), inputs=[a, b]), tmp_path).tolist() == [expected]
    assert run(one(op, of(dtype, 1), b, inputs=[a]), tmp_path).tolist() == [expected]


CASTS = [
    (F32, "i8", 3.9, 3),
    (F32, "i32", -3.9, -3),
    (F32, "bool", 0.25, True),
    (I32, "u8", 300, 44),
    (I32, "i8", 200, -56),
    (U8, "i8", 200, -56),
    (U8, "i32", 200, 200),
    (BOOL, "i64", True, 1),
    (I64, "f16", 2049, 2048.0),
    (F32, "f16", 2049.0, 2048.0),
    (F64, "f32", 0.5, 0.5),
    (F32, "i4", -3.0, -3),
]


@pytest.mark.parametrize("case", CASTS, ids=lambda c: f"{c[0]}-{c[1]}-{c[2]}")
def test_casts(case: tuple[DType, str, float, float], tmp_path: Path) -> None:
    source, target, x, expected = case
    layer = one(ops.Cast(to=target), of(source, 1), inputs=[np.array([x], source.numpy)])
    result = run(layer, tmp_path)
    assert result.dtype == DTYPES[target].numpy
    assert result.astype(np.float64).tolist() == [float(expected)]


@pytest.mark.parametrize("dtype", [F32, F16, F64, BF16, I32, I64, U8, I8, BOOL], ids=str)
@pytest.mark.parametrize(
    "op",
    [
        ops.Pad(pads=(1, 2, 0, 1), mode="wrap"),
        ops.Pad(pads=(0, 3, 0, 4), mode="reflect"),
        ops.Pad(pads=(2, 0, 0, 1), mode="edge"),
        ops.Pad(pads=(2, 1, 0, 1), value=0),
        ops.Transpose(perm=(1, 0)),
        ops.Slice(starts=(2, 2), ends=(-1, 0), steps=(-1, -2)),
        ops.Tile(repeats=(2, 1)),
        ops.Expand(shape=(2, 3, 3)),
        ops.Trilu(k=1),
        ops.Concat(axis=0),
        ops.Reshape(shape=(9,)),
        ops.Split(axis=0, sizes=(1, 2)),
        ops.Identity(),
    ],
    ids=lambda op: f"{op.name}-{getattr(op, 'mode', '')}",
)
def test_elements_of_every_type_move(op: Op, dtype: DType, tmp_path: Path) -> None:
    x = (np.arange(9).reshape(3, 3) % 5).astype(dtype.numpy)
    assert fault(one(op, of(dtype, 3, 3), inputs=[x]), tmp_path) is None


EQUATIONS = ["ii->i", "ij->ji", "ij->", "bij,bjk->bik", "i,j->ij", "b...d,d->b...", "ij,ik,kl->jl", "biid,di->bd"]
EQUATIONS += ["...ij,...jk->...ik", "bhqd,bhkd->bhqk", "ab,cd->acbd"]


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize("dtype", [F32, I32], ids=str)
def test_einsum(equation: str, dtype: DType, tmp_path: Path) -> None:
    sizes = {c: 2 + i for i, c in enumerate("abcdhijkql")} | {"...": 3}
    arrays = []
    for term in equation.split("->", maxsplit=1)[0].split(","):
        shape = [sizes["..."] if c == "." else sizes[c] for c in term.replace("...", ".")]
        arrays.append(RNG.integers(-3, 4, shape).astype(dtype.numpy))
    op = ops.Einsum(equation=equation)
    assert fault(one(op, *(of(dtype, *a.shape) for a in arrays), inputs=arrays), tmp_path) is None


@pytest.mark.parametrize("equation", ["bchk,bchq->bkhq", "bchk,bkhq->bchq"])
def test_products_of_attention_per_head_move_no_data(equation: str, tmp_path: Path) -> None:
    sizes = {"b": 2, "c": 3, "h": 1, "k": 5, "q": 4}
    terms = equation.split("->", maxsplit=1)[0].split(",")
    arrays = [RNG.standard_normal([sizes[c] for c in term]).astype(np.float32) for term in terms]
    layer = one(ops.Einsum(equation=equation), *(of(F32, *a.shape) for a in arrays), inputs=arrays)
    assert fault(layer, tmp_path) is None
    used = set(kinds(compiled(layer[0], tmp_path).path))
    assert used <= {"matmul", "einsum", "squeeze", "expand_dims"}


def test_operations_without_samples(tmp_path: Path) -> None:
    start, limit, delta = (np.array(v) for v in (5, -4, -2))
    scalars = [of(I64)] * 3
    assert run(one(ops.Range(dim=5), *scalars, inputs=[start, limit, delta]), tmp_path).tolist() == [5, 3, 1, -1, -3]
    for value, dtype in ((1.5, "f32"), (7, "u8"), (True, "bool")):
        filled = run(one(ops.ConstantOfShape(shape=(2, 3), value=value, dtype=dtype)), tmp_path)
        assert filled.dtype == DTYPES[dtype].numpy
        assert filled.tolist() == [[value] * 3] * 2


def test_nan_infinities_and_negative_zero_of_weights_survive(tmp_path: Path) -> None:
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 1.0], np.float32)
    for precision in ("fp32", "fp16"):
        layer = one(ops.Mul(), of(F32, 5), special, inputs=[np.ones(5, np.float32)])
        result = run(layer, tmp_path, precision)
        assert difference(result, special, of(F32, 5), "fp32") is None
        assert np.signbit(result[3])


def test_sixteen_bit_floats_come_back(tmp_path: Path) -> None:
    for dtype in (F16, BF16):
        x = np.array([1.5, -2.25], dtype.numpy)
        assert run(one(ops.Neg(), of(dtype, 2), inputs=[x]), tmp_path, "fp16").tolist() == [-1.5, 2.25]


REFUSED = [
    (one(ops.Add(), of(I64, 2), np.array([1, 2**40]), inputs=[np.zeros(2)]), "constant integers within 32 bits"),
    (one(ops.Sub(), of(DTYPES["u32"], 2), of(DTYPES["u32"], 2), inputs=[np.zeros(2)] * 2), "element types among"),
    (one(ops.Relu(), of(F32, 2, 0), inputs=[np.zeros((2, 0))]), "at least one element"),
    (one(ops.Tile(repeats=(1, 1, 1, 1, 1, 2)), of(F32, 1, 1, 1, 1, 1, 2), inputs=[np.zeros(2)]), "rank of at most 5"),
    (one(ops.Cast(to="f8e4m3fn"), of(F32, 2), inputs=[np.zeros(2)]), "floats of at least 16 bits"),
    (one(ops.NonZero(dim="n"), of(F32, 2), inputs=[np.zeros(2)]), "or use Where"),
    (one(ops.Det(), of(F32, 5, 5), inputs=[np.zeros((5, 5))]), "determinants of more than 4 rows"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda c: c[1])
def test_refusals_name_the_layer_and_the_need(case: tuple[Layer, str], tmp_path: Path) -> None:
    layer, need = case
    (node,) = layer[0].nodes
    with pytest.raises(LegalityError) as caught:
        compiled(layer[0], tmp_path)
    assert f"= {node.op.name}(" in caught.value.message
    assert need in caught.value.message
    assert not list(tmp_path.iterdir())


def test_to_the_end_is_no_number_out_of_range(tmp_path: Path) -> None:
    largest = np.array([2**63 - 1, -(2**63)])
    x = np.array([5, 5])
    assert run(one(ops.Min(), of(I64, 2), largest, inputs=[x]), tmp_path).tolist() == [5, -(2**31)]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("cls", [ops.LSTM, ops.GRU, ops.RNN], ids=lambda cls: cls.name)
@pytest.mark.parametrize("known", [True, False], ids=["constant", "computed"])
def test_recurrent_layers(cls: type[Op], direction: str, known: bool, tmp_path: Path) -> None:
    d = 2 if direction == "bidirectional" else 1
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[cls.name]
    op = cls(functions=cls.default_functions * d, direction=direction)  # type: ignore[attr-defined]  # all recurrent ones have defaults
    shapes = [(6, 2, 3), (d, gates * 4, 3), (d, gates * 4, 4), (d, 2 * gates * 4)]
    x, *weights = (RNG.standard_normal(s).astype(np.float32) for s in shapes)
    layer = one(op, of(F32, *x.shape), *(w if known else of(F32, *w.shape) for w in weights), inputs=[x, *weights])
    assert fault(layer, tmp_path) is None
    own = cls is ops.LSTM and known
    text = (tmp_path / "m.mlpackage/Data/com.apple.CoreML/model.mlmodel").read_bytes()
    assert (b"recurrent_activation" in text) is own

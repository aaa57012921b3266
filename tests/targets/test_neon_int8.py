"""Integers on NEON: bit for bit what the integer evaluator computes, for all operators, sizes and processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from codegen.neon.int8_product import Product
from codegen.neon.int8_rows import RowsChoice
from codegen.neon.int8_tiles import TILES
from codegen.program import Kernel
from compiler.api import compile_model
from compiler.errors import CompileError, LegalityError, UsageError
from compiler.pass_base import Step as PassStep
from compiler.quantize import quantized
from compiler.tensor import Array
from targets.neon.artifact import NeonArtifact
from targets.neon.build import emulated, native
from targets.neon.int8.artifact import IntegerArtifact
from targets.neon.int8.emit import objections
from targets.neon.int8.linear import Layer, kernel_for, packed
from targets.neon.int8.table import LOWERINGS
from targets.neon.int8.walk import Walk
from targets.tflite.integer import IntegerModel
from targets.tflite.integer.fixed import Factor, factor, times
from targets.tflite.integer.model import KERNELS
from targets.tflite.reader import read
from targets.tflite.target import TfLiteTarget
from tests.command import build, info, node
from tests.real_models import real_model
from tests.targets.neon_integers import CPUS, assert_exact, toolchains
from tests.targets.neon_kernels import WARNINGS, Case, run_cases
from tests.targets.test_tflite_integer_kernels import MOVED
from tests.targets.tflite_integer_cases import CASES, LEAST, Draw
from tests.targets.tflite_integer_harness import Spec, Step, constant, ints, random_feeds, step, write

QUICK = settings(
    max_examples=1, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FULL = ["-march=armv8.6-a+dotprod+i8mm"]


class PlainTfLite(TfLiteTarget):
    """The TensorFlow Lite target without what it does for devices."""

    def substitutions(self, early: bool = False) -> tuple[PassStep, ...]:
        return ()


def is_defined(path: Path, one: Step, least: int) -> bool:
    """Whether the evaluator has results for random elements from `least` on."""
    model = IntegerModel(write(path, one))
    try:
        model.run(random_feeds(model, 0, least))
    except CompileError:
        return False
    return True


@QUICK
@given(st.data())
def test_random_operators(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """One of each kind, in one library."""
    tmp = tmp_path_factory.mktemp("operators")
    d = Draw(data)
    least = max(LEAST.values())
    drawn = [make(d, code) for code, make in CASES.items() if code in LOWERINGS]
    steps = [s for s in drawn if is_defined(tmp / "one.tflite", s, least)]
    model = IntegerModel(write(tmp / "all.tflite", *steps))
    assert_exact(tmp / "all.tflite", [random_feeds(model, 0, least)], tmp)


@QUICK
@given(st.data())
def test_random_products(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Convolutions of all kinds: strides, dilations, groups, paddings, activations, scales for each channel."""
    tmp = tmp_path_factory.mktemp("products")
    d = Draw(data)
    codes = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL")
    drawn = [CASES[code](d, code) for code in codes for _ in range(4)]
    steps = [s for s in drawn if is_defined(tmp / "one.tflite", s, -128)]
    model = IntegerModel(write(tmp / "all.tflite", *steps))
    assert_exact(tmp / "all.tflite", [random_feeds(model, seed) for seed in range(2)], tmp)


def test_what_moves_elements(tmp_path: Path) -> None:
    """Each operator that copies, in one library."""
    steps = [s._replace(outputs=[Spec(*t) for t in s.outputs]) for s in MOVED.values() if s.code in LOWERINGS]
    assert len(steps) > 20
    model = IntegerModel(write(tmp_path / "m.tflite", *steps))
    assert_exact(tmp_path / "m.tflite", [random_feeds(model, 3)], tmp_path, variants=["dotprod"])


def test_every_operator_is_there() -> None:
    """All that the evaluator has."""
    assert {code for code in KERNELS if code not in LOWERINGS} == set()


# -- products ------------------------------------------------------------------------------------------------

SIZES = [(1, 1, 1), (1, 16, 33), (2, 3, 5), (3, 17, 16), (4, 4, 4), (5, 33, 31), (7, 20, 70), (9, 16, 32), (13, 50, 67)]


def layer(k: int, n: int, seed: int, scale: float = 0.002, limits: tuple[int, int] = (-128, 127)) -> Layer:
    rng = np.random.default_rng(seed)
    by = factor(rng.uniform(0.2, 1, n) * scale)
    weights = rng.integers(-128, 128, (k, n)).astype(np.int8)
    return Layer(weights, rng.integers(-(2**15), 2**15, n).astype(np.int32), by, int(rng.integers(-9, 9)), limits)


def product(variant: str, of: Layer, x: Array, in_order: bool = False) -> Case:
    """Rows of x times the weights, and results to be replaced."""
    m, k = x.shape
    n = of.weights.shape[1]
    kernel = kernel_for(variant, of, Walk(1, m, 0, 0, k, n, k, ()), in_order)
    return Case(kernel, [x, packed(kernel, of), np.zeros((m, n), np.int8)], [2])


def expected(of: Layer, x: Array) -> Array:
    sums = x.astype(np.int64) @ of.weights.astype(np.int64) + of.biases
    return np.clip(times(sums, of.by) + of.zero_point, *of.limits).astype(np.int8)


@pytest.mark.parametrize(("variant", "in_order"), [*((v, False) for v in TILES), ("dotprod", True)])
def test_products_of_ragged_sizes(variant: str, in_order: bool) -> None:
    """Of rows, columns and elements; factors from far below to above 1, limits, and the least weights and elements."""
    rng = np.random.default_rng(5)
    made = [(layer(k, n, i), rng.integers(-128, 128, (m, k)).astype(np.int8)) for i, (m, n, k) in enumerate(SIZES)]
    x = rng.integers(-128, 128, (6, 40)).astype(np.int8)
    made += [(layer(40, 21, 7, scale), x) for scale in (2.0**-20, 0.9, 1.0, 5.0)]
    made += [(layer(40, 21, 7, 0.01, limits), x) for limits in ((-3, 50), (-128, 50), (-3, 127))]
    least = layer(40, 21, 8)._replace(weights=np.full((40, 21), -128, np.int8))
    made.append((least, np.full((6, 40), -128, np.int8)))
    for flags in ((native(("-O1", *WARNINGS))), emulated(("-O2", "-static", *FULL, *WARNINGS), "max")):
        if flags is None:
            continue
        results = run_cases([product(variant, of, x, in_order) for of, x in made], flags)
        for (of, x), (got,) in zip(made, results, strict=True):
            np.testing.assert_array_equal(got, expected(of, x))


@pytest.mark.parametrize("variant", TILES)
def test_products_of_rows_that_layers_share(variant: str) -> None:
    """They give what those of one layer give, also of several lines."""
    rng = np.random.default_rng(6)
    cases: list[Case] = []
    wanted: list[Array] = []
    for i, (m, n, k, lines) in enumerate([(4, 32, 40, 3), (9, 33, 16, 1), (7, 40, 9, 1), (8, 36, 96, 2)]):
        of, x = layer(k, n, i), rng.integers(-128, 128, (lines * m, k)).astype(np.int8)
        walk = Walk(lines, m, m * k, m * n, k, n, k, ())
        variants = [kernel_for(v, of, walk) for v in TILES]
        found = RowsChoice.of([kernel.with_(block=1, packings=3, packing=j) for j, kernel in enumerate(variants)])
        assert found is not None
        j = [*TILES].index(variant)
        kernel, weights = found.variants[j], packed(variants[j], of)
        cases.append(Case(kernel, [x, *[weights] * 3, np.zeros((lines * m, n), np.int8), lines, m, n, k], [4]))
        wanted.append(expected(of, x))
    for flags in ((native(("-O1", *WARNINGS))), emulated(("-O2", "-static", *FULL, *WARNINGS), "max")):
        if flags is not None:
            for want, (got,) in zip(wanted, run_cases(cases, flags), strict=True):
                np.testing.assert_array_equal(got, want)


def test_factors_that_round_once() -> None:
    """A factor without a shift is rounded once only, and beside others that are rounded twice."""
    of = layer(8, 9, 1)
    by = Factor(np.full(9, 2**31 - 1), np.array([0, -1, 0, -3, 0, 0, -9, 0, 0]))
    of = of._replace(by=by, weights=of.weights // 16)
    x = np.random.default_rng(0).integers(-128, 128, (5, 8)).astype(np.int8)
    cases = [product(variant, of, x) for variant in TILES]
    assert all(isinstance(c.kernel, Product) and c.kernel.ending.is_mixed for c in cases)
    tools = emulated(("-O2", "-static", *FULL, *WARNINGS), "max") or native(("-O1", *WARNINGS))
    assert tools is not None
    for (got,) in run_cases(cases, tools):
        np.testing.assert_array_equal(got, expected(of, x))


def depthwise(h: int, w: int, c: int, k: int, seed: int, most: int = 127, **options: Any) -> Step:
    rng = np.random.default_rng(seed)
    weights = constant(
        rng.integers(-most, most + 1, (1, k, k, c)).astype(np.int8), list(rng.uniform(0.001, 0.01, c)), 0, 3
    )
    bias = constant(rng.integers(-999, 999, c).astype(np.int32), [0.0001] * c)
    stride = options.get("strideH", 1)
    y = Spec((1, -(-h // stride), -(-w // stride), c), "int8", 0.05, 4)
    given = {"strideH": 1, "strideW": 1, "padding": 0, "dilationHFactor": 1, "dilationWFactor": 1, "depthMultiplier": 1}
    return step("DEPTHWISE_CONV_2D", [Spec((1, h, w, c), "int8", 0.02, -3), weights, bias], [y], 3, **(given | options))


def test_depthwise_of_many_channels(tmp_path: Path) -> None:
    """By 16 channels at a time: odd and even lines, strides, dilations, large filters, weights that leave room for more
    products in 16 bits."""
    steps = [
        depthwise(6, 8, 32, 3, 0),
        depthwise(5, 7, 19, 3, 1, fusedActivationFunction=3),
        depthwise(6, 8, 16, 3, 2, most=20),
        depthwise(9, 8, 24, 3, 3, strideH=2, strideW=2),
        depthwise(6, 6, 17, 5, 4),
        depthwise(8, 8, 16, 5, 5, most=50, strideH=2, strideW=2),
        depthwise(9, 9, 16, 3, 6, dilationHFactor=2, dilationWFactor=2),
        depthwise(4, 4, 16, 1, 7),
    ]
    model = IntegerModel(write(tmp_path / "d.tflite", *steps))
    low = {name: np.full(t.shape, -128, np.int8) for name, t in model.inputs.items()}
    assert_exact(tmp_path / "d.tflite", [random_feeds(model, 1), low], tmp_path, variants=["base"])


# -- models --------------------------------------------------------------------------------------------------


def compiled(name: str, tmp: Path, isa: str = "auto", **options: Any) -> tuple[IntegerModel, IntegerArtifact]:
    """The evaluator of the file that a model becomes, and its library."""
    source = real_model(name)
    kept = PlainTfLite(io_layout="keep", **options)
    compile_model(source.path, kept, tmp / "model.tflite", inputs=source.bind, verify="off")
    found = compile_model(source.path, "neon", tmp / "model", inputs=source.bind, verify="off", isa=isa, **options)
    assert isinstance(found.artifact, IntegerArtifact)
    return IntegerModel(tmp / "model.tflite"), found.artifact


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlperf_tiny_resnet8_int8", {}),
        ("mlperf_tiny_kws_dscnn", {"precision": "int8", "calibrate": "synthetic", "repair": "off"}),
        ("vit_fashion_b1", {"precision": "int8", "calibrate": "synthetic", "repair": "off"}),
    ],
)
def test_models_agree_on_every_processor(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Which kernels are run, the library decides."""
    model, artifact = compiled(name, tmp_path, **options)
    inputs = real_model(name).random_inputs(np.random.default_rng(0))
    port, tensor = artifact.ports[0][0]
    x = inputs[port.name].transpose(port.order)
    stored = x if port.quant is None else quantized(x, port.quant)
    feeds = {port.name: np.ascontiguousarray(stored).reshape(tensor.shape)}
    results = model.run(feeds)
    for tools in toolchains(*CPUS):
        artifact.use(tools)
        found, _ = artifact.executed([*feeds.values()], [a.dtype for a in results.values()])
        for (got, _), due in zip(found, results.values(), strict=True):
            np.testing.assert_array_equal(got[: due.size], due.reshape(-1))


def test_the_artifact_speaks_the_models_types(tmp_path: Path) -> None:
    """Floats in the layout of the model go in and come out."""
    source = real_model("mlperf_tiny_resnet8_int8")
    found = compile_model(source.path, "neon", tmp_path / "model", inputs=source.bind)
    assert found.report.verification is not None
    assert isinstance(found.artifact, NeonArtifact)
    outputs = found.run(source.random_inputs(np.random.default_rng(0)))
    assert {a.shape for a in outputs.values()} == {(1, 10)}


@pytest.mark.parametrize("sizes", [((4,), (4,)), ((3, 4), (4, 0))], ids=["scalar", "empty"])
def test_results_without_an_axis_or_an_element(tmp_path: Path, sizes: tuple[tuple[int, ...], ...]) -> None:
    """They have the shape of the model's, and nothing is written where there is no element."""
    x, w = (np.resize(np.linspace(-1, 0.8, 7, dtype=np.float32), size) for size in sizes)
    expected = x @ w
    model = build([node("MatMul", "x w", "y")], [info("x", x.shape)], [info("y", expected.shape)], {"w": w})
    options: dict[str, Any] = {"precision": "int8", "calibrate": "synthetic", "run_on": "native"}
    got = compile_model(model, "neon", tmp_path / "model", verify="off", **options).run({"x": x})["y"]
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=0.05)


def test_one_generation_is_smaller_than_all(tmp_path: Path) -> None:
    """A fixed instruction set has one form of weights."""
    sizes = {}
    for isa in ("auto", "dotprod"):
        (tmp_path / isa).mkdir()
        compiled("mlperf_tiny_resnet8_int8", tmp_path / isa, isa)
        sizes[isa] = (tmp_path / isa / "model" / "weights.bin").stat().st_size
    assert sizes["auto"] > 2 * sizes["dotprod"]


def test_what_is_refused_is_named(tmp_path: Path) -> None:
    x = Spec((1, 4), "float32")
    path = write(tmp_path / "f.tflite", step("CUMSUM", [x, ints(1)], [Spec((1, 4), "float32")]))
    assert "CUMSUM" in objections(read(path))[0]


def test_options_of_integers_need_integers(tmp_path: Path) -> None:
    source = real_model("mlperf_tiny_kws_dscnn")
    with pytest.raises(UsageError, match="--precision int8"):
        compile_model(source.path, "neon", tmp_path / "m", calibrate="synthetic")
    with pytest.raises((UsageError, LegalityError), match="data"):
        compile_model(source.path, "neon", tmp_path / "m", precision="int8")


def test_kernels_are_named_after_what_they_do() -> None:
    of = layer(8, 16, 0)
    kernel: Kernel = kernel_for("dotprod", of, Walk(1, 4, 0, 0, 8, 16, 8, ()))
    assert kernel.name.startswith("int8_product_dotprod_4x16x8_")
    assert [p.name for p in kernel.parameters] == ["x", "w", "y"]

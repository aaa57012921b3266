"""`--precision fp16`: kernels of halves at ragged sizes, graphs against exact arithmetic, real models."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks import neon_mca
from codegen.expression import Apply, Expression, Number, Operand
from codegen.neon.depthwise_half import Fp16Depthwise, HalfDepthwise
from codegen.neon.gemm_half import FEWEST, HALF, LEVELS, MOST, Fp16Strip, Halved, blocks, walk
from codegen.neon.gemm_model import schedule, tiles
from codegen.neon.gemm_schedule import REGISTERS, ROWS
from codegen.neon.norm import NormRows
from codegen.neon.pool import WindowPool
from codegen.neon.softmax import SoftmaxRows
from codegen.neon.tailed import RELU
from codegen.neon.vectors import is_vector
from compiler.api import compile_model
from compiler.compare import compare
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ops.activation import Relu
from compiler.ops.conv import Conv
from compiler.ops.matmul import MatMul
from compiler.pass_manager import PassManager
from compiler.tensor import Array
from targets.neon.artifact import NeonArtifact
from targets.neon.blocking import core
from targets.neon.build import Toolchain, emulated, native
from targets.neon.emit import lowered, write_library
from targets.neon.lower.depthwise_half import packed as packed_taps
from targets.neon.lower.matmul import half_gemms, packed
from targets.neon.table import TABLE
from targets.neon.target import NeonTarget
from targets.source.needs import port_objections
from tests.passes.composed import Net, Term
from tests.strategies import graphs, random_inputs, seeds
from tests.targets.neon_kernels import WARNINGS, Case, run_cases

MODELS = Path(__file__).parent.parent / "models"
EXAMPLES = Path(__file__).parent.parent.parent / "examples"
TAILS: list[Expression] = [
    Operand(0),
    RELU,
    Apply("min", (RELU, Number(6.0))),
    Apply("add", (Operand(0), Operand(1))),
    Apply(
        "mul",
        (Operand(0), Apply("min", (Apply("max", (Apply("add", (Operand(0), Number(3.0))), Number(0))), Number(1e6)))),
    ),
    Apply("add", (Apply("exp", (Apply("min", (Operand(0), Number(3.0))),)), Operand(1))),  # no instruction has it
]
FP16 = "-march=armv8.2-a+fp16"


def toolchains() -> list[Toolchain]:
    """What the machine has; the emulated processor computes with halves."""
    checked = ("-O0", "-fsanitize=undefined", "-fno-sanitize-recover")
    found = [native((*checked, *WARNINGS)), emulated(("-O2", "-static", FP16, *WARNINGS), "max")]
    return [t for t in found if t is not None]


TOOLS = pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])


def halves(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float16)


def apply(e: Expression, values: Sequence[Array]) -> Array:
    """An expression in 64 bits."""
    if isinstance(e, Operand):
        return values[e.index].astype(np.float64)
    if isinstance(e, Number):
        return np.asarray(float(e.value))
    functions = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "exp": np.exp}
    return np.asarray(functions[e.function](*(apply(a, values) for a in e.arguments)))


def product(m: int, n: int, k: int, tail: Expression, seed: int, *, in_order: bool = False) -> list[tuple[Case, Array]]:
    """A call of each variant, and what it is to give."""
    rng = np.random.default_rng(seed)
    x, w, b, r = (halves(rng, *shape) for shape in ((m, k), (k, n), (n,), (m, n)))
    w = (w / np.sqrt(k)).astype(np.float16)
    want = apply(tail, [x.astype(np.float64) @ w.astype(np.float64) + b, r])
    cut = tiles(m, n, k, instruction=HALF, in_order=in_order)
    counts = [cut.count, cut.last_count] if cut.last_rows else [cut.count]
    made = []
    for kernel in half_gemms(cut, k, tail, in_order=in_order):
        others = [r] if kernel.has_other else []
        arguments: list[Array | int] = [
            x,
            packed(w, b, cut, is_half=True),
            *others,
            np.full((m, n), 7, np.float16),
            *counts,
            n,
            k,
        ]
        arguments += [max(1, cut.count // 2), blocks(k)]
        made.append((Case(kernel, arguments, [2 + len(others)]), want))
    return made


def check(cases: Sequence[tuple[Case, Array]], tools: Toolchain, atol: float = 0.03) -> None:
    for (case, want), (got,) in zip(cases, run_cases([c for c, _ in cases], tools), strict=True):
        np.testing.assert_allclose(got.astype(np.float64), want, rtol=6e-3, atol=atol, err_msg=case.kernel.name)


@TOOLS
def test_products_of_ragged_sizes(tools: Toolchain) -> None:
    sizes = [(1, 1, 1), (1, 64, 640), (3, 13, 17), (8, 16, 256), (17, 33, 300), (9, 100, 1001), (2, 72, 384)]
    sizes += [(5, 7, 97), (12, 56, 128), (4, 9, 16), (6, 31, 15)]
    cases = [c for i, size in enumerate(sizes) for c in product(*size, TAILS[i % len(TAILS)], i)]
    cases += [c for i, size in enumerate(sizes) for c in product(*size, TAILS[i % 5], i, in_order=True)]
    check(cases, tools)


@TOOLS
@settings(max_examples=3, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 20), st.integers(1, 70), st.integers(1, 320), st.sampled_from(TAILS)),
        min_size=4,
        max_size=6,
    ),
    seeds(),
)
def test_products_of_any_size(tools: Toolchain, sizes: list[tuple[int, int, int, Expression]], seed: int) -> None:
    check([c for size in sizes for c in product(*size, seed)], tools)


@given(st.integers(1, 5000), st.lists(st.tuples(st.integers(2, 7), st.integers(1, 99)), max_size=2))
def test_no_sum_of_16_bits_is_long(run: int, levels: list[tuple[int, int]]) -> None:
    found = walk(run, levels)
    total = run * int(np.prod([count for count, _ in levels]))
    if found is None:
        assert run > MOST
        return
    counts = [count for count, _ in found.levels]
    assert found.run * int(np.prod(counts)) == total
    assert len(counts) <= max(LEVELS, len(levels))
    length = found.run * int(np.prod(counts[: found.folds - 1])) if found.folds else total
    assert length <= MOST
    assert found.folds == 0 or found.run == run or found.run >= FEWEST


def test_every_tile_has_registers_and_lanes() -> None:
    for rows in range(1, ROWS + 1):
        for vectors in range(1, 9):
            made = schedule(rows, vectors, HALF)
            if made is not None:
                assert made.registers <= REGISTERS
                assert made.x(rows - 1, made.depth - 1) < 16, "lanes of halves are those of the first registers"


@pytest.mark.skipif(neon_mca.missing() is not None, reason=str(neon_mca.missing()))
@pytest.mark.parametrize("core", neon_mca.CORES)
@pytest.mark.parametrize(("rows", "vectors"), [(4, 4), (8, 2), (7, 3), (6, 3)])
def test_the_inner_loop_is_at_the_issue_peak(core: str, rows: int, vectors: int) -> None:
    strip = Fp16Strip(rows=rows, columns=8 * vectors)
    body = [line for line in "\n".join(strip.turn.schedule.turn()).split("\n") if line]
    assert neon_mca.measured(strip.name, [*body, "b.ne #-64"], core).peak >= 0.95


def test_assembly_holds_sums_in_registers_that_it_names() -> None:
    strip = Fp16Strip(rows=8, columns=16, levels=1, folds=1)
    text = "\n".join(line for _, lines in strip.assembly() for line in lines)
    assert strip.sums == 8 * 16
    assert (text.count("BIASES8("), text.count("FOLDED("), text.count("ROUNDED(")) == (2, 16, 16)
    assert strip.clobbers[-1] == "VECTORS"


# -- other kernels ----------------------------------------------------------------------------------------------------


@TOOLS
def test_depthwise_layers(tools: Toolchain) -> None:
    cases = []
    for seed, (channels, width, kernel, stride, dilation) in enumerate(
        [(8, 9, 3, 1, 1), (13, 12, 3, 2, 1), (24, 7, 5, 1, 1), (17, 11, 3, 1, 2)]
    ):
        rng = np.random.default_rng(seed)
        x, w, b = halves(rng, 2, width, width, channels), halves(rng, channels, kernel * kernel), halves(rng, channels)
        span = dilation * (kernel - 1) + 1
        out = (width - span) // stride + 1
        y = np.zeros((2, out, out, channels), np.float16)
        tail = TAILS[seed % 4]
        r = halves(rng, *y.shape)
        want = np.zeros(y.shape) + b
        for i in range(kernel):
            for j in range(kernel):
                rows, columns = (slice(d * dilation, d * dilation + stride * (out - 1) + 1, stride) for d in (i, j))
                want += x[:, rows, columns].astype(np.float64) * w[:, i * kernel + j].astype(np.float64)
        for kind in (HalfDepthwise, Fp16Depthwise):
            made = kind(kernel=(kernel,) * 2, strides=(stride,) * 2, dilations=(dilation,) * 2, tail=tail)
            others = [r] if made.has_other else []
            numbers = [2, width, width, channels, out, out, 0, out]
            case = Case(made, [x, packed_taps(w, b), *others, y, *numbers], [2 + len(others)])
            cases.append((case, apply(tail, [want, r])))
    check(cases, tools)


@TOOLS
@pytest.mark.parametrize("n", [1, 3, 4, 19, 37])
def test_rows(tools: Toolchain, n: int) -> None:
    rng = np.random.default_rng(n)
    x, w, b = halves(rng, 3, n), halves(rng, n), halves(rng, n)
    wide = x.astype(np.float64)
    powers = np.exp(wide - wide.max(1, keepdims=True))
    softmax = powers / powers.sum(1, keepdims=True)
    norm = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 0.5) * w + b
    rms = wide / np.sqrt((wide**2).mean(1, keepdims=True) + 0.5) * w
    y = np.zeros_like(x)
    numbers = [3, n]
    half = "half_t"
    cases = [
        (Case(SoftmaxRows(ctype=half), [x, y, *numbers], [1]), softmax),
        (Case(SoftmaxRows(ctype=half, is_log=True), [x, y, *numbers], [1]), np.log(softmax)),
    ]
    check(cases, tools, 2e-3)
    kernels = [(NormRows(ctype=half, has_bias=True), [x, w, b, y, *numbers, "0.5f"], 3, norm)]
    kernels += [(NormRows(ctype=half, is_rms=True), [x, w, y, *numbers, "0.5f"], 2, rms)]
    check([(Case(k, a, [at]), want) for k, a, at, want in kernels], tools, 4e-3)  # type: ignore[arg-type]  # a number of C


@TOOLS
def test_pools(tools: Toolchain) -> None:
    rng = np.random.default_rng(1)
    cases = []
    for channels in (3, 8, 21):
        x = halves(rng, 1, 6, 6, channels)
        y = np.zeros((1, 3, 3, channels), np.float16)
        parts = x.astype(np.float64).reshape(3, 2, 3, 2, channels)
        numbers = [1, 6, 6, channels, 3, 3, 0, 3, 2, 2, 1, 1, 0, 0]
        for kind, want in (("max", parts.max((1, 3))), ("average", parts.mean((1, 3)))):
            kernel = WindowPool(kind=kind, window=(2, 2), ctype="half_t")
            cases.append((Case(kernel, [x, y, *numbers], [1]), want[None]))
    check(cases, tools, 2e-3)


def test_chains_of_halves_are_vectors() -> None:
    x = Apply("convert", (Operand(0, "half_t"),))
    assert is_vector(Apply("convert", (Apply("add", (x, Number(1.0))),), "half_t"))
    assert not is_vector(Apply("convert", (Operand(0, "int32_t"),)))
    assert not is_vector(Apply("convert", (Operand(0, "bfloat_t"),)))


# -- graphs and models ------------------------------------------------------------------------------------------------


def emitted(graph: Graph, feeds: dict[str, Array], tools: Toolchain, isa: str, cpu: str = "") -> dict[str, Array]:
    """What the library of a prepared graph computes."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "library"
        write_library(lowered(graph, "fp16", isa, cut_for=core(cpu)), "t", path)
        return NeonArtifact(path, graph, [], tools).run(feeds)


def in_halves(graph: Graph) -> bool:
    """Run the target's passes; whether the graph can be emitted."""
    target = NeonTarget(precision="fp16", run_on="native")
    PassManager(target.pipeline()).run(graph)
    return not TABLE.objections(graph) and not port_objections(graph)


@settings(max_examples=8, deadline=None)
@given(graph=graphs(8), seed=seeds())
def test_graphs_against_the_evaluator_in_64_bits(graph: Graph, seed: int) -> None:
    """As far off as the same layers are when the evaluator rounds their results to halves, or little further."""
    feeds = random_inputs(np.random.default_rng(seed), graph)
    assume(in_halves(graph))
    with np.errstate(all="ignore"):
        exact, rounded = evaluate(graph, feeds, wide=True), evaluate(graph, feeds)
    tools = native(("-O1",))
    assume(tools is not None)
    assert tools is not None
    made = emitted(graph, feeds, tools, "auto")
    for name, want in exact.items():
        if want.dtype.kind != "f":
            continue
        a, b, c = (v[name].astype(np.float64) for v in (made, exact, rounded))
        firm = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
        near = np.isfinite(b) & (np.abs(b) < 1e3)
        assert np.isfinite(a[near & np.isfinite(c)]).all(), name
        scale = np.abs(b[firm]).max(initial=0.0)
        off, known = np.abs(a - b)[firm].max(initial=0.0), np.abs(c - b)[firm].max(initial=0.0)
        assert off <= 8 * known + 4e-3 * scale + 1e-6, (name, off, known, scale)


CONVS: list[tuple[int, int, int, dict[str, Any]]] = [  # channels, filters, kernel, attributes (Any: of any type)
    (3, 16, 3, {"strides": (2, 2)}),
    (64, 24, 3, {}),
    (200, 9, 3, {}),
    (16, 8, 5, {"dilations": (2, 2)}),
    (48, 12, 3, {"dilations": (2, 2)}),
    (32, 48, 3, {"groups": 4}),
    (6, 6, 3, {"groups": 6}),
    (997, 5, 1, {}),
]


@TOOLS
@pytest.mark.parametrize("cpu", ["", "cortex-a55"])
def test_convolutions(tools: Toolchain, cpu: str) -> None:
    rng = np.random.default_rng(5)
    net = Net()
    results, feeds = list[Term](), dict[str, Array]()
    for i, (channels, filters, size, attributes) in enumerate(CONVS):
        groups = attributes.get("groups", 1)
        span = attributes.get("dilations", (1, 1))[0] * (size - 1)
        form: dict[str, Any] = {
            "strides": (1, 1),
            "dilations": (1, 1),
            "groups": 1,
            "pads": (span // 2,) * 4,
            **attributes,
        }
        w = rng.normal(size=(filters, channels // groups, size, size)) / np.sqrt(channels // groups * size * size)
        x = net.input(1, channels, 11, 13)
        results.append(net(Relu(), net(Conv(**form), x, w, rng.normal(size=filters))))
        feeds[f"x{i}"] = rng.normal(size=(1, channels, 11, 13)).astype(np.float32)
    graph = net.returns(*results)
    exact = evaluate(graph, feeds, wide=True)
    assert in_halves(graph)
    for isa in ("base", "fp16"):
        made = emitted(graph, feeds, tools, isa, cpu)
        for name, want in exact.items():
            assert compare(name, want.astype(np.float32), made[name]).psnr_db > 55, (name, isa)


@pytest.mark.parametrize("isa", ["base", "fp16", "auto"])
def test_which_kernels_are_there(isa: str) -> None:
    net = Net()
    graph = net.returns(net(MatMul(), net(MatMul(), net.input(9, 32), np.ones((32, 64))), np.ones((64, 33))))
    assert in_halves(graph)
    kernels = [call.kernel for call in lowered(graph, "fp16", isa).calls if "gemm" in call.kernel.name]
    assert [k.isa for k in kernels] == ["fp16" if isa == "fp16" else "base"] * 2
    assert [isinstance(k, Halved) for k in kernels] == [isa == "auto"] * 2
    made = emitted(graph, {"x0": np.full((9, 32), 0.25, np.float32)}, toolchains()[0], isa)
    assert np.array_equal(made["y0"], np.full((9, 33), 512, np.float32))


def test_weights_take_half_the_bytes(tmp_path: Path) -> None:
    sizes = {}
    for precision in ("fp32", "fp16"):
        path = tmp_path / precision
        compile_model(EXAMPLES / "mobilenetv2s_cifar10_b1.onnx", "neon", output=path, precision=precision, verify="off")
        sizes[precision] = json.loads((path / "cincel.json").read_text())
    assert 0.49 < sizes["fp16"]["weights"] / sizes["fp32"]["weights"] < 0.52
    assert sizes["fp16"]["arena"] < sizes["fp32"]["arena"]
    assert [p["type"] for p in sizes["fp16"]["inputs"]] == ["float"]


QEMU = pytest.mark.skipif(emulated() is None, reason="no emulator")


@pytest.mark.parametrize("run_on", ["native", pytest.param("qemu", marks=QEMU)])
@pytest.mark.parametrize(
    "path",
    [
        EXAMPLES / "fault_mlp_ai4i.onnx",
        EXAMPLES / "mnist_cnn_opset8.onnx",
        EXAMPLES / "vit_fashion_b1.onnx",
        *(
            pytest.param(path, marks=pytest.mark.slow)
            for path in (
                EXAMPLES / "mlperf_tiny_kws_dscnn.onnx",
                EXAMPLES / "mobilenetv2s_cifar10_b1.onnx",
                MODELS / "autoencoder_ai4i.onnx",
                MODELS / "basic_pitch.onnx",
                MODELS / "gtcrn_simple.onnx",
                MODELS / "mlperf_tiny_resnet8.onnx",
                MODELS / "mlperf_tiny_vww.onnx",
                MODELS / "silero_vad_16k_static.onnx",
            )
        ),
    ],
    ids=lambda path: path.stem,
)
def test_models(path: Path, run_on: str, tmp_path: Path) -> None:
    made = compile_model(path, "neon", output=tmp_path / "m", precision="fp16", run_on=run_on)
    assert made.report.verification is not None
    assert min(c.psnr_db for c in made.report.verification) > 50

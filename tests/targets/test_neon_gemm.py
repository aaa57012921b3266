"""Products of matrices as generated C: every tile, ragged sizes, tails, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.expression import Apply, Expression, Number, Operand
from codegen.neon.gemm import Strip
from codegen.neon.gemm_model import CHAINS, WIDEST, schedule, tile_cost, tiles
from codegen.neon.gemm_schedule import CHUNK, REGISTERS, ROWS
from codegen.neon.gemm_tail import is_immediate
from codegen.neon.matmul import PlainMatMul
from codegen.neon.tailed import RELU
from compiler.tensor import Array
from targets.neon.blocking import Core, block, core
from targets.neon.build import Toolchain
from targets.neon.lower.matmul import gemm, packed, packing, room
from targets.source.lower.products import Matrices, matrices
from tests.targets.neon_kernels import Case, run_cases, toolchains

TAILS: list[Expression] = [
    Operand(0),
    RELU,
    Apply("add", (Apply("exp", (Apply("min", (Operand(0), Number(3.0))),)), Operand(1))),  # no instruction has it
    Apply("min", (RELU, Number(6.0))),
    Apply("add", (Operand(0), Operand(1))),
    Apply("max", (Apply("add", (Operand(1), Operand(0))), Number(0))),
    Apply(
        "mul",
        (Operand(0), Apply("min", (Apply("max", (Apply("add", (Operand(0), Number(3.0))), Number(0))), Number(0.3)))),
    ),
    Apply(
        "div", (Apply("mul", (Operand(0), Operand(0))), Apply("sqrt", (Apply("abs", (Apply("neg", (Operand(1),)),)),)))
    ),
]


def apply(e: Expression, values: list[Array]) -> Array:
    """An expression with numpy."""
    if isinstance(e, Operand):
        return values[e.index]
    if isinstance(e, Number):
        return np.float32(e.value)  # type: ignore[return-value]  # numpy broadcasts it
    functions = {"add": np.add, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum}
    one = {"neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "exp": np.exp}
    arguments = [apply(a, values) for a in e.arguments]
    return np.asarray({**functions, **one}[e.function](*arguments))


def product(
    m: int, n: int, k: int, tail: Expression, seed: int, blocks: int | None = None, *, in_order: bool = False
) -> tuple[Case, Array]:
    """A call, and what it is to give."""
    rng = np.random.default_rng(seed)
    x, w, b, r = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n), (n,), (m, n)))
    cut = tiles(m, n, k, in_order=in_order)
    kernel = gemm(cut, k, in_order=in_order).with_(tail=tail)
    others = [r] if kernel.has_other else []
    counts = [cut.count, cut.last_count] if cut.last_rows else [cut.count]
    arguments: list[Array | int] = [x, packed(w, b, cut), *others, np.full((m, n), 7, np.float32), *counts, n, k]
    case = Case(kernel, [*arguments, blocks or block(cut.count, 4 * k * cut.rows)], [2 + len(others)])
    return case, apply(tail, [(x.astype(np.float64) @ w + b).astype(np.float32), r])


def check(cases: list[tuple[Case, Array]], tools: Toolchain) -> None:
    for (case, want), (got,) in zip(cases, run_cases([c for c, _ in cases], tools), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-4, err_msg=case.kernel.name)


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
def test_every_kind_of_tail_and_many_sizes(tools: Toolchain) -> None:
    rng = np.random.default_rng(3)
    shapes = [(1, 1, 1), (4, 16, 8), (1, 40, 19), (49, 96, 24), (7, 3, 5), (13, 30, 33)]
    shapes += [(int(m), int(n), int(k)) for m, n, k in rng.integers(1, 50, (30, 3))]
    check([product(*shape, TAILS[i % len(TAILS)], i, 1 + i % 5) for i, shape in enumerate(shapes)], tools)


@pytest.mark.parametrize("tools", toolchains()[:1], ids=lambda t: t.compiler[0])
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_ragged_sizes(tools: Toolchain, data: st.DataObject) -> None:
    size = st.integers(1, 70)
    draw = data.draw(st.lists(st.tuples(size, size, size, st.sampled_from(TAILS)), min_size=4, max_size=4))
    check([product(*one, seed=i) for i, one in enumerate(draw)], tools)


def batched(x: tuple[int, ...], y: tuple[int, ...], seed: int) -> tuple[Case, Array]:
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in (x, y))
    of = matrices(x, y)
    want = np.matmul(a.astype(np.float64), b).astype(np.float32)
    kernel = packing(of, core())
    part = [0, kernel.items] if kernel.items > 1 else []
    arguments: list[Array | int] = [a, b, np.zeros(want.shape, np.float32), np.zeros(room(of), np.float32), *part]
    return Case(kernel, arguments, [2]), want


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
def test_products_of_computed_matrices(tools: Toolchain) -> None:
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((5, 9), (9, 21)),
        ((3, 2, 4, 5), (3, 2, 5, 6)),
        ((2, 1, 4, 5), (3, 5, 18)),
        ((7,), (7, 3)),
        ((4, 7), (7,)),
        ((2, 3, 6), (6, 8)),
        ((2, 3, 4, 5), (3, 5, 6)),
        ((2, 3, 4, 5), (2, 1, 5, 6)),
        ((2, 3, 2, 4, 5), (2, 1, 1, 5, 6)),
    ]
    check([batched(*pair, i) for i, pair in enumerate(shapes)], tools)


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
def test_transposed_operand_with_biases(tools: Toolchain) -> None:
    rng = np.random.default_rng(0)
    x, y, b = (rng.standard_normal(s).astype(np.float32) for s in ((6, 10), (19, 10), (19,)))
    of = Matrices((), 6, 19, 10, (), (), (10, 1), (1, 10))
    arguments = [x, y, b, np.zeros((6, 19), np.float32), np.zeros(room(of), np.float32)]
    check([(Case(packing(of, core(), has_bias=True), arguments, [3]), x @ y.T + b)], tools)


@pytest.mark.parametrize("tools", toolchains()[:1], ids=lambda t: t.compiler[0])
def test_integers_wrap_around(tools: Toolchain) -> None:
    x, y = np.array([[2**31 - 1, 2]], np.int32), np.array([[2], [3]], np.int32)
    kernel = PlainMatMul(ctype="int32_t", wide="uint64_t", batch=(), m=1, n=1, k=2, x=(2, 1), y=(1, 1))
    ((got,),) = run_cases([Case(kernel, [x, y, np.zeros((1, 1), np.int32)], [2])], tools)
    assert got == x @ y == 4


TILES = [(r, v) for r in range(1, ROWS + 1) for v in range(1, WIDEST + 1)]


@pytest.mark.parametrize(("rows", "vectors"), TILES)
def test_schedules_keep_to_registers_and_to_the_model(rows: int, vectors: int) -> None:
    made = schedule(rows, vectors)
    if made is None:
        assert rows * vectors + rows + CHUNK > REGISTERS
        return
    products = [line for line in made.turn() if line.startswith("fmla")]
    assert len(products) == rows * vectors * made.per_turn
    assert made.registers <= REGISTERS
    for depth, segments in ((8, 1), (16, 1), (19, 3)):
        strip = Strip(rows=rows, columns=4 * vectors, rest=depth % 8, levels=int(segments > 1))
        wait = max(1.0, CHAINS / (rows * vectors))
        exact = counted(strip, depth // 8, segments)
        assert tile_cost(made, depth, segments) <= 1.05 * wait * exact
        if wait == 1:
            assert tile_cost(made, depth, segments) == pytest.approx(exact, rel=0.05)


def counted(strip: Strip, turns: int, segments: int) -> int:
    """The instructions of a tile, from its text."""
    total, often = 0, 1
    for title, lines in strip.assembly()[1:]:
        for instruction in [part.strip() for line in lines for part in line.strip('"').split("\\n") if part.strip()]:
            if instruction == "2:":
                often = segments
            elif instruction.isupper():
                total += often * turns * (len(strip.schedule.turn()) + 1)
            elif not instruction.endswith((":", " 1b")):
                total += often
        if title == "the next part of each row":
            often = 1
    return total


def test_immediate_numbers() -> None:
    assert all(map(is_immediate, (1.0, 6.0, -0.5, 31.0, 0.125, 3.0)))
    assert not any(map(is_immediate, (0.1, 33.0, 1 / 6, float("inf"), float("nan"))))


def test_tails_with_an_operand_and_with_a_number_are_different_kernels() -> None:
    kernels = [Strip(rows=1, columns=4, tail=Apply("add", (Operand(0), e))) for e in (Operand(1), Number(1.0))]
    assert kernels[0] != kernels[1] and kernels[0].name != kernels[1].name


def test_tiles_cover_all_rows_and_columns() -> None:
    for m, n, k in ((1, 1000, 1280), (49, 24, 7), (13, 33, 64), (3136, 128, 128)):
        cut = tiles(m, n, k)
        assert cut.rows * cut.count + cut.last_rows * cut.last_count == m
        assert 4 * cut.vectors * cut.panels + cut.last_columns == n
    assert tiles(256, 256, 256)[:7] == (4, 64, 0, 0, 4, 16, 0)
    assert tiles(256, 256, 256).cost == pytest.approx(4.672e6, rel=0.01)  # counted under an emulator


def test_blocks_fill_half_of_the_second_level() -> None:
    of = Core(32 << 10, 256 << 10, False)
    assert block(64, 4096, of) == 32
    assert block(65, 4096, of) == 22
    assert block(3, 1 << 20, of) == 1
    assert block(5, 16, of) == 5


@pytest.mark.parametrize("tools", toolchains(), ids=lambda t: t.compiler[0])
def test_schedule_of_cores_that_issue_in_order(tools: Toolchain) -> None:
    shapes = [(8, 8, 16), (17, 20, 24), (3, 5, 7), (11, 8, 45), (1, 1, 8), (16, 16, 64), (7, 4, 33)]
    check([product(*shape, TAILS[i], i, in_order=True) for i, shape in enumerate(shapes)], tools)

"""Every operation as generated C: layers drawn at random against what the operation means, cases of ONNX's suite, and
results of which the data decide how many elements there are."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.errors import LegalityError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.op import OPS, Op
from compiler.pass_manager import PassManager
from compiler.tensor import BOOL, F16, F32, F64, I8, I32, I64, STRING, U8, Array, DType, TensorType, dtype_of
from targets.neon import TARGET
from targets.neon.artifact import NeonArtifact
from targets.neon.build import Toolchain, native
from tests.conformance.cases import load_cases
from tests.conformance.stages import FAIL, PASS, difference
from tests.conformance.workers import Trial
from tests.one_op import layer_inputs, layer_of, one_layer

WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
CHECKS = ("-O1", *WARNINGS, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FEW = settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
EVERY = 16  # so manieth plain case of a node is run here, and all of them by `make conformance`
HALF_STEPS = {"f16": 2.0**-11, "bf16": 2.0**-8}
INDEX = (-7, -3, -1, 0, 1, 2, 9, 2**40, -(2**40))  # of axes of two or three elements: many lead nowhere


def compiler(*flags: str) -> Toolchain:
    """The compiler of this machine."""
    found = native(flags)
    if found is None:
        pytest.skip("there is no C compiler")
    return found


@pytest.fixture(scope="module")
def tools() -> Toolchain:
    """Most of its time is for one run only."""
    return compiler("-O0", *WARNINGS)


@pytest.fixture(scope="module")
def checked() -> Toolchain:
    """Its programs end where they touch what is not theirs."""
    return compiler(*CHECKS)


def emitted(graph: Graph, path: Path, tools: Toolchain) -> NeonArtifact:
    """A graph as a library, by the passes of the target."""
    target = TARGET()
    rewritten = PassManager(target.pipeline()).run(graph.clone()).graph
    made = target.emit(target.prepare(rewritten), path)
    made.tools = tools
    return made


def results(
    op: Op, operands: Sequence[Array], dtypes: Sequence[DType], path: Path, tools: Toolchain
) -> tuple[list[Array], Graph]:
    """What the library of a layer computes, whose operands are inputs."""
    x, *others = (TensorType(d, a.shape) for d, a in zip(dtypes, operands, strict=True))
    graph = layer_of(op, tuple(others), x)
    return list(emitted(graph, path, tools).run({f"x{i}": a for i, a in enumerate(operands)}).values()), graph


def agree(op: Op, operands: Sequence[Array], dtypes: Sequence[DType], path: Path, tools: Toolchain) -> list[Array]:
    """The results of a layer, which are exactly what the operation means."""
    found, graph = results(op, operands, dtypes, path, tools)
    expected = evaluate(graph, {f"x{i}": a for i, a in enumerate(operands)})
    for array, wanted in zip(found, expected.values(), strict=True):
        assert difference(array, wanted, 0, 0) is None
    return found


def test_cases_of_the_suite(tmp_path: Path) -> None:
    """Some of them; none may be wrong, and few are refused."""
    chosen = [c for c in load_cases() if c.suite == "node" and c.is_plain][::EVERY]
    found: dict[str, list[str]] = {}
    for case in chosen:
        verdict = Trial(case, tmp_path).result("neon").verdict
        found.setdefault(verdict.status, []).append(f"{case.name}: {verdict.reason}")
    assert FAIL not in found, found[FAIL]
    assert len(found[PASS]) >= 0.97 * len(chosen), found


@pytest.mark.parametrize("name", sorted(OPS))
def test_random_layers(name: str, tmp_path: Path, tools: Toolchain) -> None:
    """What is not refused computes what the operation means."""
    rng = np.random.default_rng(sum(name.encode()))
    graph = one_layer(OPS[name], rng)
    if graph is None:
        pytest.skip("no operand was found")
    feeds = layer_inputs(rng, graph)
    with np.errstate(all="ignore"):
        expected = evaluate(graph, feeds)
    try:
        found = emitted(graph, tmp_path / "m", tools).run(feeds)
    except LegalityError as e:
        if " -- needs " not in str(e):
            raise
        return
    for key, wanted in expected.items():
        step = HALF_STEPS.get(dtype_of(wanted).name, 0.0)  # what is decomposed is rounded after each part
        assert difference(found[key], wanted, 1e-4 + 8 * step, 1e-5 + 8 * step) is None, graph


@FEW
@given(seed=st.integers(0, 2**32), axis=st.sampled_from([None, 0, 1, 2]), is_sorted=st.booleans())
def test_distinct_elements(seed: int, axis: int | None, is_sorted: bool, tmp_path: Path, tools: Toolchain) -> None:
    rng = np.random.default_rng(seed)
    dtype = (F32, F16, I64, I8, BOOL)[int(rng.integers(5))]
    x = rng.integers(0, 2, tuple(rng.integers(1, 4, 3))).astype(dtype.numpy)
    agree(ops.Unique(axis=axis, sorted=is_sorted, dim="distinct"), (x,), (dtype,), tmp_path / "m", tools)


@FEW
@given(seed=st.integers(0, 2**32), axis=st.sampled_from([None, 0, 1]))
def test_what_is_kept(seed: int, axis: int | None, tmp_path: Path, tools: Toolchain) -> None:
    """Also with conditions that are too short, that never hold, and of rows without elements."""
    rng = np.random.default_rng(seed)
    x = rng.random(tuple(rng.integers(0, 4, 2))).astype(np.float32)
    length = x.size if axis is None else x.shape[axis]
    condition = rng.random(int(rng.integers(length + 1))) < rng.choice([0, 0.5, 1])
    agree(ops.Compress(axis=axis, dim="kept"), (x, condition), (F32, BOOL), tmp_path / "m", tools)
    agree(ops.NonZero(dim="found"), (x.round(),), (F32,), tmp_path / "n", tools)


@FEW
@given(seed=st.integers(0, 2**32), centres=st.booleans(), overlap=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_boxes_that_remain(seed: int, centres: bool, overlap: float, tmp_path: Path, tools: Toolchain) -> None:
    """Corners in whole numbers, so that there are equal boxes and ones without area; scores in tenths, so that there
    are ties."""
    rng = np.random.default_rng(seed)
    n, c, b = (int(v) for v in rng.integers(1, (3, 4, 30)))
    boxes = rng.integers(-2, 8, (n, b, 4)).astype(np.float32)
    scores = np.round(rng.random((n, c, b)), 1).astype(np.float32)
    op = ops.NonMaxSuppression(
        limit=int(rng.integers(0, 8)),
        overlap=overlap,
        threshold=float(rng.choice([-inf, 0.3, 2.0])),
        centres=centres,
        dim="kept",
    )
    agree(op, (boxes, scores), (F32, F32), tmp_path / "m", tools)


def test_a_result_of_unknown_size_is_given_out_twice(tmp_path: Path, tools: Toolchain) -> None:
    graph = Graph("twice")
    x = graph.add_input(TensorType(F32, (4,)), "x")
    (found,) = graph.add(ops.NonZero(dim="found"), x)
    graph.set_outputs([found, found], ["first", "second"])
    results = emitted(graph, tmp_path / "m", tools).run({"x": np.array([0, 2, 0, -1], np.float32)})
    assert {k: v.tolist() for k, v in results.items()} == {"first": [[1, 3]], "second": [[1, 3]]}
    header = (tmp_path / "m" / "m.h" if (tmp_path / "m" / "m.h").exists() else tmp_path / "m" / "model.h").read_text()
    assert "size_t *first_dims;" in header and "size_t *second_dims;" in header


def test_layers_after_one_of_unknown_size_are_refused(tmp_path: Path, tools: Toolchain) -> None:
    graph = Graph("after")
    x = graph.add_input(TensorType(F32, (4,)), "x")
    (found,) = graph.add(ops.NonZero(dim="found"), x)
    graph.set_outputs(graph.add(ops.Neg(), found), ["y"])
    with pytest.raises(LegalityError, match="read by no layer"):
        emitted(graph, tmp_path / "m", tools)


@FEW
@given(seed=st.integers(0, 2**32), reduction=st.sampled_from(["none", "add", "mul", "max", "min"]))
def test_no_index_leads_outside(seed: int, reduction: str, tmp_path: Path, checked: Toolchain) -> None:
    """Whatever the indices are: the sanitizer ends a program that reads or writes elsewhere. What is in range is read
    as it should be, what is not as at the nearest border."""
    rng = np.random.default_rng(seed)
    x = rng.random((2, 3, 3)).astype(np.float32)
    wild = rng.choice(INDEX, (2, 3, 3))
    near = np.clip(np.where(wild < 0, wild + 3, wild), 0, 2)
    (y,), _ = results(ops.GatherElements(axis=2), (x, wild), (F32, I64), tmp_path / "a", checked)
    assert np.array_equal(y, np.take_along_axis(x, near, 2))
    (y,), _ = results(ops.Gather(axis=1), (x, wild[0, 0]), (F32, I64), tmp_path / "b", checked)
    assert np.array_equal(y, x[:, near[0, 0]])
    scatter = ops.ScatterElements(axis=2, reduction=reduction)
    (y,), _ = results(scatter, (x, wild, x), (F32, I64, F32), tmp_path / "c", checked)
    wanted = x.copy()
    for place in np.ndindex(x.shape):
        to = (*place[:2], int(near[place]))
        a, b = wanted[to], x[place]
        wanted[to] = {"none": b, "add": a + b, "mul": a * b, "max": max(a, b), "min": min(a, b)}[reduction]
    assert np.array_equal(y, wanted)


TIES = (F16, F32, F64, I8, I32, I64, U8)


@FEW
@given(seed=st.integers(0, 2**32), dtype=st.sampled_from(TIES), largest=st.booleans(), axis=st.integers(0, 2))
def test_the_best_elements(seed: int, dtype: DType, largest: bool, axis: int, tmp_path: Path, tools: Toolchain) -> None:
    """With ties, infinities and NaN."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, tuple(rng.integers(1, 6, 3))).astype(dtype.numpy)
    if dtype.is_float:
        x = np.where(rng.random(x.shape) < 0.2, rng.choice([np.nan, np.inf, -np.inf], x.shape), x).astype(dtype.numpy)
    k = int(rng.integers(1, x.shape[axis] + 1))
    agree(ops.TopK(k=k, axis=axis, largest=largest), (x,), (dtype,), tmp_path / "m", tools)
    last = bool(rng.random() < 0.5)
    kind = ops.ArgMax if largest else ops.ArgMin
    agree(kind(axis=axis, select_last_index=last), (x,), (dtype,), tmp_path / "n", tools)


def test_strings_are_refused(tmp_path: Path, tools: Toolchain) -> None:
    graph = layer_of(ops.Identity(), (), TensorType(STRING, (2,)))
    with pytest.raises(LegalityError, match="strings"):
        emitted(graph, tmp_path / "m", tools)

"""ONNX's own node cases, shipped in its package: imported, evaluated, and compared with the outputs they state."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compiler.errors import CompileError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.onnx_import import import_model
from compiler.tensor import Array, dtype_of

FLOOR = 1750  # cases that must pass, of 1829 in scope

# Why cases are refused, with one clear error, by a pattern of their name.
REFUSED = {
    "^test_(string_(split|concat)|strnormalizer|regex_full|tfidf)": "text processing is no device's work",
    "^test_image_decoder": "decoding image files belongs before the model",
    "^test_(linear_attention|causal_conv_with_state)": "operators of opset 27 that no exporter writes yet",
    "^test_bernoulli": "random numbers cannot be compiled into a model that gives equal outputs twice",
    "^test_training_dropout_(default|mask|default_mask)|^test_training_dropout$": "training mode draws random numbers",
    "^test_not_[234]d$": "models of opset 1: the oldest that is read is 7",
    "^test_scan_sum$": "Scan before opset 9 has another form, which no exporter has written since 2018",
}
# Cases whose stated outputs are not what runs in practice.
DISPUTED = {
    "test_resize_downsample_scales_linear_align_corners": "ONNX Runtime aligns corners by the rounded output length",
    "test_resize_downsample_scales_cubic_align_corners": "ONNX Runtime aligns corners by the rounded output length",
}
AT_RUN_TIME = re.compile(r"must be a constant|computed at run time")
QUOTED = re.compile(r"'([^']*)'")
EPSILON = {"f16": 2.0**-9, "bf16": 2.0**-6}  # two steps of the narrow types, in which ONNX rounds every intermediate


class Outcome(NamedTuple):
    """What became of a case: `refused` is a CompileError while importing, `fault` anything else that is wrong."""

    name: str
    refused: str | None = None
    fault: str | None = None


def cases() -> list[Any]:  # Any: the loader's TestCase has no types
    """All node cases; making their data warns of overflows."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(load_model_tests(kind="node"))


def in_scope(model: onnx.ModelProto) -> bool:
    """Whether a model has tensors alone for inputs and outputs, and operators of the default domain."""
    tensors = all(v.type.WhichOneof("value") == "tensor_type" for v in (*model.graph.input, *model.graph.output))
    return tensors and all(n.domain in ("", "ai.onnx") for n in model.graph.node)


def imported(model: onnx.ModelProto, feeds: dict[str, Array]) -> Graph:
    """The layer graph, with the inputs frozen that an error asks for: by name, or else all that are no floats."""
    frozen: dict[str, Array] = {}
    while True:
        shapes = {name: a.shape for name, a in feeds.items() if name not in frozen}
        try:
            return import_model(model, shapes, frozen).graph
        except CompileError as e:
            left = [name for name in feeds if name not in frozen]
            named = [name for name in QUOTED.findall(f"{e.message} {e.hint}") if name in left]
            needed = named or [name for name in left if feeds[name].dtype.kind in "iub"]
            if not AT_RUN_TIME.search(e.message) or not needed:
                raise
            frozen.update({name: feeds[name] for name in needed})


def difference(result: Array, expected: Array, rtol: float, atol: float) -> str | None:
    """How a result is not what a case states."""
    if result.shape != expected.shape or dtype_of(result) is not dtype_of(expected):
        return f"is {result.dtype}{list(result.shape)}, not {expected.dtype}{list(expected.shape)}"
    if expected.dtype.kind in "OUS":
        return None if np.array_equal(result.astype(str), expected.astype(str)) else f"is {result}, not {expected}"
    if dtype_of(expected).is_float:
        a, b = result.astype(np.float64), expected.astype(np.float64)
        scale = np.abs(b[np.isfinite(b)]).max(initial=0.0)
        step = EPSILON.get(dtype_of(expected).name, 0.0)
        close = np.allclose(a, b, max(rtol, step), max(atol, scale * 1e-6), equal_nan=True)
        return None if close else f"is {result.reshape(-1)[:4]}..., not {expected.reshape(-1)[:4]}..."
    return None if np.array_equal(result, expected) else f"is {result}, not {expected}"


def run(case: Any) -> Outcome:  # Any: the loader's TestCase has no types
    model = case.model
    for inputs, outputs in case.data_sets:
        feeds = dict(zip((i.name for i in model.graph.input), map(array, inputs), strict=True))
        try:
            graph = imported(model, feeds)
        except CompileError as e:
            return Outcome(case.name, refused=str(e))
        try:
            graph.verify()
            results = evaluate(graph, {v.name: feeds[v.name] for v in graph.inputs})
        except CompileError as e:
            return Outcome(case.name, fault=str(e))
        for info, expected in zip(model.graph.output, map(array, outputs), strict=True):
            wrong = difference(results[info.name], expected, case.rtol, case.atol)
            if wrong is not None:
                return Outcome(case.name, fault=f"{info.name} {wrong}")
    return Outcome(case.name)


def array(data: object) -> Array:
    return numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else np.asarray(data)


@cache
def outcomes() -> tuple[Outcome, ...]:
    return tuple(run(case) for case in cases() if in_scope(case.model))


def refused() -> Iterator[Outcome]:
    return (o for o in outcomes() if o.refused is not None)


@pytest.mark.conformance
def test_as_many_cases_pass_as_before() -> None:
    passed = sum(o.refused is None and o.fault is None for o in outcomes())
    assert passed >= FLOOR, f"{passed} of {len(outcomes())} cases pass"


@pytest.mark.conformance
def test_no_case_gives_wrong_numbers() -> None:
    assert [o for o in outcomes() if o.fault is not None and o.name not in DISPUTED] == []
    assert {o.name for o in outcomes() if o.fault is not None} >= set(DISPUTED)


@pytest.mark.conformance
def test_each_refusal_has_a_reason() -> None:
    unexplained = [o for o in refused() if not any(re.search(p, o.name) for p in REFUSED)]
    assert unexplained == []
    assert [p for p in REFUSED if not any(re.search(p, o.name) for o in refused())] == []

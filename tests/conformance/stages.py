"""One case through one stage: imported and evaluated, or compiled, saved and executed."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

import passes  # noqa: F401  # registers the passes
from compiler.api import compile_model
from compiler.errors import CompileError, EmitError, GraphError, LegalityError, PassError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.onnx_import import import_model
from compiler.onnx_reference import RUNTIME_IR
from compiler.target import Target, make_target
from compiler.tensor import Array, dtype_of
from targets import find_target
from targets.neon.artifact import NeonArtifact
from targets.neon.build import Toolchain, native
from tests.conformance.cases import Case, DataSet

# original: ONNX Runtime on the case's own model
STAGES = ("import", "original", "onnx", "coreml", "coreai", "tflite", "neon", "metal")
PASS, DISPUTED, ABSENT, REFUSED, FAIL = "pass", "disputed", "n/a", "refused", "FAIL"
TARGETS: dict[str, Callable[[], Target]] = {
    "onnx": find_target("onnx"),
    "coreml": lambda: make_target(find_target("ane"), {"precision": "fp32"}),
    "coreai": lambda: make_target(find_target("coreai"), {"precision": "fp32"}),
    "tflite": lambda: make_target(find_target("nnapi"), {"precision": "fp32"}),
    "neon": lambda: make_target(find_target("neon"), {"precision": "fp32"}),
    "metal": lambda: make_target(find_target("metal"), {"precision": "fp32", "checks": "off"}),
}
DEFECTS = (EmitError, GraphError, PassError)  # these are ours, not the user's
AT_RUN_TIME = re.compile(r"must be a constant|computed at run time")
QUOTED = re.compile(r"'([^']*)'")
EPSILON = {"f16": 2.0**-9, "bf16": 2.0**-6}  # two steps of the narrow types, in which ONNX rounds every intermediate
RUNTIME = "ONNX Runtime"
OTHER_NUMBERS = "the case's own model gives other numbers there than stated"
FLOAT32 = 2e-6  # of the largest element: what a device that computes in 32 bits may lose beside the case's tolerance


class Verdict(NamedTuple):
    """How a case ended in a stage, and why."""

    status: str
    reason: str = ""


def imported(case: Case, data: DataSet) -> tuple[Graph, dict[str, Array]]:
    """The layer graph, and the inputs frozen because an error asks for it: by name, or else all that are no floats."""
    frozen: dict[str, Array] = {}
    feeds = {name: value for name, value in data.feeds.items() if isinstance(value, np.ndarray)}
    while True:
        shapes = {name: a.shape for name, a in feeds.items() if name not in frozen}
        try:
            return import_model(case.model, shapes, frozen).graph, frozen
        except CompileError as e:
            left = [name for name in feeds if name not in frozen]
            named = [name for name in QUOTED.findall(f"{e.message} {e.hint}") if name in left]
            needed = named or [name for name in left if feeds[name].dtype.kind in "iub"]
            if not AT_RUN_TIME.search(e.message) or not needed:
                raise
            frozen.update({name: feeds[name] for name in needed})


def difference(result: Any, expected: Any, rtol: float, atol: float) -> str | None:  # Any: arrays or lists of arrays
    """How a result is not what a case states."""
    if isinstance(expected, list) or isinstance(result, list):
        pairs = zip(result, expected, strict=True)
        return next((wrong for a, b in pairs if (wrong := difference(a, b, rtol, atol)) is not None), None)
    if result.shape != expected.shape or dtype_of(result) is not dtype_of(expected):
        return f"is {result.dtype}{list(result.shape)}, not {expected.dtype}{list(expected.shape)}"
    if expected.dtype.kind in "OUS":
        return None if np.array_equal(result.astype(str), expected.astype(str)) else f"is {result}, not {expected}"
    if dtype_of(expected).is_float:
        a, b = result.astype(np.float64), expected.astype(np.float64)
        scale = np.abs(b[np.isfinite(b)]).max(initial=0.0)
        step = EPSILON.get(dtype_of(expected).name, 0.0)
        close = np.isclose(a, b, max(rtol, step), max(atol, scale * 1e-6), equal_nan=True)
        return None if close.all() else _shown(a, b, ~close)
    return None if np.array_equal(result, expected) else _shown(result, expected, result != expected)


def _shown(result: Array, expected: Array, wrong: Array) -> str:
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"has {int(wrong.sum())} of {wrong.size} wrong: {result[where]} is not {expected[where]} at {list(where)}"


def compare(case: Case, data: DataSet, results: Mapping[str, Any], atol: float = 0.0) -> Verdict:  # Any: see difference
    """Pass, or FAIL with the first output that is wrong."""
    for name, expected in data.expected.items():
        wrong = difference(results[name], expected, case.rtol, max(case.atol, atol))
        if wrong is not None:
            return Verdict(FAIL, f"{name!r} {wrong}")
    return Verdict(PASS)


def refusal(e: CompileError) -> str:
    """What an error says, short: for layers that cannot run, the operation of the first and what it needs."""
    first, *parts = e.message.splitlines()
    if isinstance(e, LegalityError):
        what, _, needs = next(line for line in parts if " -- " in line).rpartition(" -- ")
        op = re.search(r"= (\w+)\(", what)
        return f"{op[1] if op else 'input or output'}: {needs}"
    if parts and (part := re.search(r"the (\w+) node .*?: (.*)", parts[0])):
        return f"{part[1]}: {part[2]}"
    return first


def guarded(run: Callable[[], Verdict]) -> Verdict:
    """A clear error is a refusal, any other exception a FAIL that says where it comes from."""
    try:
        return run()
    except DEFECTS as e:
        return Verdict(FAIL, f"{type(e).__name__}: {e.message.splitlines()[0]}")
    except CompileError as e:
        return Verdict(REFUSED, refusal(e))
    except Exception as e:  # noqa: BLE001 - whatever it is, it ends here as a FAIL
        at = traceback.extract_tb(e.__traceback__)[-1]
        first = (str(e).splitlines() or [""])[0]
        return Verdict(FAIL, f"{type(e).__name__}: {first} at {Path(at.filename).name}:{at.lineno}")


def evaluated(case: Case, data: DataSet, graph: Graph) -> Verdict:
    """The imported graph, verified and evaluated by the reference."""
    graph.verify()
    return compare(case, data, evaluate(graph, {v.name: data.feeds[v.name] for v in graph.inputs}))


def executed(case: Case, data: DataSet, stage: str, frozen: Mapping[str, Array], folder: Path) -> Verdict:
    """Compiled as a user does, saved, and the saved artifact executed."""
    feeds = {k: v for k, v in data.feeds.items() if k not in frozen}
    shapes = {k: v.shape for k, v in feeds.items() if isinstance(v, np.ndarray)}
    path = folder / f"case-{stage}"
    compiled = compile_model(case.model, TARGETS[stage](), path, inputs=shapes, freeze=frozen, verify="off")
    if isinstance(compiled.artifact, NeonArtifact):
        compiled.artifact.tools = compiler_of("-O2" if case.suite == "light" else "-O0")
    if stage != "onnx":
        try:
            results = compiled.run(feeds)
        except CompileError as e:
            return Verdict(FAIL if isinstance(e, EmitError) else REFUSED, refusal(e))
        scale = max((np.abs(v[np.isfinite(v)]).max(initial=0.0) for v in _floats(data)), default=0.0)
        return compare(case, data, results, atol=float(scale) * FLOAT32)
    inputs = [v.name for v in compiled.graph.inputs]
    ours = runtime(case, path.read_bytes(), DataSet({k: feeds[k] for k in inputs}, data.expected))
    if ours.status == PASS:
        return ours
    return excused(ours, original(case, data))


@cache
def compiler_of(level: str) -> Toolchain:
    """The compiler of this machine, which is to find nothing to warn of; small models cost more to optimize than to
    run."""
    found = native((level, "-Wall", "-Wextra", "-Wpedantic", "-Werror"))
    assert found is not None, "there is no C compiler"
    return found


def excused(ours: Verdict, theirs: Verdict) -> Verdict:
    """A FAIL of our file is n/a where ONNX Runtime does no better with the case's own model: it runs neither, or
    computes other numbers from both."""
    if theirs.status == PASS or (theirs.reason == OTHER_NUMBERS) == ours.reason.startswith(RUNTIME):
        return ours
    return Verdict(ABSENT, ours.reason if ours.reason.startswith(RUNTIME) else theirs.reason)


def original(case: Case, data: DataSet) -> Verdict:
    """The case's own model in ONNX Runtime; n/a if that cannot run it or computes something else than stated."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    model.ir_version = min(model.ir_version, RUNTIME_IR)  # newer ones only add fields that no case uses
    verdict = runtime(case, model.SerializeToString(), data)
    if verdict.status == PASS:
        return verdict
    return Verdict(ABSENT, verdict.reason if verdict.reason.startswith(RUNTIME) else OTHER_NUMBERS)


def _floats(data: DataSet) -> list[Array]:
    return [v for v in data.expected.values() if isinstance(v, np.ndarray) and dtype_of(v).is_float]


def runtime(case: Case, model: bytes, data: DataSet) -> Verdict:
    """A serialized model in ONNX Runtime itself."""
    import onnxruntime  # loads a large library; no other stage needs it

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        results = session.run(list(data.expected), data.feeds)
    except Exception as e:  # noqa: BLE001 - onnxruntime raises classes of its own without a common base
        return Verdict(FAIL, f"{RUNTIME}: {runtime_reason(str(e))}")
    return compare(case, data, {n: _typed(r, data.expected[n]) for n, r in zip(data.expected, results, strict=True)})


def _typed(result: Any, expected: Any) -> Any:  # Any: arrays or lists of arrays
    """ONNX Runtime hands out floats of 8 bits as bytes."""
    is_bytes = isinstance(result, np.ndarray) and result.dtype == np.uint8
    return result.view(expected.dtype) if is_bytes and dtype_of(expected).name.startswith("f8") else result


NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : |Non-zero status code returned while |Status Message: |Name:'[^']*' |"
    r"/\S+:\d+ .*?\) |/\S+\.(cc|h):\d+ \S+ |\bnode with name '.*"
)


def runtime_reason(message: str) -> str:
    """An error of ONNX Runtime without places in its sources and without lists of what it knows."""
    return NOISE.sub("", " ".join(message.split())).strip()[:120].rstrip()


def worst(verdicts: list[Verdict]) -> Verdict:
    """Of several data sets."""
    return max(verdicts, key=lambda v: (PASS, DISPUTED, ABSENT, REFUSED, FAIL).index(v.status))

"""What an artifact holds and how near it is to the original: `python -m benchmarks.check ORIGINAL.onnx ARTIFACT`.

Prints one JSON object (`results.Check`). Kept apart from the measurement, in a process of its own.
"""

import collections
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from benchmarks.results import Check
from compiler.compare import compare
from compiler.errors import CompileError
from compiler.tensor import Array

_CONSTANT = {"Constant", "const"}
EXECUTED_NODES = 20_000
"""Larger graphs are counted but not executed: ONNX Runtime needs many minutes to load them."""


def check_onnx(original: Path, artifact: Path) -> Check:
    """Nodes of an ONNX file, and its outputs in ONNX Runtime."""
    counted = replace(_counted(_load_operations(artifact)), nodes_in=_counted(_load_operations(original)).nodes)
    if counted.nodes_in and counted.nodes_in > EXECUTED_NODES:
        return counted
    try:
        return _compared(counted, _reference(original), _run_onnx(artifact, _inputs(original)))
    except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime says about another tool's file is the result
        return replace(counted, error=_first_line(error))


def check_package(original: Path, artifact: Path) -> Check:
    """Operations of an ML Program, and its outputs as executed by this project's evaluator."""
    from targets.coreml.evaluate.evaluator import evaluate_package
    from targets.coreml.package import read_package

    function = read_package(artifact).spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    counted = replace(
        _counted(operation.type for operation in block.operations), nodes_in=_counted(_load_operations(original)).nodes
    )
    try:
        evaluator = evaluate_package(artifact)
        inputs = dict(zip(evaluator.inputs, _inputs(original).values(), strict=True))
        return _compared(counted, _reference(original), evaluator.run(inputs))
    except CompileError as error:
        return replace(counted, error=_first_line(error))


def check_asset(original: Path, artifact: Path) -> Check:
    """The outputs of a Core AI asset in Apple's runtime, which has no integers of 64 bits."""
    from targets.coreai.runtime import execute

    counted = Check(nodes_in=_counted(_load_operations(original)).nodes)
    inputs = {n: a.astype(np.int32) if a.dtype == np.int64 else a for n, a in _inputs(original).items()}
    reference = _reference(original)
    try:
        results = execute(artifact, inputs)
    except CompileError as error:
        return replace(counted, error=_first_line(error))
    named = results.keys() == reference.keys()  # the runtime gives them in any order
    return _compared(counted, reference, {name: results[name] for name in reference} if named else results)


def check_tflite(original: Path, artifact: Path) -> Check:
    """Operators of a .tflite file, and its outputs in LiteRT."""
    from benchmarks.tflite_file import arranged, executed, operators

    counted = replace(_counted(operators(artifact)), nodes_in=_counted(_load_operations(original)).nodes)
    reference = _reference(original)
    try:
        outputs = executed(artifact, _inputs(original))
        pairs = zip(reference.items(), outputs, strict=True)
        result = {name: arranged(value, expected.shape) for (name, expected), value in pairs}
    except (CompileError, RuntimeError, ValueError) as error:
        return replace(counted, error=_first_line(error))
    return _compared(counted, reference, result)


def _load_operations(path: Path) -> Iterable[str]:
    return _onnx_operations(onnx.load(path, load_external_data=False).graph)


def _onnx_operations(graph: onnx.GraphProto) -> Iterable[str]:
    for node in graph.node:
        yield f"{node.domain}:{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        for attribute in node.attribute:
            for nested in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _onnx_operations(nested)


def _counted(operations: Iterable[str]) -> Check:
    found = collections.Counter(operations)
    constants = sum(found.pop(name, 0) for name in _CONSTANT)
    return Check(nodes=found.total(), constants=constants, operations=dict(found.most_common()))


def _session(path: Path) -> onnxruntime.InferenceSession:
    """Without ONNX Runtime's own rewrites: the file as it is."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _inputs(original: Path) -> dict[str, Array]:
    """Seeded inputs: small non-negative integers, ones for a mask, a normal distribution for everything else."""
    rng = np.random.default_rng(0)
    graph = onnx.load(original, load_external_data=False).graph
    given = {tensor.name for tensor in graph.initializer}
    values: dict[str, Array] = {}
    for entry in (i for i in graph.input if i.name not in given):
        shape = [d.dim_value or 1 for d in entry.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
        if entry.name == "mask":
            values[entry.name] = np.ones(shape, dtype)
        elif dtype.kind == "i":
            values[entry.name] = rng.integers(0, 100, shape).astype(dtype)
        else:
            values[entry.name] = rng.standard_normal(shape).astype(dtype)
    return values


def _run_onnx(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    session = _session(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _reference(original: Path) -> dict[str, Array]:
    return _run_onnx(original, _inputs(original))


def _compared(counted: Check, reference: Mapping[str, Array], result: Mapping[str, Array]) -> Check:
    """Outputs are matched in their order, as some tools rename them."""
    pairs = zip(reference.items(), result.values(), strict=True)
    found = [compare(name, expected, value) for (name, expected), value in pairs]
    worst = min(found, key=lambda c: c.psnr_db)
    largest = max(c.max_abs for c in found)
    return replace(counted, psnr_db=round(worst.psnr_db, 1), max_abs=largest if np.isfinite(largest) else None)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def main(original: str, artifact: str) -> None:
    path = Path(artifact)
    check = {".mlpackage": check_package, ".aimodel": check_asset, ".tflite": check_tflite}.get(path.suffix, check_onnx)
    result = check(Path(original), path)
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main(*sys.argv[1:3])

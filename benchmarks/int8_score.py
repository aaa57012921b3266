"""What rounding cost: `python -m benchmarks.int8_score MODEL.onnx HELD.npz ARTIFACT` prints a `Quality`.

The artifact is a .tflite file, executed by LiteRT, or an .onnx file, executed by ONNX Runtime, as is the model.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.int8_rows import open_session
from benchmarks.results import Placed, Quality
from benchmarks.tflite_file import arranged, parts
from compiler.tensor import Array
from targets.tflite.check import check
from targets.tflite.schema import open_interpreter

LARGEST_DB = 100.0
DEVICES = ("nnapi", "edgetpu")
Run = Callable[[Mapping[str, Array]], list[Array]]


def main(model: Path, held: Path, artifact: Path) -> None:
    with np.load(held) as file:
        arrays = dict(file)
    labels = arrays.pop("labels", None)
    float_run = _onnx(model)
    ranks = {i.name: len(i.shape) for i in open_session(model).get_inputs()}
    rows = [dict(_row(arrays, ranks, i)) for i in range(len(next(iter(arrays.values()))))]
    reference = [float_run(row) for row in rows]
    print(json.dumps(asdict(quality(artifact, rows, reference, labels))))


def _row(arrays: Mapping[str, Array], ranks: Mapping[str, int], i: int) -> Iterator[tuple[str, Array]]:
    for name, rank in ranks.items():
        row = arrays[name][i]
        yield name, row if row.ndim == rank else row[None]


def quality(path: Path, rows: list[dict[str, Array]], reference: list[list[Array]], labels: Array | None) -> Quality:
    """One artifact; what fails to run is told in `error`."""
    try:
        run = _onnx(path) if path.suffix == ".onnx" else _tflite(path)
        results = [_like(run(row), expected) for row, expected in zip(rows, reference, strict=True)]
    except Exception as error:  # noqa: BLE001 - whatever a peer's file makes a runtime raise is its result
        text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return Quality(len(rows), placed=_placed(path), error=text)
    found = [snr([r[i] for r in reference], [r[i] for r in results]) for i in _floats(reference[0])]
    return Quality(
        rows=len(rows),
        snr_db=round(sum(found) / len(found), 2) if found else None,
        worst_db=round(min(found), 2) if found else None,
        top1=None if labels is None else _top1(results, labels),
        top1_float=None if labels is None else _top1(reference, labels),
        placed=_placed(path),
        parts=parts(path) if path.suffix == ".tflite" else {},
    )


def snr(reference: Sequence[Array], results: Sequence[Array]) -> float:
    """Signal-to-noise ratio in dB of one output over all rows, from -LARGEST_DB to LARGEST_DB."""
    signal = sum(float(np.square(a.astype(np.float64)).sum()) for a in reference)
    pairs = zip(reference, results, strict=True)
    noise = sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in pairs)
    if noise == 0:
        return LARGEST_DB
    if signal == 0 or not np.isfinite(noise):
        return -LARGEST_DB
    return float(np.clip(10 * np.log10(signal / noise), -LARGEST_DB, LARGEST_DB))


def _floats(outputs: Sequence[Array]) -> list[int]:
    return [i for i, a in enumerate(outputs) if a.dtype.kind == "f"]


def _top1(outputs: Sequence[Sequence[Array]], labels: Array) -> float:
    """Percent of rows whose first output is largest at the label; a single score above 1/2 means 1."""
    scores = np.stack([np.asarray(o[0]).reshape(-1) for o in outputs])
    found = scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0.5).astype(int)
    return round(100 * float((found == labels).mean()), 2)


def _like(results: Sequence[Array], expected: Sequence[Array]) -> list[Array]:
    """In the layout of the original, matched by their order."""
    return [arranged(a, b.shape).reshape(b.shape) for a, b in zip(results, expected, strict=True)]


def _onnx(path: Path) -> Run:
    session = open_session(path)

    def run(row: Mapping[str, Array]) -> list[Array]:
        results: list[Array] = session.run(None, dict(row))
        return results

    return run


def _tflite(path: Path) -> Run:
    interpreter = open_interpreter(os.fspath(path), threads=1)
    details, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(row: Mapping[str, Array]) -> list[Array]:
        for place, d in enumerate(details):
            names = [name for name in row if name in d["name"]]
            array = row[max(names, key=len)] if names else list(row.values())[place]
            interpreter.set_tensor(d["index"], _stored(arranged(array, tuple(d["shape"])), d))
        interpreter.invoke()
        return [_meant(np.array(interpreter.get_tensor(d["index"])), d) for d in outputs]

    return run


def _stored(array: Array, detail: Mapping[str, Any]) -> Array:
    """Numbers as a tensor of the file holds them."""
    dtype, (scale, zero) = np.dtype(detail["dtype"]), detail["quantization"]
    if dtype.kind == "f" or not scale:
        return array.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array / scale) + zero, limits.min, limits.max).astype(dtype)


def _meant(array: Array, detail: Mapping[str, Any]) -> Array:
    scale, zero = detail["quantization"]
    if array.dtype.kind == "f" or not scale:
        return array
    return np.asarray((array.astype(np.float32) - zero) * np.float32(scale))


def _placed(path: Path) -> dict[str, Placed]:
    return {device: _verdict(path, device) for device in DEVICES} if path.suffix == ".tflite" else {}


def _verdict(path: Path, device: str) -> Placed:
    report = check(path, device)
    errors: dict[str, int] = {}
    for finding in report.errors:
        errors[finding.code] = errors.get(finding.code, 0) + 1
    broken = [p.broken_by for p in report.partitions if p.on_device and p.broken_by is not None]
    left = [p for p in report.placements if not p.on_device]
    breaker = ""
    if left:
        first = next((p for p in left if p.operator == (broken or [left[0].operator])[0]), left[0])
        breaker = f"{first.code}: {first.reason}"[:160]
    pieces = sum(p.on_device for p in report.partitions)
    return Placed(report.kind, report.operators, report.on_device, pieces, errors, breaker)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))

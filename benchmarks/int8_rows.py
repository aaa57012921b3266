"""Rows for one model, to calibrate on and held out: `python -m benchmarks.int8_rows MODEL.onnx OUT [--data DIR]`.

Writes OUT/calibrate.npz and OUT/held.npz, arrays by the names of the model's inputs, held rows with `labels` where
there are some, and prints what they are as JSON. `int8_models.json` says which arrays a model takes and how they are
prepared; where they are not in the folder, and for models that nothing is known of, rows are seeded random numbers.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime

from benchmarks.results import Rows
from compiler.tensor import Array

CATALOGUE = Path(__file__).with_name("int8_models.json")
CALIBRATE = 128
HELD, HELD_LABELLED = 24, 1000
RANDOM, RANDOM_HELD = 8, 4
SEED = 4


class Picked(NamedTuple):
    calibrate: Array
    held: Array
    labels: Array | None
    what: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path("examples/data"), help="the folder of the arrays")
    arguments = parser.parse_args()
    print(json.dumps(asdict(write_rows(arguments.model, arguments.out, arguments.data))))


def write_rows(model: Path, out: Path, data: Path) -> Rows:
    catalogue = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    entry = catalogue["models"].get(model.stem, {})
    shapes = entry.get("inputs") or _shapes(model)
    picked = _picked(entry, catalogue["sets"], data)
    if picked is None:
        calibrate, held = (_random(model, shapes, n, SEED + n) for n in (RANDOM, RANDOM_HELD))
        labels, what = None, "random"
    else:
        first = next(iter(shapes))
        parts = [a.reshape(-1, *shapes[first][1:]) for a in (picked.calibrate, picked.held)]
        calibrate, held = (_with_states(model, first, part, shapes, entry.get("feedback", {})) for part in parts)
        labels, what = picked.labels, picked.what
    known = {} if labels is None else {"labels": labels.astype(np.int64) + entry.get("background", False)}
    save(out / "calibrate.npz", typed(model, calibrate))
    save(out / "held.npz", typed(model, held) | known)
    counts = [len(next(iter(rows.values()))) for rows in (calibrate, held)]
    return Rows(what, counts[0], counts[1], labels is not None, shapes, shapes if is_dynamic(model) else {})


def save(path: Path, arrays: Mapping[str, Array]) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _picked(entry: Mapping[str, Any], sets: Mapping[str, Any], data: Path) -> Picked | None:
    """Prepared rows of the first set whose file is there; the same rows on every call."""
    for name, steps in entry.get("rows", ()):
        arrays = _arrays(sets[name], data)
        if arrays is None:
            continue
        source, tested, labels = arrays
        labelled = None if entry.get("unlabelled") else labels
        if "frames" in (step[0] for step in steps):  # the rows are pieces of one recording
            pieces = prepared(source, steps)
            source, tested = pieces[::3], np.delete(pieces, np.s_[::3], 0)
            if entry.get("feedback"):  # in their order, so that states follow each other
                source, tested = pieces[: len(pieces) // 3], pieces[len(pieces) // 3 :]
            return Picked(source[:CALIBRATE], tested[:HELD], None, name)
        chosen = np.random.default_rng(SEED).permutation(len(source))[:CALIBRATE]
        count = HELD if labelled is None else HELD_LABELLED
        kept = None if labelled is None else labelled[:count]
        return Picked(prepared(source[chosen], steps), prepared(tested[:count], steps), kept, name)
    return None


def _arrays(described: Mapping[str, Any], data: Path) -> tuple[Array, Array, Array | None] | None:
    """Rows to calibrate on, held rows and their labels; None if a file is missing. Of rows that are not parted every
    third is for calibration."""
    if "thirds" in described:
        arrays = _read(data, *described["thirds"])
        if arrays is None or len(arrays[0].shape) == 1:
            return None if arrays is None else (arrays[0], arrays[0], None)
        rest = [np.delete(a, np.s_[::3], 0) for a in arrays]
        return arrays[0][::3], rest[0], rest[1] if len(rest) > 1 else None
    source, tested = _read(data, *described["calibrate"]), _read(data, *described["held"])
    return None if source is None or tested is None else (source[0], tested[0], tested[1])


def _read(data: Path, file: str, *names: str) -> list[Array] | None:
    path = data / file
    if not path.exists():
        return None
    with np.load(path) as held:
        return [held[name] for name in names]


def prepared(rows: Array, steps: Sequence[Sequence[Any]]) -> Array:
    for name, *numbers in steps:
        rows = STEPS[name](rows, *numbers)
    return rows


def _resized(rows: Array, height: int, width: int) -> Array:
    from PIL import Image  # only pictures need it

    size, bicubic = (width, height), Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(row).resize(size, bicubic)) for row in rows])


def _halved(rows: Array) -> Array:
    """The means of squares of four pixels."""
    n, height, width = rows.shape
    return np.asarray(rows.reshape(n, height // 2, 2, width // 2, 2).mean((2, 4)))


def _framed(samples: Array, length: int, hop: int) -> Array:
    starts = np.arange(0, len(samples) - length + 1, hop)
    return samples[starts[:, None] + np.arange(length)]


def _spectrum(frames: Array) -> Array:
    """Real and imaginary parts under the root of a Hann window."""
    found = np.fft.rfft(frames * np.sqrt(np.hanning(frames.shape[1] + 1)[:-1]))
    return np.stack([found.real, found.imag], -1)[:, :, None]


STEPS: dict[str, Callable[..., Array]] = {
    "divide": lambda rows, *by: rows / np.array(by),
    "subtract": lambda rows, *by: rows - np.array(by),
    "channels first": lambda rows: rows.transpose(0, 3, 1, 2),
    "luminance": lambda rows: rows @ np.array([0.299, 0.587, 0.114]),
    "resize": _resized,
    "halve": _halved,
    "first": lambda rows, count: rows[:, :count],
    "frames": _framed,
    "magnitude": lambda frames: np.abs(np.fft.rfft(frames)),
    "spectrum": _spectrum,
}


def _with_states(
    model: Path, first: str, rows: Array, shapes: Mapping[str, list[int]], feedback: Mapping[str, str]
) -> dict[str, Array]:
    """The rows, with the states that the model had given before each; it starts with zeros."""
    if not feedback:
        return {first: rows}
    session = open_session(model)
    state = {name: np.zeros(shapes[name], np.float32) for name in feedback}
    seen: dict[str, list[Array]] = {name: [] for name in feedback}
    for row in rows.astype(np.float32):
        for name, array in state.items():
            seen[name].append(array)
        results = session.run(list(feedback.values()), {first: row[None], **state})
        state = dict(zip(feedback, results, strict=True))
    return {first: rows, **{name: np.stack(arrays) for name, arrays in seen.items()}}


def _random(model: Path, shapes: Mapping[str, Sequence[int]], count: int, seed: int) -> dict[str, Array]:
    """Normal numbers, small integers, and masks that hide nothing."""
    rng = np.random.default_rng(seed)
    types = {i.name: onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type) for i in _inputs(model)}
    rows: dict[str, Array] = {}
    for name, shape in shapes.items():
        dims = (count, *shape[1:])
        rows[name] = rng.integers(0, 100, dims) if types[name].kind in "iu" else rng.standard_normal(dims)
        if name == "mask":
            rows[name] = np.ones(dims)
    return rows


def typed(model: Path, rows: Mapping[str, Array]) -> dict[str, Array]:
    types = {i.name: onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type) for i in _inputs(model)}
    return {name: np.ascontiguousarray(array.astype(types[name])) for name, array in rows.items()}


def _inputs(model: Path) -> list[onnx.ValueInfoProto]:
    graph = onnx.load(model, load_external_data=False).graph
    given = {tensor.name for tensor in graph.initializer}
    return [i for i in graph.input if i.name not in given]


def _shapes(model: Path) -> dict[str, list[int]]:
    return {i.name: [d.dim_value or 1 for d in i.type.tensor_type.shape.dim] for i in _inputs(model)}


def is_dynamic(model: Path) -> bool:
    return any(not d.HasField("dim_value") for i in _inputs(model) for d in i.type.tensor_type.shape.dim)


def open_session(model: Path) -> onnxruntime.InferenceSession:
    """One thread, quiet."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()

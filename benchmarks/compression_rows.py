"""Rows for the suite `compression`: `python -m benchmarks.compression_rows MODEL.onnx OUT --data DIR`.

Writes OUT/fit.npz, training rows that everything is fitted to and judged by, and OUT/held.npz, test rows, both with
`labels`, and prints what they are as JSON. The sets and their preparation are those of `int8_models.json`.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.int8_rows import CATALOGUE, is_dynamic, prepared, save, typed
from benchmarks.results import Rows

FITTED, HELD = 1100, 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the arrays")
    parser.add_argument("--fitted", type=int, default=FITTED)
    parser.add_argument("--held", type=int, default=HELD)
    o = parser.parse_args()
    print(json.dumps(asdict(write_rows(o.model, o.out, o.data, o.fitted, o.held))))


def write_rows(model: Path, out: Path, data: Path, fitted: int = FITTED, held: int = HELD) -> Rows:
    """SystemExit if there are no rows with labels for the model."""
    catalogue = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    entry = catalogue["models"].get(model.stem, {})
    for name, steps in entry.get("rows", ()):
        described = catalogue["sets"][name]
        if "calibrate" not in described or not (data / described["calibrate"][0]).exists():
            continue
        (input_name, shape), *_ = entry["inputs"].items()
        _, _, labels = described["held"]
        counts = []
        for file, part, count in (("fit", "calibrate", fitted), ("held", "held", held)):
            with np.load(data / described[part][0]) as arrays:
                source = arrays[described[part][1]][:count]
                right = arrays[labels.replace("test", "train") if part == "calibrate" else labels][:count]
            rows = prepared(source, steps).reshape(-1, *shape[1:])
            save(out / f"{file}.npz", typed(model, {input_name: rows}) | {"labels": right.astype(np.int64)})
            counts.append(len(rows))
        shapes = entry["inputs"]
        return Rows(name, counts[0], counts[1], True, shapes, shapes if is_dynamic(model) else {})
    raise SystemExit(f"{data} has no training and test rows with labels for {model.stem}")


if __name__ == "__main__":
    main()

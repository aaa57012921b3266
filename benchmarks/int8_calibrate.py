"""Our calibration on seeded rows: `python -m benchmarks.int8_calibrate MODEL.onnx OBSERVER ROWS`, as
`foreign/ort_calibrate.py` does it with onnxruntime. Rows are made one by one and not kept."""

import sys
from collections.abc import Iterator

import numpy as np

from compiler.api import load
from compiler.calibrate.run import calibrate, ranges_of
from compiler.tensor import Array


def rows(shape: tuple[int, ...], count: int) -> Iterator[Array]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.standard_normal(shape, np.float32)


def main(model: str, observer: str, count: str) -> None:
    graph = load(model)
    calibration = calibrate(graph, rows(graph.inputs[0].type.dims, int(count)), observer)
    print(len(ranges_of(calibration, graph)))


if __name__ == "__main__":
    main(*sys.argv[1:4])

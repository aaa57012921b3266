"""Calibration by ONNX Runtime on seeded rows, run in the peer's environment: MODEL.onnx METHOD ROWS."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator


class Reader(CalibrationDataReader):
    def __init__(self, name, shape, count):
        rng = np.random.default_rng(0)
        self._rows = ({name: rng.standard_normal(shape, np.float32)} for _ in range(count))

    def get_next(self):
        return next(self._rows, None)


def main(source, method, count):
    entry = onnx.load(source, load_external_data=False).graph.input[0]
    shape = [d.dim_value for d in entry.type.tensor_type.shape.dim]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "augmented.onnx"))
        calibrator = create_calibrator(source, [], path, getattr(CalibrationMethod, method))
        calibrator.collect_data(Reader(entry.name, shape, int(count)))
        print(len(calibrator.compute_data().keys()))


if __name__ == "__main__":
    main(*sys.argv[1:4])

"""Static quantization by ONNX Runtime, run in the peer's environment: MODEL.onnx ROWS.npz OUT.onnx METHOD.

Older models are converted to opset 13 first, from which on scales of weights can be per channel.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

PER_CHANNEL = 13


class Reader(CalibrationDataReader):
    """Each row as a batch of one, or as a whole input where the model's first axis is no batch."""

    def __init__(self, path, ranks):
        arrays = np.load(path)
        rows = zip(*(list(arrays[name]) for name in ranks), strict=True)
        self._rows = (
            {n: a if a.ndim == ranks[n] else a[None] for n, a in zip(ranks, row, strict=True)} for row in rows
        )

    def get_next(self):
        return next(self._rows, None)


def main(source, rows, target, method):
    prepared = Path(target).with_name("prepared.onnx")
    model = onnx.load(source)
    if next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")) < PER_CHANNEL:
        raised = Path(target).with_name("raised.onnx")
        onnx.save(version_converter.convert_version(model, PER_CHANNEL), raised)
        source = str(raised)
    try:
        quant_pre_process(source, str(prepared))
    except Exception as error:  # noqa: BLE001 - it is a recommendation of the tool's, not a need
        print(f"preprocessing failed: {error}")
        prepared = source
    graph = onnx.load(str(prepared), load_external_data=False).graph
    given = {t.name for t in graph.initializer}
    ranks = {i.name: len(i.type.tensor_type.shape.dim) for i in graph.input if i.name not in given}
    quantize_static(
        str(prepared),
        target,
        Reader(rows, ranks),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=getattr(CalibrationMethod, method),
    )
    for left in ("prepared.onnx", "raised.onnx"):
        Path(target).with_name(left).unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:5])

"""Static quantization by ai-edge-quantizer, run in the peer's environment: FLOAT.tflite ROWS.npz OUT.tflite."""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe


def arranged(array, shape):
    """A row under the file's shape: as it is, channels last, or one whose first axis is a batch."""
    for candidate in (array, array[None]):
        last = candidate.transpose(0, *range(2, candidate.ndim), 1) if candidate.ndim > 2 else candidate
        for form in (candidate, last):
            if form.shape == shape:
                return np.ascontiguousarray(form)
    raise ValueError(f"rows of {array.shape} where the file takes {shape}")


def main(source, rows, target):
    interpreter = Interpreter(model_path=source)
    (key,) = interpreter.get_signature_list()
    runner = interpreter.get_signature_runner(key)
    details = runner.get_input_details()
    arrays = np.load(rows)
    names = {name: max((n for n in arrays if n in name or len(details) == 1), key=len) for name in details}
    count = len(next(iter(arrays.values())))
    data = [
        {name: arranged(arrays[names[name]][i], tuple(d["shape"])).astype(d["dtype"]) for name, d in details.items()}
        for i in range(count)
    ]
    work = quantizer.Quantizer(source, recipe.static_wi8_ai8())
    statistics = work.calibrate({key: data}, num_threads=1)
    work.quantize(statistics).export_model(target, overwrite=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])

"""onnx2tf's full-integer file, run in the peer's environment: MODEL.onnx ROWS.npz OUT.tflite BACKEND QUANT_TYPE COPY.

The model is given the shapes of the rows, each of which is a batch of one. COPY "bare" takes off a transposition it
starts with, which the tool cannot follow. The tool writes several kinds of file and fails if any of them does; the
full-integer one counts.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx


def main(source, rows, target, backend, quant_type, copy):
    model = onnx.load(source)
    arrays = dict(np.load(rows))
    given = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in given]
    for i in inputs:
        dims = i.type.tensor_type.shape.dim
        array = arrays[i.name]
        shape = array.shape[1:] if array.ndim > len(dims) else (1, *array.shape[1:])
        for d, size in zip(dims, shape, strict=True):
            d.dim_value = size
    bare = copy == "bare" and bared(model, inputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(model, path)
        programs = Path(sys.executable).parent  # which it looks for its helpers in
        os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
        argv = [str(programs / "onnx2tf"), "-i", str(path), "-o", f"{folder}/out", "-oiqt"]
        argv += ["-tb", backend, "-qt", quant_type]
        for index, i in enumerate(inputs):
            array = arrays[i.name]
            dims = [d.dim_value for d in i.type.tensor_type.shape.dim]
            if array.ndim > len(dims):
                array = array.reshape(-1, *dims[1:])
            if not bare and array.ndim in (3, 4, 5):
                array = array.transpose(0, *range(2, array.ndim), 1)
            np.save(f"{folder}/{index}.npy", array.astype(np.float32))
            argv += ["-cind", i.name, f"{folder}/{index}.npy", "[0]", "[1]"]
        done = subprocess.run(argv, check=False)
        found = list(Path(folder, "out").glob("*full_integer_quant.tflite"))
        if not found:
            sys.exit(done.returncode or 1)
        Path(target).write_bytes(found[0].read_bytes())


def bared(model, inputs):
    """Take off the transposition to channels first of the only input; whether there was one."""
    users = [n for n in model.graph.node if inputs[0].name in n.input]
    if len(inputs) != 1 or len(users) != 1 or users[0].op_type != "Transpose":
        return False
    (order,) = (list(a.ints) for a in users[0].attribute)
    if order != [0, 3, 1, 2]:
        return False
    dims = inputs[0].type.tensor_type.shape.dim
    sizes = [dims[i].dim_value for i in order]
    del dims[:]
    for size in sizes:
        dims.add().dim_value = size
    for node in model.graph.node:
        node.input[:] = [inputs[0].name if name == users[0].output[0] else name for name in node.input]
    model.graph.node.remove(users[0])
    return True


if __name__ == "__main__":
    main(*sys.argv[1:7])

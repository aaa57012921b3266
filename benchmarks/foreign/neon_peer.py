"""Inferences of models by a peer, run by an aarch64 Python under an emulator that counts instructions:
PEER OUT WINDOWS [MODEL SHAPE RUNS]...

For each model: one inference, then WINDOWS times RUNS of them, with a mark before, between and after: an attempt to
close the file descriptor that `qemu/instructions.c` knows. The first output is OUT/NUMBER.bin.
"""

import contextlib
import os
import sys
from pathlib import Path

import numpy as np

MARK = -7777


def mark():
    with contextlib.suppress(OSError):
        os.close(MARK)


def litert(path, x):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    if len(given["shape"]) == 4 and tuple(given["shape"]) != x.shape:
        x = x.transpose(0, 2, 3, 1)
    if given["dtype"] != np.float32:
        scale, zero = given["quantization"]
        x = np.clip(np.round(x / scale) + zero, -128, 127).astype(given["dtype"])
    interpreter.set_tensor(given["index"], x)

    def result():
        told = interpreter.get_output_details()[0]
        y = interpreter.get_tensor(told["index"])
        if y.dtype != np.float32:
            scale, zero = told["quantization"]
            y = ((y.astype(np.int32) - zero) * scale).astype(np.float32)
        return y.transpose(0, 3, 1, 2) if y.ndim == 4 else y

    return interpreter.invoke, result


def onnxruntime(path, x):
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: x}
    found = []

    def run():
        found[:] = session.run(None, feeds)

    return run, lambda: found[0]


def ncnn(path, x):
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(path)
    net.load_model(path.removesuffix(".param") + ".bin")
    given = ncnn.Mat(np.ascontiguousarray(x[0] if x.ndim == 4 else x))
    found = []

    def run():
        extractor = net.create_extractor()
        extractor.input(net.input_names()[0], given)
        found[:] = [extractor.extract(net.output_names()[0])[1]]

    return run, lambda: np.array(found[0])


PEERS = {"LiteRT": litert, "onnxruntime": onnxruntime, "ncnn": ncnn}


def main(peer, out, windows, *cases):
    for number, (path, shape, runs) in enumerate(zip(*[iter(cases)] * 3, strict=True)):
        dims = [int(size) for size in shape.split("x")]
        x = np.fromfile(Path(out, f"x{number}.bin"), np.float32).reshape(dims)
        run, result = PEERS[peer](path, x)
        run()
        mark()
        for _ in range(int(windows)):
            for _ in range(int(runs)):
                run()
            mark()
        np.ascontiguousarray(result(), np.float32).tofile(Path(out, f"{number}.bin"))


if __name__ == "__main__":
    main(*sys.argv[1:])

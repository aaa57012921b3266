"""What .tflite files hold, and their execution: those of any tool, whatever the layout of their inputs and outputs."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from compiler.ops.layout import channels_last
from compiler.tensor import Array
from targets.tflite.schema import open_interpreter, schema


def operators(path: Path) -> Iterator[str]:
    """The names of all operators of a file, those of every subgraph."""
    names = {number: name for name, number in vars(schema().BuiltinOperator).items() if isinstance(number, int)}
    model = schema().Model.GetRootAs(bytearray(path.read_bytes()), 0)
    opcodes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    codes = [names[max(c.BuiltinCode(), c.DeprecatedBuiltinCode())] for c in opcodes]
    for subgraph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        yield from (codes[subgraph.Operators(i).OpcodeIndex()] for i in range(subgraph.OperatorsLength()))


def parts(path: Path) -> dict[str, int]:
    """The bytes of a file by what they are for; vectors that several tensors share are counted once."""
    data = bytearray(path.read_bytes())
    model = schema().Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
    buffers = {t.Buffer(): t for t in tensors}
    found = {"weights": 0, "biases and shapes": 0}
    for number, t in buffers.items():
        kind = "biases and shapes" if t.Type() in (schema().TensorType.INT32, schema().TensorType.INT64) else "weights"
        found[kind] += model.Buffers(number).DataLength()
    scales, zero_points = set(), set()
    for q in (t.Quantization() for t in tensors if t.Quantization() is not None):
        scales.add(bytes(q.ScaleAsNumpy()) if q.ScaleLength() else b"")
        zero_points.add(bytes(q.ZeroPointAsNumpy()) if q.ZeroPointLength() else b"")
    found["scales"] = sum(map(len, scales))
    found["zero points"] = sum(map(len, zero_points))
    found["names"] = sum(len(t.Name() or b"") for t in tensors)
    found["tables"] = len(data) - sum(found.values())
    return found


def executed(path: Path, inputs: Mapping[str, Array]) -> list[Array]:
    """The outputs as they lie in the file. Inputs are known by their ONNX name, to which some tools add, else by their
    place; one whose shape differs from the given one is channels last, ValueError where that does not fit either."""
    interpreter = open_interpreter(os.fspath(path), threads=1)
    for place, detail in enumerate(interpreter.get_input_details()):
        names = [name for name in inputs if name in detail["name"]]
        array = inputs[max(names, key=len)] if names else list(inputs.values())[place]
        interpreter.set_tensor(detail["index"], arranged(array, tuple(detail["shape"])).astype(detail["dtype"]))
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(d["index"])) for d in interpreter.get_output_details()]


def arranged(array: Array, shape: tuple[int, ...]) -> Array:
    """An array [N,C,*S], or one that is [N,*S,C], under the shape of the other; ValueError if it is neither."""
    if array.shape == shape:
        return array
    order = channels_last(array.ndim) if array.ndim > 1 else (0,)
    for axes in (order, tuple(int(i) for i in np.argsort(order))):
        if array.ndim == len(shape) and array.transpose(axes).shape == shape:
            return np.ascontiguousarray(array.transpose(axes))
    if array.size == np.prod(shape) and max(array.shape, default=1) == array.size:
        return array.reshape(shape)
    raise ValueError(f"an array of shape {array.shape} is given where the file has {shape}")


def invoker(path: str) -> Callable[[], object]:
    """What runs a file once, on seeded inputs, one thread."""
    interpreter = open_interpreter(path, threads=1)
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        shape, dtype = detail["shape"], np.dtype(detail["dtype"])
        integers = dtype.kind in "iu"
        array = rng.integers(0, 100, shape) if integers else rng.standard_normal(shape)
        interpreter.set_tensor(detail["index"], (np.ones(shape) if "mask" in detail["name"] else array).astype(dtype))
    invoke: Callable[[], object] = interpreter.invoke
    return invoke

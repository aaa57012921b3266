"""The nine architectures that the onnx package carries without weights, given random weights of a sane scale.

There the large weights come from ConstantOfShape nodes, which no converter sees in trained models. Here each becomes an
initializer scaled for the layer that reads it, and BatchNormalization gets the statistics of its own input, so that
signals neither vanish nor explode through the depth and a comparison of outputs means something.
"""

import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.building import IR_VERSION

Array = NDArray[np.float32]
_TRANSPARENT = ("Unsqueeze", "Reshape")


def source(name: str) -> Path:
    """The file of architecture `name` inside the installed onnx package."""
    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"{name}.onnx"


def materialise(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """The same graph with every ConstantOfShape and every float initializer replaced by random weights."""
    graph = model.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes = {n.output[0]: values[n.input[0]] for n in graph.node if n.op_type == "ConstantOfShape"}
    shapes |= {name: np.array(v.shape) for name, v in values.items() if v.dtype == np.float32}
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    read = {name for node in nodes for name in node.input}
    rng = np.random.default_rng(seed)
    weights = {n: _weight(nodes, n, tuple(shape.tolist()), rng) for n, shape in shapes.items() if n in read}
    kept = {name: value for name, value in values.items() if name in read and name not in weights}
    tensors = [numpy_helper.from_array(value, name) for name, value in (kept | weights).items()]
    inputs = [i for i in graph.input if i.name not in values and i.name not in weights]
    return helper.make_model(
        helper.make_graph(nodes, graph.name, inputs, list(graph.output), tensors),
        opset_imports=model.opset_import,
        ir_version=IR_VERSION,
    )


def _weight(nodes: list[onnx.NodeProto], name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Random data for the role in which the first reader of `name` takes it, looking through reshapes."""
    reader = next(node for node in nodes if name in node.input)
    while reader.op_type in _TRANSPARENT:
        name = reader.output[0]
        reader = next(node for node in nodes if name in node.input)
    position = list(reader.input).index(name)
    noise = rng.standard_normal(shape)
    match reader.op_type, position:
        case "Conv", 1:
            value = noise * np.sqrt(2 / np.prod(shape[1:]))
        case "Gemm", 1:
            value = noise * np.sqrt(1 / max(shape[-2:]))
        case ("BatchNormalization", 1) | ("Mul", _):
            value = 1 + 0.1 * noise
        case "BatchNormalization", 4:
            value = 1 + 0.1 * np.abs(noise)
        case _:
            value = 0.1 * noise
    return np.asarray(value, np.float32)


def calibrate(model: onnx.ModelProto, seed: int = 0) -> None:
    """Give each BatchNormalization the mean and (slightly raised) variance of its input for one random image.

    In a copy of the graph every normalisation is replaced by one with the statistics of its own input, which become
    outputs: one run gives them all, each computed downstream of the others as in the finished model.
    """
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    if not norms:
        return
    statistics = _statistics(model, {node.output[0] for node in norms}, seed)
    index = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in norms:
        for name, value in zip(node.input[3:], statistics[node.output[0]], strict=True):
            index[name].CopyFrom(numpy_helper.from_array(value, name))


def _statistics(model: onnx.ModelProto, outputs: set[str], seed: int) -> dict[str, tuple[Array, Array]]:
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    graph = probe.graph
    nodes = list(graph.node)
    del graph.node[:], graph.output[:]
    for node in nodes:
        graph.node.extend(_self_normalising(node) if node.op_type == "BatchNormalization" else [node])
    wanted = [f"{name}/{kind}" for name in sorted(outputs) for kind in ("mean", "stable")]
    graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted)
    graph.initializer.append(numpy_helper.from_array(np.array(1e-3, np.float32), "probe/eps"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    x = np.random.default_rng(seed).standard_normal(image.shape).astype(np.float32)
    found = dict(zip(wanted, session.run(wanted, {image.name: x}), strict=True))
    return {name: (found[f"{name}/mean"].ravel(), found[f"{name}/stable"].ravel()) for name in outputs}


def _self_normalising(norm: onnx.NodeProto) -> list[onnx.NodeProto]:
    """`norm` with the mean and variance of its input over all but the channels, at opset 9."""
    x, scale, bias, y = norm.input[0], norm.input[1], norm.input[2], norm.output[0]

    def node(op: str, inputs: list[str], output: str) -> onnx.NodeProto:
        axes = {"ReduceMean": [0, 2, 3], "Unsqueeze": [1, 2]}.get(op)
        made = helper.make_node(op, inputs, [output])
        made.attribute.extend([helper.make_attribute("axes", axes)] if axes else [])
        return made

    return [
        node("Unsqueeze", [scale], f"{y}/scale"),
        node("Unsqueeze", [bias], f"{y}/bias"),
        node("ReduceMean", [x], f"{y}/mean"),
        node("Sub", [x, f"{y}/mean"], f"{y}/centred"),
        node("Mul", [f"{y}/centred", f"{y}/centred"], f"{y}/square"),
        node("ReduceMean", [f"{y}/square"], f"{y}/variance"),
        node("Add", [f"{y}/variance", "probe/eps"], f"{y}/stable"),
        node("Sqrt", [f"{y}/stable"], f"{y}/deviation"),
        node("Div", [f"{y}/centred", f"{y}/deviation"], f"{y}/unit"),
        node("Mul", [f"{y}/unit", f"{y}/scale"], f"{y}/scaled"),
        node("Add", [f"{y}/scaled", f"{y}/bias"], y),
    ]


def write(name: str, path: Path) -> None:
    """Write architecture `name` with weights at `path`, the same bytes every time."""
    seed = zlib.crc32(name.encode())
    model = materialise(onnx.load(source(name)), seed)
    calibrate(model, seed)
    onnx.save(model, path)

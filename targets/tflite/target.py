"""The TensorFlow Lite target: options, preparation, emission."""

from __future__ import annotations

from pathlib import Path

from compiler.errors import UsageError
from compiler.graph import Graph, Value
from compiler.ops.layout import order_of
from compiler.pass_base import PIPELINES, Step
from compiler.target import Target, refuse
from compiler.tensor import BOOL, I8, I16, I32, I64, U8, U16, DType
from passes.choose_layout import ChooseLayout
from targets.tflite.artifact import Port, TfLiteArtifact
from targets.tflite.lower import TABLE, Lowering
from targets.tflite.lower.table import HELD_TYPES
from targets.tflite.model import Model
from targets.tflite.schema import schema
from targets.tflite.writer import write

PRECISIONS = ("fp32", "fp16")
LAYOUTS = ("nhwc", "keep", "nchw")
TOLERANCE_DB = {"fp16": 50.0, "fp32": 90.0}
LOGICAL = ("cumprod", "reverse_sequence")  # lowered in their logical order only
FILE_TYPES: dict[DType, str] = {BOOL: "BOOL", I8: "INT8", I16: "INT16", I32: "INT32", I64: "INT64", U8: "UINT8",
                                U16: "UINT16"}  # fmt: skip


class TfLiteTarget(Target):
    """A .tflite file of builtin operators.

    precision   fp32 (default), or fp16: weights are stored in 16 bits and widened when the model is loaded
    io_layout   nhwc (default): images among the inputs and outputs are channels-last in the file; keep or nchw: as in
                the ONNX model
    """

    name = "nnapi"
    suffix = ".tflite"
    accepts = frozenset(("precision", "io_layout"))

    def __init__(self, precision: str = "fp32", io_layout: str = "nhwc") -> None:
        for what, value, known in (("precision", precision, PRECISIONS), ("I/O layout", io_layout, LAYOUTS)):
            if value not in known:
                raise UsageError(f"there is no {what} {value!r} for nnapi", hint=f"choose one of {', '.join(known)}")
        self.precision = precision
        self.io_layout = io_layout

    def pipeline(self) -> tuple[Step, ...]:
        ports = "nhwc" if self.io_layout == "nhwc" else "keep"
        return (*PIPELINES["default"], ChooseLayout(inputs=ports, outputs=ports, logical=LOGICAL))

    @property
    def tolerance_db(self) -> float:
        return TOLERANCE_DB[self.precision]

    def prepare(self, graph: Graph) -> Graph:
        """Check every layer against the table. Raises LegalityError with all objections."""
        ports = [
            f"{v!r} as input or output of the model -- needs at least one element of known type and number"
            for v in (*graph.inputs, *graph.outputs)
            if not v.type.is_static or 0 in v.type.shape or v.type.dtype not in HELD_TYPES
        ]
        refuse(
            "nnapi",
            TABLE.objections(graph) or ports,
            "docs/targets/nnapi-operations.md lists what runs; --target onnx writes the rewritten model",
        )
        return graph

    def emit(self, graph: Graph, path: Path) -> TfLiteArtifact:
        schema()  # says what is missing before work is done
        model = Model()
        model.description = graph.name
        lowering = Lowering(model, self.precision)
        inputs = [_input(lowering, v) for v in graph.inputs]
        TABLE.lower(lowering, graph)
        outputs = [_output(lowering, v, name) for v, name in zip(graph.outputs, graph.output_names, strict=True)]
        model.drop_unread()
        write(model, path)
        return TfLiteArtifact(path, inputs, outputs, lowering.warnings, model.counts())


def _file_type(p: Lowering, t: DType) -> str:
    """The element type in the file nearest to the model's own."""
    return FILE_TYPES.get(t) or p.dtype(t)


def _input(p: Lowering, v: Value) -> Port:
    order = order_of(v.type)
    tensor = p.model.input(v.name, _file_type(p, v.type.dtype), tuple(v.type.dims[i] for i in order))
    p.bind(v, p.cast(tensor, p.dtype(v.type.dtype)), order)
    return Port(v.name, v.type, order)


def _output(p: Lowering, v: Value, name: str) -> Port:
    """A tensor of its own for each output."""
    order = order_of(v.type)
    tensor = p.cast(p.get(v, order), _file_type(p, v.type.dtype))
    taken = [t for _, t in (*p.model.inputs, *p.model.outputs)]
    if tensor.constant is not None or any(t is tensor for t in taken):
        tensor = p.add("RESHAPE", [tensor, p.ints(tensor.shape)], tensor.dtype, tensor.shape, NewShape=tensor.shape)
    tensor.name = name
    p.model.outputs.append((name, tensor))
    return Port(name, v.type, order)

"""The TensorFlow Lite target: options, preparation, emission."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.errors import UsageError
from compiler.graph import Graph, Value
from compiler.ops.layout import order_of
from compiler.pass_base import PIPELINES, Step
from compiler.rewrite import Unobserved
from compiler.target import Target, refuse
from compiler.tensor import BOOL, I8, I16, I32, I64, U8, U16, Array, DType
from passes.absorb_shuffle import AbsorbShuffle
from passes.centre_residual import CentreResidual
from passes.choose_layout import ChooseLayout
from passes.contract_heads import ContractHeads
from passes.decompose import Decompose
from passes.expand_int8 import ExpandInt8
from passes.fold_norm_affine import FoldNormAffine
from passes.hoist_slice import HoistSlice
from passes.lift_rows import LiftRows
from passes.merge_casts import MergeCasts
from passes.merge_reshapes import MergeReshapes
from passes.narrow_integers import NarrowIntegers
from passes.project_heads import ProjectHeads
from passes.remove_dead import RemoveDead
from passes.remove_identity import RemoveIdentity
from passes.track_channels import TrackChannels
from targets.tflite.artifact import Port, TfLiteArtifact
from targets.tflite.halves import HalfWeights
from targets.tflite.in_place import keep_apart
from targets.tflite.int8 import Int8Model, account, listed, ports_of
from targets.tflite.int8_rules import scheme
from targets.tflite.lower import TABLE, Lowering
from targets.tflite.lower.dynamic import is_dynamic
from targets.tflite.lower.table import HELD_TYPES
from targets.tflite.model import Model
from targets.tflite.schema import schema
from targets.tflite.writer import write

if TYPE_CHECKING:
    from targets.calibrated import Calibrated

DECOMPOSE = Decompose(keeps=TABLE.accepts)
PRECISIONS = ("fp32", "fp16", "int8")
IO_DTYPES = ("int8", "uint8", "float32")
LAYOUTS = ("nhwc", "keep", "nchw")
TOLERANCE_DB = {"fp16": 60.0, "fp32": 90.0, "int8": 20.0}
MOST_ELEMENTS = 2**31
LOGICAL = ("cumprod", "reverse_sequence")  # lowered in their logical order only
BLOCKS = (
    HoistSlice(),
    FoldNormAffine(),
    CentreResidual(),
    ProjectHeads(),
    ContractHeads(),
    LiftRows(),
    MergeReshapes(),
    RemoveIdentity(),
)
NARROW = (NarrowIntegers(), MergeCasts(), RemoveDead())
FILE_TYPES: dict[DType, str] = {BOOL: "BOOL", I8: "INT8", I16: "INT16", I32: "INT32", I64: "INT64", U8: "UINT8",
                                U16: "UINT16"}  # fmt: skip


class TfLiteTarget(Target):
    """A .tflite file of builtin operators.

    precision   fp32 (default), or fp16: weights are stored in 16 bits and widened when the model is loaded, but for
                those that accuracy needs in 32; or int8: weights and arithmetic in 8-bit integers
    calibrate   data that shows what numbers occur, for int8: what `compiler.calibrate` takes
    observer    how ranges are chosen from it, for int8: auto (default), minmax, ...
    io_dtype    of inputs and outputs that are real numbers, for int8: int8 (default), uint8 or float32
    io_layout   nhwc (default): images among the inputs and outputs are channels-last in the file; keep or nchw: as in
                the ONNX model
    """

    name = "nnapi"
    suffix = ".tflite"
    accepts = frozenset(("precision", "io_layout", "calibrate", "observer", "io_dtype"))

    def __init__(
        self,
        precision: str = "fp32",
        io_layout: str = "nhwc",
        calibrate: object = None,
        observer: str | None = None,
        io_dtype: str | None = None,
    ) -> None:
        choices = (
            ("precision", precision, PRECISIONS),
            ("I/O layout", io_layout, LAYOUTS),
            ("I/O element type", io_dtype or "int8", IO_DTYPES),
        )
        for what, value, known in choices:
            if value not in known:
                raise UsageError(f"there is no {what} {value!r} for nnapi", hint=f"choose one of {', '.join(known)}")
        _expect_int8(precision, calibrate=calibrate, observer=observer, io_dtype=io_dtype)
        self.precision = precision
        self.io_layout = io_layout
        self.io_dtype = io_dtype or "int8"
        self.calibrated = _calibrated(calibrate, observer or "auto") if precision == "int8" else None

    def pipeline(self) -> tuple[Step, ...]:
        ports = "nhwc" if self.io_layout == "nhwc" else "keep"
        return (
            *PIPELINES["default"],
            DECOMPOSE,
            *NARROW,
            TrackChannels(),
            AbsorbShuffle(),
            *BLOCKS,
            *([] if self.calibrated is None else [ExpandInt8()]),
            ChooseLayout(inputs=ports, outputs=ports, logical=LOGICAL),
            *(() if self.calibrated is None else self.calibrated.steps(scheme())),
        )

    @property
    def tolerance_db(self) -> float:
        return TOLERANCE_DB[self.precision]

    def prepare(self, graph: Graph) -> Graph:
        """Check every layer against the table. Raises LegalityError with all objections."""
        DECOMPOSE.run(graph, Unobserved())
        refuse(
            "nnapi",
            TABLE.objections(graph) or [*_strange_ports(graph), *_huge_values(graph)],
            "docs/targets/nnapi-operations.md lists what runs; --target onnx writes the rewritten model",
        )
        return graph

    def examples(self, graph: Graph) -> Mapping[str, Array] | None:
        return None if self.calibrated is None else self.calibrated.example(graph)

    def _in_integers(self, p: Lowering, inputs: list[Port], outputs: list[Port]) -> tuple[list[Port], list[Port]]:
        """Turn the model into one of 8-bit integers; LegalityError if it cannot be all of it and that is asked for."""
        islands = Int8Model(p.model, self.io_dtype).islands
        if self.strict:
            refuse("nnapi, full int8", listed(islands), "without --strict they stay floats between integers")
        p.warnings += [*account(islands), *(self.calibrated.notes if self.calibrated else [])]
        quants = ports_of(p.model)
        first, second = ([o._replace(quant=quants.get(o.name)) for o in ports] for ports in (inputs, outputs))
        return first, second

    def emit(self, graph: Graph, path: Path) -> TfLiteArtifact:
        schema()  # says what is missing before work is done
        model = Model()
        model.description = graph.name
        lowering = Lowering(model, self.precision)
        lowering.weights.learn(graph.constants)
        inputs = [_input(lowering, v) for v in graph.inputs]
        TABLE.lower(lowering, graph)
        outputs = [_output(lowering, v, name) for v, name in zip(graph.outputs, graph.output_names, strict=True)]
        model.drop_unread()
        if self.precision == "int8":
            inputs, outputs = self._in_integers(lowering, inputs, outputs)
        keep_apart(model)
        halves = HalfWeights(model)
        write(model, path)
        return TfLiteArtifact(path, inputs, outputs, lowering.warnings, model, halves)


def _calibrated(source: object, observer: str) -> Calibrated:
    from targets.calibrated import Calibrated  # with all that reads data: for int8 only

    return Calibrated(source, observer)


def _expect_int8(precision: str, **given: object) -> None:
    """UsageError unless calibration data comes with int8, and int8 with calibration data."""
    if precision == "int8" and given["calibrate"] is None:
        raise UsageError(
            "precision int8 needs data that shows what numbers occur",
            hint="--calibrate FILE.npz with a few hundred rows for each input; --calibrate synthetic for a trial run",
        )
    for name, value in given.items():
        if value is not None and precision != "int8":
            raise UsageError(f"--{name.replace('_', '-')} is for --precision int8")


def _strange_ports(graph: Graph) -> list[str]:
    return [
        f"{v!r} as input or output of the model -- needs a known size, and booleans or numbers of 8 bits or more"
        for v in dict.fromkeys((*graph.inputs, *graph.outputs))
        if not (v.type.is_static or is_dynamic(v)) or v.type.dtype not in HELD_TYPES
    ]


def _huge_values(graph: Graph) -> list[str]:
    """The runtime counts elements, and the file the lengths of axes, in 32 bits."""
    values = (*graph.inputs, *graph.constants, *(v for n in graph.nodes for v in n.outputs))
    return [
        f"{v!r} -- needs fewer than 2^31 elements" for v in values if v.type.is_static and v.type.size >= MOST_ELEMENTS
    ]


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

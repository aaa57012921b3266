"""The TensorFlow Lite target: options, preparation, emission."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.errors import UsageError
from compiler.graph import Graph, Value
from compiler.ops.layout import order_of
from compiler.pass_base import PIPELINES, Pass, Step
from compiler.rewrite import Unobserved
from compiler.target import expect_choice, no_data, refuse
from compiler.tensor import BOOL, I8, I16, I32, I64, U8, U16, DType
from passes._qdq import carries_scales, is_held
from passes.absorb_qdq import AbsorbQdq
from passes.absorb_shuffle import AbsorbShuffle
from passes.annotate_int8 import AnnotateInt8
from passes.annotate_weights import AnnotateWeights
from passes.centre_residual import CentreResidual
from passes.choose_layout import ChooseLayout
from passes.contract_heads import ContractHeads
from passes.decompose import Decompose
from passes.eliminate_common import EliminateCommon
from passes.expand_int8 import ExpandInt8
from passes.fold_norm_affine import FoldNormAffine
from passes.hoist_slice import HoistSlice
from passes.lift_rows import LiftRows
from passes.merge_casts import MergeCasts
from passes.merge_reshapes import MergeReshapes
from passes.narrow_integers import NarrowIntegers
from passes.pool_to_mean import PoolToMean
from passes.project_heads import ProjectHeads
from passes.remove_dead import RemoveDead
from passes.remove_identity import RemoveIdentity
from passes.split_qlinear import SplitQlinear
from passes.track_channels import TrackChannels
from targets.quantizing import QuantizingTarget, calibrated
from targets.tflite.artifact import Port, TfLiteArtifact
from targets.tflite.halves import HalfWeights
from targets.tflite.in_place import keep_apart
from targets.tflite.int8 import Int8Model, ports_of
from targets.tflite.int8_account import account, copies, listed
from targets.tflite.int8_rules import scheme
from targets.tflite.lower import TABLE, Lowering
from targets.tflite.lower.dynamic import is_dynamic
from targets.tflite.lower.table import HELD_TYPES
from targets.tflite.model import Model
from targets.tflite.schema import schema
from targets.tflite.substitutions import NEWEST, checked_level, substitutions
from targets.tflite.weights import store_weights
from targets.tflite.writer import write

if TYPE_CHECKING:
    from passes._search import Budget
    from targets.calibrated import Calibrated

DECOMPOSE = Decompose(keeps=TABLE.accepts)
DECOMPOSE_UNKNOWN = Decompose(keeps=lambda node: TABLE.accepts(node) or is_held(node))
INTEGERS = ("int8", "int16x8")
PRECISIONS = ("fp32", "fp16", *INTEGERS)
IO_DTYPES = ("int8", "uint8", "int16", "float32")
OPTIONS = ("precision", "io_layout", "calibrate", "observer", "io_dtype", "repair", "max_drop", "min_psnr", "weights",
           "block_size", "feature_level")  # fmt: skip
LAYOUTS = ("nhwc", "keep", "nchw")
TOLERANCE_DB = {"fp16": 60.0, "fp32": 90.0, "int8": 20.0, "int16x8": 30.0}
WEIGHTS_DB = {"int8": 24.0, "int4": 6.0}
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
    EliminateCommon(),
)
NARROW = (NarrowIntegers(), MergeCasts(), RemoveDead())
FILE_TYPES: dict[DType, str] = {BOOL: "BOOL", I8: "INT8", I16: "INT16", I32: "INT32", I64: "INT64", U8: "UINT8",
                                U16: "UINT16"}  # fmt: skip


class TfLiteTarget(QuantizingTarget):
    """A .tflite file of builtin operators.

    precision   fp32 (default), or fp16: weights are stored in 16 bits and widened when the model is loaded, but for
                those that accuracy needs in 32; or int8: weights and arithmetic in 8-bit integers, the default for a
                quantized model, which keeps its scales; or int16x8: with activations of 16 bits
    calibrate   data that shows what numbers occur, for int8: what `compiler.calibrate` takes; a quantized model needs
                none
    observer    how ranges are chosen from it, for int8: auto (default), minmax, ...
    repair      what may repair the cost of rounding, for int8: auto (default), off, or names of passes
    io_dtype    of inputs and outputs that are real numbers, for int8: as they are inside (default; float32 of a
                quantized model), int8, uint8, int16 or float32
    max_drop    the largest share of the calibration rows whose class may change, for int8, as 0.5% or 0.005; min_psnr:
                the least PSNR of an output on them, in dB; where int8 misses it, layers get 16 bits or stay floats
    weights     int8 or int4: weights alone are stored in so few bits, with a scale for each channel; inputs, results
                and what is between stay floats
    feature_level  the oldest feature level of NNAPI that is to take the file, 1 to 8 (default: the newest): int8 layers
                that came later are replaced where that is known, and those that stay are told
    io_layout   nhwc (default): images among the inputs and outputs are channels-last in the file; keep or nchw: as in
                the ONNX model
    """

    name = "nnapi"
    suffix = ".tflite"
    accepts = frozenset(OPTIONS)

    def __init__(
        self,
        precision: str | None = None,
        io_layout: str = "nhwc",
        calibrate: object = None,
        observer: str | None = None,
        io_dtype: str | None = None,
        repair: str | None = None,
        max_drop: str | float | None = None,
        min_psnr: float | None = None,
        weights: str | None = None,
        block_size: int | None = None,
        feature_level: int | None = None,
    ) -> None:
        choices = (
            ("precision", precision or "fp32", PRECISIONS),
            ("I/O layout", io_layout, LAYOUTS),
            ("I/O element type", io_dtype or "int8", IO_DTYPES),
        )
        for what, value, known in choices:
            if value not in known:
                hint = f"choose one of {', '.join(known)}"
                raise UsageError(f"there is no {what} {value!r} for {self.name}", hint=hint)
        of_int8 = {"observer": observer, "io_dtype": io_dtype, "repair": repair}
        _expect_int8(precision, calibrate=calibrate, **of_int8, max_drop=max_drop, min_psnr=min_psnr)
        self.precision = precision or "fp32"
        self._is_open = precision is None
        self.keeps_scales = False
        self.io_layout = io_layout
        self.io_dtype = io_dtype
        if observer is None and precision != "int8":
            observer = "minmax"  # 16 bits clip nothing
        self.calibrated = None if calibrate is None else calibrated(calibrate, observer, repair)
        self.budget = _budget(self.calibrated, max_drop, min_psnr)
        self.weights = _weights(weights, block_size, precision)
        self._kept: tuple[str, ...] = ()
        self.feature_level = checked_level(self.name, feature_level)

    def pipeline(self) -> tuple[Step, ...]:
        ports = "nhwc" if self.io_layout == "nhwc" else "keep"
        return (
            *([SplitQlinear()] if self.keeps_scales else []),
            *PIPELINES["default"],
            *self.substitutions(early=True),
            DECOMPOSE_UNKNOWN if self.keeps_scales else DECOMPOSE,
            *NARROW,
            TrackChannels(),
            AbsorbShuffle(),
            *BLOCKS,
            *([] if self.calibrated is None else [PoolToMean(), ExpandInt8()]),
            *self.substitutions(),
            ChooseLayout(inputs=ports, outputs=ports, logical=LOGICAL),
            *([AbsorbQdq()] if self.keeps_scales else []),
            *([AnnotateWeights(kind=self.weights, block=0)] if self.weights else []),
            *([AnnotateWeights(kept="+".join(self._kept))] if self._kept else []),
            *self._annotations(),
        )

    @property
    def storages(self) -> Sequence[str]:
        """One scale for each channel: delegates and kernels read others differently."""
        return tuple(WEIGHTS_DB) if self.precision == "fp32" and not self.weights else ()

    def before_rounding(self) -> Sequence[Pass]:
        return FoldNormAffine(), CentreResidual()

    def keep(self, storages: Sequence[str]) -> None:
        self._kept = tuple(storages)

    def _annotations(self) -> tuple[Step, ...]:
        if self.calibrated is not None:
            steps = self.calibrated.steps(scheme(), self.precision == "int16x8")
            return steps if self.budget is None else (*steps, _fall_back(self.budget))
        return (AnnotateInt8(scheme=scheme()),) if self.keeps_scales else ()

    def settle(self, graph: Graph, absorbs: bool = True) -> bool:
        """A quantized model keeps its scales and is int8 unless another precision is asked for."""
        if self.precision != "int8" and (not self._is_open or self.weights):
            return False
        self.keeps_scales = absorbs and carries_scales(graph)
        if self.keeps_scales:
            self.precision, self.io_dtype = "int8", self.io_dtype or "float32"
        elif self.precision == "int8" and self.calibrated is None:
            raise no_data(self.precision)
        elif self._is_open and self.io_dtype:
            raise UsageError("--io-dtype is for --precision int8, or for a model that is quantized")
        return self.keeps_scales

    def substitutions(self, early: bool = False) -> tuple[Step, ...]:
        """The passes around layers that the device does not compute in integers."""
        level = NEWEST if self.feature_level is None else self.feature_level
        return substitutions(self.name, level, early) if self.precision == "int8" else ()

    @property
    def tolerance_db(self) -> float:
        """Weights in fewer bits are another function; what is required tells a wrong file from a coarse one."""
        kinds = (self.weights,) if self.weights else self._kept
        return min((WEIGHTS_DB[kind] for kind in kinds), default=TOLERANCE_DB[self.precision])

    def prepare(self, graph: Graph) -> Graph:
        """Check every layer against the table. Raises LegalityError with all objections."""
        DECOMPOSE.run(graph, Unobserved())
        refuse(
            self.name,
            TABLE.objections(graph) or [*_strange_ports(graph), *_huge_values(graph)],
            "docs/targets/nnapi-operations.md lists what runs; --target onnx writes the rewritten model",
        )
        return graph

    def _in_integers(self, p: Lowering, inputs: list[Port], outputs: list[Port]) -> tuple[list[Port], list[Port]]:
        """Turn the model into one of integers; LegalityError if it cannot be all of it and that is asked for."""
        islands = Int8Model(p.model, self.io_dtype).islands
        if self.strict:
            hint = "without --strict they stay floats between integers"
            hint += "" if self.calibrated else "; --calibrate DATA.npz finds the ranges that are not known"
            refuse(f"{self.name}, full int8", listed(islands), hint)
        notes = self.calibrated.notes if self.calibrated else []
        p.warnings += [*account(islands, self.calibrated is not None), *notes]
        quants = ports_of(p.model)
        first, second = (
            [o._replace(quant=quants.get(o.name)) if o.type.dtype.is_float else o for o in ports]
            for ports in (inputs, outputs)
        )
        return first, second

    def emit(self, graph: Graph, path: Path) -> TfLiteArtifact:
        schema()  # says what is missing before work is done
        artifact = self._written(graph, path) if self.budget is None else self._within_budget(self.budget, graph, path)
        if self.feature_level is not None:
            from targets.tflite.levels import beyond  # with all that checks files: where it is asked for

            artifact.warnings += beyond(path, self.name, self.feature_level, self.strict)
        return artifact

    def _within_budget(self, budget: Budget, graph: Graph, path: Path) -> TfLiteArtifact:
        from targets.tflite.budgeted import within_budget  # with all that checks files: for budgets only

        return within_budget(budget, graph, self.name, self.strict, lambda: self._written(graph, path))

    def _stored_weights(self, model: Model, graph: Graph) -> list[str]:
        """Store the annotated weights in few bits; a warning about those whose form in the file has other axes."""
        asked, stored = sum(v.type.quant is not None for v in graph.constants), store_weights(model)
        if stored >= asked:
            return []
        return [f"{asked - stored} of {asked} weights stay in 32 bits: what the file holds has no axis of their scales"]

    def _written(self, graph: Graph, path: Path) -> TfLiteArtifact:
        model = Model()
        model.description = graph.name
        lowering = Lowering(model, self.precision)
        lowering.reals = self.budget.reals if self.budget is not None else ()
        lowering.weights.learn(graph.constants)
        inputs = [_input(lowering, v) for v in graph.inputs]
        TABLE.lower(lowering, graph)
        outputs = [_output(lowering, v, name) for v, name in zip(graph.outputs, graph.output_names, strict=True)]
        model.drop_unread()
        if self.precision in INTEGERS:
            inputs, outputs = self._in_integers(lowering, inputs, outputs)
        elif self.weights or self._kept:
            lowering.warnings += self._stored_weights(model, graph)
        keep_apart(model)
        halves = HalfWeights(model)
        write(model, path)
        artifact = TfLiteArtifact(path, inputs, outputs, lowering.warnings, model, halves)
        artifact.notes += copies(model) if self.keeps_scales else []
        return artifact


def _weights(kind: str | None, block: int | None, precision: str | None) -> str:
    """UsageError for weights that no operator of the file reads."""
    if kind is None:
        if block is not None:
            raise UsageError("--block-size is for --weights")
        return ""
    expect_choice("nnapi", "form of weights", kind, tuple(WEIGHTS_DB))
    if block:
        raise UsageError(
            "the target nnapi stores no blocks of weights: one delegate reads them, and LiteRT's own kernels compute"
            " other numbers from the same file, without an error",
            hint="leave --block-size away; --target ane and --target onnx have blocks",
        )
    if precision not in (None, "fp32"):
        raise UsageError("--weights is for a model that computes in floats", hint=f"leave --precision {precision} away")
    return kind


def _fall_back(budget: Budget) -> Step:
    from passes.fall_back import FallBack  # for budgets only

    return FallBack(scheme=scheme(), budget=budget)


def _budget(calibrated: Calibrated | None, max_drop: str | float | None, min_psnr: float | None) -> Budget | None:
    if calibrated is None or (max_drop is None and min_psnr is None):
        return None
    from targets.budget import budget_of  # which reads data

    return budget_of(calibrated, max_drop, min_psnr)


def _expect_int8(precision: str | None, **given: object) -> None:
    """UsageError unless calibration data comes with integers, and integers with calibration data; of an int8 model
    that may bring its scales, and of its ports, `settle` decides."""
    asked = {name for name, value in given.items() if value is not None}
    if precision in INTEGERS and "calibrate" not in asked and (precision != "int8" or asked - {"io_dtype"}):
        raise no_data(precision)
    for name in given:
        if name in asked and precision not in INTEGERS and (precision is not None or name != "io_dtype"):
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

"""The Core ML target: options, preparation, emission."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compiler import ops
from compiler.errors import UsageError
from compiler.graph import Graph, Node, Value
from compiler.pass_base import PIPELINES, Step
from compiler.rewrite import Unobserved
from compiler.target import expect_choice, expect_int8, refuse
from compiler.tensor import BOOL, F16, TensorType
from passes._compress import expect_kind
from passes._qdq import carries_scales, is_held
from passes.absorb_qdq import AbsorbQdq
from passes.annotate_weights import AnnotateWeights
from passes.decompose import Decompose
from passes.drop_empty import is_empty
from passes.split_qlinear import SplitQlinear
from targets.apple import authoring, engine
from targets.apple.borders import Border, borders
from targets.coreml import opset
from targets.coreml.artifact import CoreMLArtifact, Port
from targets.coreml.compressed import needed_ios, share
from targets.coreml.dtypes import MAX_RANK
from targets.coreml.image import parse_image
from targets.coreml.int8 import remarks, scheme, settle
from targets.coreml.lower import TABLE, Lowering
from targets.coreml.lower.rounded import round_value
from targets.coreml.mil import Program, identifier
from targets.quantizing import QuantizingTarget, calibrated

PRECISIONS = ("fp16", "fp32", "int8")
TOLERANCE_DB = {"fp16": 45.0, "fp32": 60.0, "int8": 20.0}
WEIGHTS_DB = {"int8": 24.0, "int4": 6.0, "palette8": 24.0, "palette6": 16.0, "palette4": 6.0, "palette3": 3.0}
DEFAULT_TARGET = "iOS17"
SINCE_INT8 = 17  # the iOS version with quantize and dequantize
SINCE_FUSED_ATTENTION = 18
GPU = "cpu-and-gpu"
UNITS = ("all", "cpu-and-ne", GPU)
LAYOUTS = ("keep", "engine")
OF_BYTES = (  # whose parts need whole numbers that fp16 does not hold
    ops.QuantizeLinear, ops.DequantizeLinear, ops.DynamicQuantizeLinear, ops.ConvInteger, ops.QLinearConv,
    ops.MatMulInteger, ops.QLinearMatMul,
)  # fmt: skip


class CoreMLTarget(QuantizingTarget):
    """A package for iOS and macOS, and for the Neural Engine in the first place.

    precision          fp16 (default) or fp32: the element type of every float tensor inside; inputs and outputs keep
                       the model's types where Core ML has them (64-bit types become 32-bit ones). int8: fp16 with
                       8-bit weights and operands where Core ML computes in 8 bits, the default for a quantized model,
                       which keeps its scales
    weights            stored as int8, int4, palette1, 2, 3, 4, 6 or 8, and expanded on the device
    block_size         of int8 and int4 the elements with one scale, of palettes the channels with one table (0: all)
    calibrate          data that shows what numbers occur, for int8: what `compiler.calibrate` takes; a quantized model
                       needs none
    observer           how ranges are chosen from it, for int8: auto (default), minmax, ...
    repair             which passes may repair what int8 costs: auto (default), off, or their names
    deployment_target  iOS15 ... iOS26 (default iOS17)
    image              inputs that take images, as NAME[:scale=S,bias=R/G/B,color=RGB]
    chip               whose Neural Engine the layers are re-authored for: A14 (default) ... M6
    units              what may run the package: all (default), cpu-and-ne, or cpu-and-gpu, for which layers are not
                       re-authored and attention becomes one operation from iOS 18
    io_layout          keep (default): inputs and outputs have the model's shapes; engine: where layers only move their
                       data, they lie as behind those layers, which are left out; the package's metadata say how
    """

    name = "ane"
    suffix = ".mlpackage"
    accepts = frozenset(
        (
            "precision", "deployment_target", "image", "weights", "block_size", "calibrate", "observer", "repair",
            "chip", "units", "io_layout",
        )
    )  # fmt: skip

    def __init__(
        self,
        precision: str | None = None,
        deployment_target: str = DEFAULT_TARGET,
        image: Sequence[str] = (),
        weights: str | None = None,
        block_size: int | None = None,
        calibrate: object = None,
        observer: str | None = None,
        repair: str | None = None,
        chip: str = engine.OLDEST,
        units: str = UNITS[0],
        io_layout: str = LAYOUTS[0],
    ) -> None:
        self.chip = engine.chip(chip)
        expect_choice("ane", "compute units", units, UNITS)
        expect_choice("ane", "I/O layout", io_layout, LAYOUTS)
        self.units, self.io_layout = units, io_layout
        expect_choice("ane", "precision", precision or "fp16", PRECISIONS)
        if precision != "int8" or observer is not None or repair is not None:
            expect_int8(precision or "fp16", calibrate, observer=observer, repair=repair)
        if deployment_target not in opset.TARGETS:
            raise UsageError(
                f"there is no deployment target {deployment_target!r}", hint=f"choose one of {', '.join(opset.TARGETS)}"
            )
        self.precision = precision or "fp16"
        self._is_open = precision is None and weights is None
        self.keeps_scales = self.keeps_weights = False
        self.deployment_target = opset.target(deployment_target)
        self._target_name = deployment_target
        self._decompose = Decompose(keeps=self._keeps)
        self.images = dict(parse_image(text) for text in image)
        self.weights = self._checked_weights(weights, block_size)
        self.calibrated = None
        if precision == "int8":
            self._expect(SINCE_INT8, "--precision int8")
        if calibrate is not None:
            self.calibrated = calibrated(calibrate, observer, repair)

    @property
    def element(self) -> str:
        """The MIL type of floats inside."""
        return "fp32" if self.precision == "fp32" else "fp16"

    def _checked_weights(self, kind: str | None, block: int | None) -> AnnotateWeights | None:
        """The pass that says how weights are stored. UsageError if the options do not fit together."""
        if kind is None:
            if block is not None:
                raise UsageError("--block-size is for --weights")
            return None
        expect_kind(kind, block)
        if self.precision == "int8":
            raise UsageError("--precision int8 stores weights as int8", hint="leave --weights out")
        asked = AnnotateWeights(kind=kind, block=block, halves=self.element == "fp16")
        blocks = f" in blocks of {asked.size}" if asked.size else ""
        self._expect(needed_ios(kind, asked.size), f"--weights {kind}{blocks}")
        return asked

    def _expect(self, ios: int, what: str) -> None:
        if self.deployment_target.ios < ios:
            raise UsageError(f"{what} needs --deployment-target iOS{ios}, not {self._target_name}")

    def pipeline(self) -> tuple[Step, ...]:
        weights = () if self.weights is None else (self.weights,)
        values = () if self.calibrated is None else self.calibrated.steps(scheme())
        first = (SplitQlinear(),) if self.keeps_weights else ()
        absorb = (AbsorbQdq(),) if self.keeps_scales else ()
        written = () if self.units == GPU else authoring.steps(self.chip, self.element == "fp16")
        return (*first, *PIPELINES["default"], self._decompose, *written, *absorb, *weights, *values)

    def settle(self, graph: Graph, absorbs: bool = True) -> bool:
        """A quantized model keeps its scales and is int8 unless another precision is asked for, or Core ML has no
        layers of that; then it keeps its integers as weights."""
        quantized = absorbs and carries_scales(graph)
        ios = self.deployment_target.ios
        self.keeps_weights = quantized
        self.keeps_scales = quantized and ios >= SINCE_INT8 and (self._is_open or self.precision == "int8")
        if self.keeps_scales:
            self.precision = "int8"
        elif self.precision == "int8" and self.calibrated is None:
            expect_int8(self.precision, None)
        return self.keeps_weights

    @property
    def tolerance_db(self) -> float:
        """Weights in fewer bits are another function; what is required tells a wrong package from a coarse one."""
        required = TOLERANCE_DB[self.precision]
        return required if self.weights is None else min(required, WEIGHTS_DB.get(self.weights.kind, 0.0))

    def _keeps(self, node: Node) -> bool:
        if self.keeps_scales and is_held(node):
            return True
        return TABLE.accepts(node) or (self.element == "fp16" and isinstance(node.op, OF_BYTES))

    def prepare(self, graph: Graph) -> Graph:
        """Check inputs, layers and outputs against what Core ML and the deployment target have. Raises LegalityError
        with all objections, UsageError for images that the model cannot take."""
        self._decompose.run(graph, Unobserved())
        inputs = {v.name: v.type for v in graph.inputs}
        for name, image in self.images.items():
            if name not in inputs:
                raise UsageError(
                    f"the model has no input {name!r} to take an image",
                    hint=f"its inputs are {', '.join(map(repr, inputs))}",
                )
            image.check(name, inputs[name], self.deployment_target.ios)
        ports = [(f"input {v.name!r}", v.type) for v in graph.inputs if v.is_read]
        ports += [(f"output {name!r}", v.type) for name, v in zip(graph.output_names, graph.outputs, strict=True)]
        objections = TABLE.objections(graph) or TABLE.untimely(graph, self.deployment_target.ios)
        objections += [f"{label} : {t} -- needs {need}" for label, t in ports if (need := _port_need(t))]
        if all(map(is_empty, graph.outputs)):
            objections.append("the model -- needs an output that has elements")
        refuse("ane", objections, "docs/targets/ane.md lists what runs; --target onnx writes the rewritten model")
        settle(graph, self.deployment_target.ios, given=self.keeps_scales)
        return graph

    def emit(self, graph: Graph, path: Path) -> CoreMLArtifact:
        program = Program(self._target_name)
        program.metadata.update(graph.metadata)
        ios = self.deployment_target.ios
        fuses = self.units == GPU and ios >= SINCE_FUSED_ATTENTION
        lowering = Lowering(program, self.element, ios, fuses)
        used: set[str] = set()
        moved = borders(graph, self._may_move) if self.io_layout == "engine" else {}
        inputs = [self._input(lowering, v, _port_name(v.name, used), moved.get(v)) for v in graph.inputs]
        for v in graph.inputs:
            if v not in moved:
                round_value(lowering, v)
        TABLE.lower(lowering, graph, {node for border in moved.values() for node in border.nodes})
        outputs = [
            self._output(lowering, v, external, _port_name(external, used), moved.get(v))
            for v, external in zip(graph.outputs, graph.output_names, strict=True)
        ]
        for port in (*inputs, *outputs):
            if port.border is not None and port.border.moves:
                program.metadata[f"layout of {port.feature}"] = " ".join(map(str, port.border.moves))
        overflowed = program.save(path)
        stored = [] if self.weights is None else [share(graph)]
        notes = [] if self.calibrated is None else self.calibrated.notes
        warnings = [*lowering.warnings, *stored, *remarks(graph), *notes]
        warnings += [
            f"constant {name!r} holds finite numbers that fp16 cannot; they became infinite" for name in overflowed
        ]
        return CoreMLArtifact(path, inputs, outputs, warnings, lowering.tensors())

    def _feature_dtype(self, t: TensorType) -> str:
        """The multi-array type nearest to the model's own: fp32, int32, or fp16 from iOS 16."""
        if t.dtype.is_float:
            return "fp16" if t.dtype is F16 and self.deployment_target.ios >= 16 else "fp32"
        return "int32"

    def _may_move(self, v: Value) -> bool:
        """Whether an input or output may lie in the package in another way than in the model."""
        return v.type.dtype.is_float and v.type.quant is None and v.name not in self.images and not is_empty(v)

    def _input(self, p: Lowering, v: Value, name: str, border: Border | None) -> Port:
        """One that nothing reads and Core ML cannot have is left out of the package; its port has no feature."""
        if not v.is_read and (_port_need(v.type) or is_empty(v)):
            return Port(v.name, "", v.type)
        image = self.images.get(v.name)
        if image is not None:
            var = p.program.input(name, "fp32", v.type.dims, color=image.color)
            p.bind(v, image.preprocess(p, p.cast(var, p.precision)))
            return Port(v.name, name, v.type, image)
        port = Port(v.name, name, v.type, border=border)
        var = p.program.input(name, self._feature_dtype(v.type), port.shape)
        truth = v.type.dtype is BOOL
        inside = p.test("not_equal", var, 0) if truth else p.cast(var, p.dtype(v.type.dtype))
        held = v if border is None else border.value
        p.bind(held, p.reshape(inside, port.inner) if len(port.inner) <= MAX_RANK else inside)
        return port

    def _output(self, p: Lowering, v: Value, external: str, name: str, border: Border | None) -> Port:
        if is_empty(v):
            return Port(external, "", v.type)
        var = p.cast(p[v if border is None else border.value], self._feature_dtype(v.type))
        p.program.output(var if var.shape else p.add("expand_dims", {"x": var, "axes": [0]}, var.dtype, (1,)), name)
        return Port(external, name, v.type, border=border)


def _port_need(t: TensorType) -> str:
    """What Core ML needs of an input or output and this one lacks; nothing if it can be."""
    if t.dtype.kind not in "fiub" or (t.dtype.is_float and t.dtype.bits < 16):
        return "floats of at least 16 bits, integers or booleans"
    return "" if t.is_static else "a known size"


def _port_name(external: str, used: set[str]) -> str:
    """A name that Core ML accepts and no other input or output has, from the one in the ONNX model."""
    base = candidate = identifier(external)
    k = 0
    while candidate in used:
        k += 1
        candidate = f"{base}_{k}"
    used.add(candidate)
    return candidate

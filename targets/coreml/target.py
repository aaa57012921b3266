"""The Core ML target: options, preparation, emission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compiler import ops
from compiler.errors import UsageError
from compiler.graph import Graph, Node, Value
from compiler.pass_base import PIPELINES, Step
from compiler.rewrite import Unobserved
from compiler.split import Chunk
from compiler.target import expect_choice, expect_int8, refuse
from compiler.tensor import BOOL, F16, TensorType
from passes._qdq import carries_scales, is_held
from passes._weight_bits import storage_of
from passes.absorb_qdq import AbsorbQdq
from passes.annotate_weights import AnnotateWeights
from passes.decompose import Decompose
from passes.drop_empty import is_empty
from passes.split_qlinear import SplitQlinear
from targets.apple import engine
from targets.apple.borders import Border
from targets.apple.chunks import chunks_of
from targets.apple.halves import found
from targets.apple.placement.systems import System
from targets.apple.sparse import OFF, Sparse, told
from targets.apple.target import LAYOUTS, AppleTarget, layouts
from targets.coreml import opset
from targets.coreml.artifact import CoreMLArtifact, Port
from targets.coreml.chunks import size_warning, stored_by_layer, write_chunks
from targets.coreml.compressed import BLOCKWISE, needed_ios
from targets.coreml.dtypes import MAX_RANK
from targets.coreml.image import parse_image
from targets.coreml.int8 import remarks, scheme, settle
from targets.coreml.lower import TABLE, Lowering
from targets.coreml.lower.rounded import round_value
from targets.coreml.mil import Program
from targets.coreml.names import identifier
from targets.quantizing import calibrated

if TYPE_CHECKING:
    from targets.apple.placement.plan import Plan
    from targets.apple.placement.report import PlacementReport

PRECISIONS = ("fp16", "fp32", "int8")
DEFAULT_TARGET = "iOS17"
SINCE_HALVES = 16  # the iOS version with inputs and outputs of fp16
SINCE_SPARSE = 16  # the iOS version with constexpr_sparse_to_dense
SINCE_INT8 = 17  # the iOS version with quantize and dequantize
SINCE_FUSED_ATTENTION = 18
GPU = "cpu-and-gpu"
UNITS = ("all", "cpu-and-ne", GPU)
OF_BYTES = (  # whose parts need whole numbers that fp16 does not hold
    ops.QuantizeLinear, ops.DequantizeLinear, ops.DynamicQuantizeLinear, ops.ConvInteger, ops.QLinearConv,
    ops.MatMulInteger, ops.QLinearMatMul,
)  # fmt: skip


class CoreMLTarget(AppleTarget):
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
    approximate        names of approximations of what that engine does not run, or all, as in
                       docs/targets/ane-substitutions.md
    units              what may run the package: all (default), cpu-and-ne, or cpu-and-gpu, for which layers are not
                       re-authored and attention becomes one operation from iOS 18
    os                 the system that a placement report is for, as iOS18 or "macOS 15"; by default the oldest that
                       loads the package
    compute_plan       a JSON file with what a device plans, which a placement report is compared with
    io_layout          keep (default): inputs and outputs have the model's shapes; engine: where layers only move their
                       data, they lie as behind those layers, which are left out; the package's metadata say how
    split              the most bytes of weights in a package, as 1GB; more become a folder of several
    sparse             the share of zeros (default 0.25) from which a weight is stored as a mask and the numbers that
                       are left, if those take fewer bytes; off: all are stored
    """

    name = "ane"
    suffix = ".mlpackage"
    accepts = frozenset(
        (
            "precision", "deployment_target", "image", "weights", "block_size", "calibrate", "observer", "repair",
            "chip", "approximate", "units", "os", "compute_plan", "io_layout", "split", "sparse",
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
        approximate: str = "",
        units: str = UNITS[0],
        os: str | None = None,
        compute_plan: str | None = None,
        io_layout: str = LAYOUTS[0],
        split: str | None = None,
        sparse: str | float | None = None,
    ) -> None:
        super().__init__(chip, approximate, io_layout, split, sparse)
        expect_choice("ane", "set of compute units", units, UNITS)
        self.units = units
        expect_choice("ane", "precision", precision or "fp16", PRECISIONS)
        if precision != "int8" or observer is not None or repair is not None:
            data = None if precision in (None, "fp16") else calibrate  # which shows what halves must hold
            expect_int8(precision or "fp16", data, observer=observer, repair=repair)
        if deployment_target not in opset.TARGETS:
            raise UsageError(
                f"there is no deployment target {deployment_target!r}", hint=f"choose one of {', '.join(opset.TARGETS)}"
            )
        self.precision = precision or "fp16"
        self._is_open = precision is None and weights is None
        self.keeps_scales = self.keeps_weights = False
        self.deployment_target = opset.target(deployment_target)
        self.system = System.of(os or deployment_target)
        self.plan = None if compute_plan is None else _plan_in(compute_plan)
        self._target_name = deployment_target
        self._decompose = Decompose(keeps=self._keeps)
        self.images = dict(parse_image(text) for text in image)
        self.weights = self._checked_weights(weights, block_size)
        self.calibrated = None
        if precision == "int8":
            self._expect(SINCE_INT8, "--precision int8")
        if calibrate is not None:
            self.calibrated = calibrated(calibrate, observer, repair)
        if sparse not in (None, OFF):
            self._expect(SINCE_SPARSE, "--sparse")

    def _checked_weights(self, kind: str | None, block: int | None) -> AnnotateWeights | None:
        """The pass that says how weights are stored. UsageError if the options do not fit together."""
        asked = self.asked_weights(kind, block)
        if asked is None:
            return None
        if self.precision == "int8":
            raise UsageError("--precision int8 stores weights as int8", hint="leave --weights out")
        blocks = f" in blocks of {asked.size}" if asked.size else ""
        self._expect(needed_ios(asked.kind, asked.size), f"--weights {asked.kind}{blocks}")
        return asked

    def _expect(self, ios: int, what: str) -> None:
        if self.deployment_target.ios < ios:
            raise UsageError(f"{what} needs --deployment-target iOS{ios}, not {self._target_name}")

    @property
    def sparse(self) -> Sparse:
        """Since iOS 16, of weights in fewer bits since iOS 18; those of layers that Core ML computes in 8 bits keep all
        their numbers."""
        ios = self.deployment_target.ios
        share = self.sparse_share if ios >= SINCE_SPARSE else None
        return Sparse(share, joint=ios >= BLOCKWISE and self.precision != "int8")

    @property
    def storages(self) -> Sequence[str]:
        ios = self.deployment_target.ios
        return [s for s in super().storages if needed_ios(*storage_of(s)) <= ios]

    def pipeline(self) -> tuple[Step, ...]:
        values = () if self.calibrated is None or self.precision != "int8" else self.calibrated.steps(scheme())
        return self._steps(self.authored(engine=self.units != GPU), values)

    def unauthored(self) -> tuple[Step, ...]:
        """Without 8-bit operands, which take another run over the data."""
        return self._steps((), ())

    def placement(self, graph: Graph, plain: Graph | None) -> PlacementReport:
        from targets.apple.placement.report import report  # for --explain alone
        from targets.coreml.placed import placed

        after = placed(self._lowered(graph)[0].program)
        before = None if plain is None else placed(self._lowered(self.prepare(plain))[0].program)
        risks = found(graph, self.chip, self.rows, looks=True) if self.precision == "fp16" else []
        return report(after, before, self.chip, self.system, self.units, self.plan)._replace(risks=tuple(risks))

    def _steps(self, written: Sequence[Step], values: Sequence[Step]) -> tuple[Step, ...]:
        weights = () if self.weights is None else (self.weights,)
        first = (SplitQlinear(),) if self.keeps_weights else ()
        absorb = (AbsorbQdq(),) if self.keeps_scales else ()
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
        """One package, or a folder of them if it would hold more weights than `split` allows."""
        chunks = [] if self.split is None else self._chunks(graph, self.split)
        if len(chunks) > 1:
            artifact: CoreMLArtifact = write_chunks(path, graph, chunks, self._package, self._typed)
        else:
            artifact = self._package(graph, path)
        size = size_warning(path) if self.split is None else []
        artifact.warn([*self.stored(graph), *remarks(graph), *self.risks(graph), *size])
        artifact.notes = [*artifact.notes, *told(artifact.savings)]
        return artifact

    def _chunks(self, graph: Graph, limit: int) -> list[Chunk]:
        """The parts of a graph whose weight files have at most `limit` bytes."""
        halves = self.element == "fp16" and self.deployment_target.ios >= SINCE_HALVES
        stored = stored_by_layer(self._begin(graph)[0], graph)
        return chunks_of(graph, limit, stored, halves, lambda v: not _port_need(v.type), lambda _: 4)

    def _begin(self, graph: Graph) -> tuple[Lowering, list[Port], set[str], Mapping[Value, Border]]:
        """A program with the inputs of a graph, the names that they took, and what lies in another way at its ports."""
        program = Program(self._target_name)
        program.metadata.update(graph.metadata)
        ios = self.deployment_target.ios
        fuses = self.units == GPU and ios >= SINCE_FUSED_ATTENTION
        lowering = Lowering(program, self.element, ios, fuses, self.sparse)
        used: set[str] = set()
        moved = self.moved(graph)
        inputs = [self._input(lowering, v, _port_name(v.name, used), moved.get(v)) for v in graph.inputs]
        for v in graph.inputs:
            if v not in moved:
                round_value(lowering, v)
        return lowering, inputs, used, moved

    def _lowered(self, graph: Graph) -> tuple[Lowering, list[Port], list[Port]]:
        """The whole program of a graph with its inputs and outputs, in memory."""
        lowering, inputs, used, moved = self._begin(graph)
        program = lowering.program
        TABLE.lower(lowering, graph, {node for border in moved.values() for node in border.nodes})
        outputs = [
            self._output(lowering, v, external, _port_name(external, used), moved.get(v))
            for v, external in zip(graph.outputs, graph.output_names, strict=True)
        ]
        program.metadata.update(layouts({port.feature: port.border for port in (*inputs, *outputs)}))
        return lowering, inputs, outputs

    def _package(self, graph: Graph, path: Path) -> CoreMLArtifact:
        lowering, inputs, outputs = self._lowered(graph)
        overflowed = lowering.program.save(path)
        lost = [f"constant {name!r} holds finite numbers that fp16 cannot; they became infinite" for name in overflowed]
        warnings = [*lowering.warnings, *lost]
        return CoreMLArtifact(path, inputs, outputs, warnings, lowering.tensors(), lowering.savings)

    def _typed(self, port: Port) -> str:
        """The element type of an input or output in a package."""
        return self._feature_dtype(port.type) if port.image is None else f"image {port.image.color}"

    def _feature_dtype(self, t: TensorType) -> str:
        """The multi-array type nearest to the model's own: fp32, int32, or fp16 from iOS 16."""
        if t.dtype.is_float:
            return "fp16" if t.dtype is F16 and self.deployment_target.ios >= 16 else "fp32"
        return "int32"

    def may_move(self, v: Value) -> bool:
        return super().may_move(v) and v.name not in self.images

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


def _plan_in(path: str) -> Plan:
    from targets.apple.placement.plan import read_plan  # for --compute-plan alone

    return read_plan(path)


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

"""The Core AI target: options, preparation, emission."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.errors import UsageError
from compiler.graph import Graph, Value
from compiler.pass_base import PIPELINES, Step
from compiler.report import Section
from compiler.rewrite import Unobserved
from compiler.split import Chunk
from compiler.target import expect_choice, refuse
from compiler.tensor import BOOL, F16, I64, U64, DType, TensorType
from passes._qdq import carries_scales
from passes.decompose import Decompose
from passes.drop_empty import is_empty
from targets.apple import engine
from targets.apple.borders import Border
from targets.apple.chunks import chunks_of
from targets.apple.placement.systems import System
from targets.apple.sparse import Sparse, told
from targets.apple.target import LAYOUTS, AppleTarget, layouts
from targets.coreai.artifact import CoreAIArtifact, Port
from targets.coreai.chunks import size_warning, stored_by_layer, write_chunks
from targets.coreai.compressed import in_blocks
from targets.coreai.dtypes import NAMES, TYPES
from targets.coreai.lower import TABLE, Lowering
from targets.coreai.package import KERNELS, write_package
from targets.coreai.program import Program
from targets.quantizing import calibrated

if TYPE_CHECKING:
    from targets.coreai.custom import Carrier

PRECISIONS = ("fp16", "fp32")
ROUNDED_DB = {"fp16": 20.0, "fp32": 40.0}  # of quantized models: a sum between two steps may be rounded to either
SYSTEM = "iOS27"  # the first that has Core AI


class CoreAITarget(AppleTarget):
    """An asset for Core AI of iOS and macOS 27, for the Neural Engine in the first place.

    precision    fp16 (default) or fp32: the element type of every float tensor inside; inputs and outputs keep the
                 model's types, but for 64-bit ones, which become 32-bit ones
    weights      stored as int8, int4, palette1, 2, 3, 4, 6 or 8, and expanded on the device
    block_size   of int8 and int4 the elements with one scale, of palettes the channels with one table (0: all)
    calibrate    data that shows what fp16 must hold: what `compiler.calibrate` takes
    chip         the oldest chip that it is authored for (default A14)
    approximate  names of approximations of what that engine does not run, or all
    os           the system that a placement report is for; by default the first with Core AI
    io_layout    keep (default): inputs and outputs have the model's shapes; engine: where layers only move their data,
                 they lie as behind those layers, which are left out; the asset's metadata say how
    split        the most bytes of weights in an asset, as 1GB; more become a folder of several
    sparse       the share of zeros (default 0.25) from which a weight is stored as a mask and the numbers that are
                 left, if those take fewer bytes; off: all are stored
    custom_kernels  layers that Core AI has no operations for are kernels of the Metal target
    """

    name = "coreai"
    suffix = ".aimodel"
    accepts = frozenset(
        (
            "precision", "weights", "block_size", "calibrate", "chip", "approximate", "os", "io_layout", "split",
            "sparse", "custom_kernels",
        )
    )  # fmt: skip

    def __init__(
        self,
        precision: str | None = None,
        weights: str | None = None,
        block_size: int | None = None,
        calibrate: object = None,
        chip: str = engine.OLDEST,
        approximate: str = "",
        os: str = SYSTEM,
        io_layout: str = LAYOUTS[0],
        split: str | None = None,
        sparse: str | float | None = None,
        custom_kernels: bool = False,
    ) -> None:
        super().__init__(chip, approximate, io_layout, split, sparse)
        expect_choice("coreai", "precision", precision or "fp16", PRECISIONS)
        self.precision = precision or "fp16"
        self.system = System.of(os)
        self.weights = self.asked_weights(weights, block_size)
        if calibrate is not None:
            if self.precision != "fp16":
                raise UsageError("--calibrate shows what fp16 must hold", hint="leave --calibrate or --precision away")
            self.calibrated = calibrated(calibrate, None, None)
        self.custom_kernels = custom_kernels
        self._is_rounded = False
        self._decompose = Decompose(keeps=TABLE.accepts)

    @property
    def sparse(self) -> Sparse:
        """The dialect has no mask for integers of 4 bits."""
        return Sparse(self.sparse_share, joint=self.weights is None or self.weights.kind != "int4")

    def pipeline(self) -> tuple[Step, ...]:
        return self._steps(self.authored())

    def unauthored(self) -> tuple[Step, ...]:
        return self._steps(())

    def _steps(self, authored: tuple[Step, ...]) -> tuple[Step, ...]:
        weights = () if self.weights is None else (self.weights,)
        return (*PIPELINES["default"], self._decompose, *authored, *weights)

    def settle(self, graph: Graph, absorbs: bool = True) -> bool:
        self._is_rounded = carries_scales(graph)
        return False

    @property
    def tolerance_db(self) -> float:
        required = super().tolerance_db
        return min(required, ROUNDED_DB[self.precision]) if self._is_rounded else required

    def prepare(self, graph: Graph) -> Graph:
        """Check inputs, layers and outputs against what the dialect has. Raises LegalityError with all objections."""
        self._decompose.run(graph, Unobserved())
        ports = [(f"input {v.name!r}", v.type) for v in graph.inputs if v.is_read]
        ports += [(f"output {name!r}", v.type) for name, v in zip(graph.output_names, graph.outputs, strict=True)]
        objections, hint = self._objections(graph)
        objections += [f"{label} : {t} -- needs {need}" for label, t in ports if (need := _port_need(t))]
        if all(map(is_empty, graph.outputs)):
            objections.append("the model -- needs an output that has elements")
        hint += "docs/targets/coreai.md lists what runs; --target onnx writes the rewritten model"
        refuse("coreai", objections, hint)
        return graph

    def _objections(self, graph: Graph) -> tuple[list[str], str]:
        """One line for every layer that cannot be written, and what there is to say of kernels for those."""
        refused = {node: missing for node in graph.nodes if (missing := TABLE.objection(node))}
        if not refused:
            return [], ""
        from targets.coreai.custom import objection  # with all of the Metal target, for what Core AI lacks

        lacking = {node: objection(node, self.precision) for node in refused}
        if self.custom_kernels:
            told = [
                (node, f"{refused[node]}; as Metal kernels it {reason}") for node, reason in lacking.items() if reason
            ]
            return [f"{node.describe()} -- {missing}" for node, missing in told], ""
        count = sum(reason is None for reason in lacking.values())
        hint = f"--custom-kernels writes {count} of {len(refused)} as Metal kernels; " if count else ""
        return [f"{node.describe()} -- {missing}" for node, missing in refused.items()], hint

    def placement(self, graph: Graph, plain: Graph | None) -> Section:
        """Of the Core ML program of the same layers: what is known of the engine is known of those."""
        from targets.coreai.placed import predicted  # with all of Core ML, for --explain alone

        return predicted(self, graph, plain)

    def emit(self, graph: Graph, path: Path) -> CoreAIArtifact:
        """One asset, or a folder of them if it would hold more weights than `split` allows."""
        chunks = [] if self.split is None else self._chunks(graph, self.split)
        if len(chunks) > 1:
            artifact: CoreAIArtifact = write_chunks(path, graph, chunks, self._asset)
        else:
            artifact = self._asset(graph, path)
        blocks = [] if self.weights is None else in_blocks(graph)
        size = size_warning(path) if self.split is None else []
        artifact.warnings += [*self.stored(graph), *blocks, *self.risks(graph), *size]
        artifact.notes = [*artifact.notes, *told(artifact.savings)]
        return artifact

    def _chunks(self, graph: Graph, limit: int) -> list[Chunk]:
        """The parts of a graph whose constants have at most `limit` bytes."""
        stored = stored_by_layer(self._begin(graph, {})[0], graph)
        return chunks_of(graph, limit, stored, self.element == "fp16", lambda v: not _port_need(v.type), _width)

    def _begin(self, graph: Graph, moved: Mapping[Value, Border]) -> tuple[Lowering, list[Port]]:
        """A program with the inputs of a graph."""
        lowering = Lowering(Program(), self.precision, self.sparse, self._carry())
        return lowering, [self._input(lowering, v, moved.get(v)) for v in graph.inputs]

    def _carry(self) -> Carrier | None:
        """What writes layers as kernels of the Metal target."""
        if not self.custom_kernels:
            return None
        from targets.coreai.custom import Carrier  # with all of the Metal target, where that is asked for

        return Carrier()

    def _asset(self, graph: Graph, path: Path) -> CoreAIArtifact:
        return self._written(graph, path, {})

    def _showing(self, graph: Graph, path: Path) -> dict[str, Value]:
        """Write an asset that also gives what its layers compute; those values by name."""
        computed = (v for node in graph.nodes for v in node.outputs)
        shown = {f"value {i}": v for i, v in enumerate(computed) if v.type.dtype.is_float and not is_empty(v)}
        self._written(graph, path, shown)
        return shown

    def _written(self, graph: Graph, path: Path, shown: Mapping[str, Value]) -> CoreAIArtifact:
        """An asset that also gives those of the values `shown` that it holds, by name."""
        moved = self.moved(graph)
        lowering, inputs = self._begin(graph, moved)
        program = lowering.program
        TABLE.lower(lowering, graph, {node for border in moved.values() for node in border.nodes})
        pairs = zip(graph.outputs, graph.output_names, strict=True)
        outputs = [_output(lowering, v, name, moved.get(v)) for v, name in pairs]
        for name, v in shown.items():
            if v in lowering:
                program.output(lowering[v], name)
        program.close()
        carried = lowering.carry.layers if lowering.carry else []
        facts = layouts({port.name: port.border for port in (*inputs, *outputs)})
        write_package(path, program, facts, {KERNELS: [layer.record() for layer in carried]} if carried else {})
        kernels, savings = program.kernels, lowering.savings
        artifact = CoreAIArtifact(path, inputs, outputs, lowering.warnings, kernels, self._showing, savings)
        if carried:
            from targets.coreai.staged import Staged  # with all of the Metal target, where there are kernels

            artifact.staged = Staged(graph, carried, self._asset)
            artifact.notes = [artifact.staged.told()]
        return artifact

    def _input(self, p: Lowering, v: Value, border: Border | None) -> Port:
        """One that nothing reads and the dialect cannot have is left out."""
        if not v.is_read and (_port_need(v.type) or is_empty(v)):
            return Port(v.name, "", v.type)
        port = Port(v.name, _port_type(v.type), v.type, border)
        var = p.program.input(v.name, port.held, port.shape)
        p.bind(v if border is None else border.value, p.cast(var, p.dtype(v.type.dtype)))
        return port


def _output(p: Lowering, v: Value, name: str, border: Border | None) -> Port:
    if is_empty(v):
        return Port(name, "", v.type)
    held = _port_type(v.type)
    p.program.output(p.cast(p[v if border is None else border.value], held), name)
    return Port(name, held, v.type, border)


def _port_type(t: TensorType) -> str:
    """The element type of an input or output: the model's own, 64 bits in 32."""
    if t.dtype.is_float:
        return "fp16" if t.dtype is F16 else "fp32"
    return {BOOL: "bool", I64: "int32", U64: "uint32"}.get(t.dtype) or NAMES[t.dtype.name]


def _width(dtype: DType) -> int:
    """Bytes of an element between two assets."""
    return TYPES[_port_type(TensorType(dtype, ()))].bits // 8


def _port_need(t: TensorType) -> str:
    """What the dialect needs of an input or output and this one lacks; nothing if it can be."""
    if (
        t.dtype.kind not in "fiub"
        or (t.dtype.is_float and t.dtype.bits < 16)
        or (t.dtype.is_integer and t.dtype.bits < 8)
    ):
        return "floats of at least 16 bits, integers of at least 8, or booleans"
    return "" if t.is_static else "a known size"

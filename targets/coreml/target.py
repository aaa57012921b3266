"""The Core ML target: options, preparation, emission."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compiler import ops
from compiler.errors import UsageError
from compiler.graph import Graph, Node, Value
from compiler.pass_base import PIPELINES, Step
from compiler.rewrite import Unobserved
from compiler.target import Target, refuse
from compiler.tensor import BOOL, F16, TensorType
from passes.decompose import Decompose
from passes.drop_empty import is_empty
from targets.coreml import opset
from targets.coreml.artifact import CoreMLArtifact, Port
from targets.coreml.dtypes import MAX_RANK
from targets.coreml.image import ImageInput, parse_image
from targets.coreml.lower import TABLE, Lowering
from targets.coreml.mil import Program, identifier

PRECISIONS = ("fp16", "fp32")
TOLERANCE_DB = {"fp16": 45.0, "fp32": 60.0}
DEFAULT_TARGET = "iOS17"
OF_BYTES = (  # whose parts need whole numbers that fp16 does not hold
    ops.QuantizeLinear, ops.DequantizeLinear, ops.DynamicQuantizeLinear, ops.ConvInteger, ops.QLinearConv,
    ops.MatMulInteger, ops.QLinearMatMul,
)  # fmt: skip


class CoreMLTarget(Target):
    """A package for iOS and macOS, and for the Neural Engine in the first place.

    precision          fp16 (default) or fp32: the element type of every float tensor inside; inputs and outputs keep
                       the model's types where Core ML has them (64-bit types become 32-bit ones)
    deployment_target  iOS15 ... iOS26 (default iOS17)
    image              inputs that take images, as NAME[:scale=S,bias=R/G/B,color=RGB]
    """

    name = "ane"
    suffix = ".mlpackage"
    accepts = frozenset(("precision", "deployment_target", "image"))

    def __init__(
        self, precision: str = "fp16", deployment_target: str = DEFAULT_TARGET, image: Sequence[str] = ()
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(
                f"there is no precision {precision!r} for ane", hint=f"choose one of {', '.join(PRECISIONS)}"
            )
        if deployment_target not in opset.TARGETS:
            raise UsageError(
                f"there is no deployment target {deployment_target!r}", hint=f"choose one of {', '.join(opset.TARGETS)}"
            )
        self.precision = precision
        self.deployment_target = opset.target(deployment_target)
        self._target_name = deployment_target
        self._decompose = Decompose(keeps=self._keeps)
        self.images = dict(parse_image(text) for text in image)

    def pipeline(self) -> tuple[Step, ...]:
        return (*PIPELINES["default"], self._decompose)

    @property
    def tolerance_db(self) -> float:
        return TOLERANCE_DB[self.precision]

    def _keeps(self, node: Node) -> bool:
        return TABLE.accepts(node) or (self.precision == "fp16" and isinstance(node.op, OF_BYTES))

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
        return graph

    def emit(self, graph: Graph, path: Path) -> CoreMLArtifact:
        program = Program(self._target_name)
        program.metadata.update(graph.metadata)
        lowering = Lowering(program, self.precision, self.deployment_target.ios)
        used: set[str] = set()
        inputs = [self._input(lowering, v, _port_name(v.name, used), self.images.get(v.name)) for v in graph.inputs]
        TABLE.lower(lowering, graph)
        outputs = [
            self._output(lowering, v, external, _port_name(external, used))
            for v, external in zip(graph.outputs, graph.output_names, strict=True)
        ]
        overflowed = program.save(path)
        warnings = lowering.warnings + [
            f"constant {name!r} holds finite numbers that fp16 cannot; they became infinite" for name in overflowed
        ]
        return CoreMLArtifact(path, inputs, outputs, warnings, lowering.tensors())

    def _feature_dtype(self, t: TensorType) -> str:
        """The multi-array type nearest to the model's own: fp32, int32, or fp16 from iOS 16."""
        if t.dtype.is_float:
            return "fp16" if t.dtype is F16 and self.deployment_target.ios >= 16 else "fp32"
        return "int32"

    def _input(self, p: Lowering, v: Value, name: str, image: ImageInput | None) -> Port:
        """One that nothing reads and Core ML cannot have is left out of the package; its port has no feature."""
        if not v.is_read and (_port_need(v.type) or is_empty(v)):
            return Port(v.name, "", v.type)
        dims = v.type.dims
        if image is not None:
            var = p.program.input(name, "fp32", dims, color=image.color)
            p.bind(v, image.preprocess(p, p.cast(var, p.precision)))
            return Port(v.name, name, v.type, image)
        port = Port(v.name, name, v.type)
        var = p.program.input(name, self._feature_dtype(v.type), port.shape)
        truth = v.type.dtype is BOOL
        inside = p.test("not_equal", var, 0) if truth else p.cast(var, p.dtype(v.type.dtype))
        p.bind(v, p.reshape(inside, dims) if len(dims) <= MAX_RANK else inside)
        return port

    def _output(self, p: Lowering, v: Value, external: str, name: str) -> Port:
        if is_empty(v):
            return Port(external, "", v.type)
        var = p.cast(p[v], self._feature_dtype(v.type))
        p.program.output(var if var.shape else p.add("expand_dims", {"x": var, "axes": [0]}, var.dtype, (1,)), name)
        return Port(external, name, v.type)


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

"""The Core ML target: options, preparation, emission."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compiler.errors import UsageError
from compiler.graph import Graph, Value
from compiler.pass_base import PIPELINES, Step
from compiler.target import Target, refuse
from compiler.tensor import BOOL, F16, TensorType
from targets.coreml import opset
from targets.coreml.artifact import CoreMLArtifact, Port
from targets.coreml.image import ImageInput, parse_image
from targets.coreml.lower import TABLE, Lowering
from targets.coreml.mil import Program, identifier

PRECISIONS = ("fp16", "fp32")
TOLERANCE_DB = {"fp16": 45.0, "fp32": 60.0}
DEFAULT_TARGET = "iOS17"


class CoreMLTarget(Target):
    """Options

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
        self.precision = precision
        self.deployment_target = opset.target(deployment_target)
        self._target_name = deployment_target
        self.images = dict(parse_image(text) for text in image)

    def pipeline(self) -> tuple[Step, ...]:
        return PIPELINES["default"]

    @property
    def tolerance_db(self) -> float:
        return TOLERANCE_DB[self.precision]

    def prepare(self, graph: Graph) -> Graph:
        """Check every layer against the table. Raises LegalityError with all objections, UsageError for images that
        the model has not."""
        unknown = [name for name in self.images if name not in {v.name for v in graph.inputs}]
        if unknown:
            raise UsageError(
                f"the model has no input {unknown[0]!r} to take an image",
                hint=f"its inputs are {', '.join(repr(v.name) for v in graph.inputs)}",
            )
        refuse(
            "ane",
            TABLE.objections(graph),
            "docs/targets/ane.md lists what runs; --target onnx writes the rewritten model",
        )
        return graph

    def emit(self, graph: Graph, path: Path) -> CoreMLArtifact:
        program = Program(self._target_name)
        program.metadata.update(graph.metadata)
        lowering = Lowering(program, self.precision, self.deployment_target.ios)
        names = _port_names(graph)
        inputs = [self._input(lowering, v, names[v.name], self.images.get(v.name)) for v in graph.inputs]
        TABLE.lower(lowering, graph)
        outputs = [
            self._output(lowering, v, external, names[external])
            for v, external in zip(graph.outputs, graph.output_names, strict=True)
        ]
        overflowed = program.save(path)
        warnings = [
            f"constant {name!r} holds finite numbers that fp16 cannot; they became infinite" for name in overflowed
        ]
        return CoreMLArtifact(path, inputs, outputs, warnings, lowering.tensors())

    def _feature_dtype(self, t: TensorType) -> str:
        """The multi-array type nearest to the model's own: fp32, int32, or fp16 from iOS 16."""
        if t.dtype.is_float:
            return "fp16" if t.dtype is F16 and self.deployment_target.ios >= 16 else "fp32"
        return "int32"

    def _input(self, p: Lowering, v: Value, name: str, image: ImageInput | None) -> Port:
        dims = v.type.dims
        if image is not None:
            var = p.program.input(name, "fp32", dims, color=image.color)
            p.bind(v, image.preprocess(p, p.cast(var, p.precision)))
            return Port(v.name, name, v.type, image)
        var = p.program.input(name, self._feature_dtype(v.type), dims or (1,))
        inside = p.cast(var, p.dtype(v.type.dtype))
        p.bind(v, inside if dims else p.add("squeeze", {"x": inside, "axes": [0]}, inside.dtype, ()))
        return Port(v.name, name, v.type)

    def _output(self, p: Lowering, v: Value, external: str, name: str) -> Port:
        var = p[v]
        if v.type.dtype is BOOL or var.dtype not in (p.precision, "int32"):
            var = p.cast(var, "int32")
        if var.dtype != "int32":
            var = p.cast(var, self._feature_dtype(v.type))
        if not var.shape:
            var = p.add("expand_dims", {"x": var, "axes": [0]}, var.dtype, (1,))
        p.program.output(var, name)
        return Port(external, name, v.type)


def _port_names(graph: Graph) -> dict[str, str]:
    """ONNX names of inputs and outputs -> names that Core ML accepts, unique."""
    names: dict[str, str] = {}
    used: set[str] = set()
    for external in [v.name for v in graph.inputs] + graph.output_names:
        base = candidate = identifier(external)
        k = 0
        while candidate in used:
            k += 1
            candidate = f"{base}_{k}"
        used.add(candidate)
        names.setdefault(external, candidate)
    return names

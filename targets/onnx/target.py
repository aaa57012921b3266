"""The ONNX target: options, preparation, emission."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.onnx_export import checked_opset, save_model
from compiler.pass_base import PIPELINES, Step
from compiler.target import expect_choice, expect_int8, refuse
from compiler.tensor import I8, U8
from passes._weight_bits import expect_kind
from passes.annotate_weights import AnnotateWeights
from passes.expand_int8 import ExpandInt8
from targets.onnx.artifact import OnnxArtifact
from targets.onnx.int8_rules import kernels, scheme
from targets.onnx.qdq import CLIPS, QdqGraph, is_clipped
from targets.onnx.settle import settle
from targets.quantizing import QuantizingTarget, calibrated

PRECISIONS = ("fp32", "int8")
IO_DTYPES = {"float32": None, "int8": I8, "uint8": U8}
TOLERANCE_DB = {"fp32": 100.0, "int8": 20.0}
WEIGHTS_DB = {"int8": 30.0, "int4": 10.0}
SINCE_BLOCKS = 21  # the opset whose DequantizeLinear takes 4 bits, 16 bits and blocks
KEPT = ("layer_norm", "rms_norm", "local_response_norm", "div", "lstm", "rnn")  # computed in floats, as wholes
SHOWN = 8  # layers that a warning names


class OnnxTarget(QuantizingTarget):
    """A clean ONNX file.

    opset      13 to 28 (default: the newest that ONNX Runtime runs in full)
    external   weights in a file beside the model (default: only above 2 GiB)
    precision  fp32 (default): the model's own element types; or int8: weights, and activations beside the layers that
               runtimes compute in integers, are stored in 8 bits between QuantizeLinear and DequantizeLinear
    calibrate  data that shows what numbers occur, for int8: what `compiler.calibrate` takes
    observer   how ranges are chosen from it, for int8: auto (default), minmax, ...
    repair     which passes may repair what int8 costs: auto (default), off, or their names
    io_dtype   of inputs and outputs that are real numbers, for int8: float32 (default), int8 or uint8
    weights    for fp32: the large weights are stored as int8 or int4, and all is computed in floats
    block_size elements with one scale, for weights (default: 32 for int4; 0: all of a result)
    """

    name = "onnx"
    suffix = ".onnx"
    accepts = frozenset(
        ("opset", "external", "precision", "calibrate", "observer", "repair", "io_dtype", "weights", "block_size")
    )

    def __init__(
        self,
        opset: int | None = None,
        external: bool | None = None,
        precision: str = "fp32",
        calibrate: object = None,
        observer: str | None = None,
        repair: str | None = None,
        io_dtype: str | None = None,
        weights: str | None = None,
        block_size: int | None = None,
    ) -> None:
        self.opset = opset if opset is None else checked_opset(opset)
        self.external = external
        expect_choice("onnx", "precision", precision, PRECISIONS)
        expect_choice("onnx", "I/O element type", io_dtype or "float32", tuple(IO_DTYPES))
        expect_int8(precision, calibrate, observer=observer, repair=repair, io_dtype=io_dtype)
        self.precision = precision
        self.io_dtype = io_dtype or "float32"
        self.weights = self._checked_weights(weights, block_size)
        self.calibrated = None
        if precision == "int8":
            self.calibrated = calibrated(calibrate, observer, repair)

    def _checked_weights(self, kind: str | None, block: int | None) -> AnnotateWeights | None:
        """The pass that says how weights are stored. UsageError if the options do not fit together."""
        if kind is None:
            if block is not None:
                raise UsageError("--block-size is for --weights")
            return None
        expect_choice("onnx", "storage of weights", kind, tuple(WEIGHTS_DB))
        expect_kind(kind, block)
        if self.precision == "int8":
            raise UsageError("--precision int8 stores weights as int8", hint="leave --weights out")
        asked = AnnotateWeights(kind=kind, block=block)
        if self.opset is not None and self.opset < SINCE_BLOCKS and (kind == "int4" or asked.size):
            raise UsageError(f"4 bits and blocks need --opset {SINCE_BLOCKS} or newer, not {self.opset}")
        return asked

    @property
    def storages(self) -> Sequence[str]:
        """With blocks as by default, which the newest opsets have."""
        if self.precision == "int8" or self.weights is not None:
            return ()
        new = self.opset is None or self.opset >= SINCE_BLOCKS
        return ("int8", "int4", "int4/32") if new else ("int8",)

    def keep(self, storages: Sequence[str]) -> None:
        self.weights = AnnotateWeights(kept="+".join(storages))

    def pipeline(self) -> tuple[Step, ...]:
        if self.calibrated is None:
            return (*PIPELINES["default"], *([] if self.weights is None else [self.weights]))
        return (*PIPELINES["default"], ExpandInt8(keep=KEPT), *self.calibrated.steps(scheme()))

    def prepare(self, graph: Graph) -> Graph:
        if self.calibrated is not None:
            settle(graph, scheme())
            if self.strict:
                refuse("onnx, full int8", _in_floats(graph), "without --strict they stay floats between integers")
        return graph

    def emit(self, graph: Graph, path: Path) -> OnnxArtifact:
        if self.calibrated is None and self.weights is None:
            return OnnxArtifact(save_model(graph, path, self.opset, self.external), graph, [], {})
        stored = QdqGraph(graph, scheme(), U8, IO_DTYPES[self.io_dtype])
        files = save_model(stored.graph, path, self.opset, self.external)
        warnings = [] if self.calibrated is None else [*_account(_in_floats(graph)), *self.calibrated.notes]
        return OnnxArtifact(files, graph, warnings, stored.quants)

    @property
    def tolerance_db(self) -> float:
        required = TOLERANCE_DB[self.precision]
        kind = "" if self.weights is None else self.weights.kind
        return min(required, WEIGHTS_DB[kind]) if kind else required


def _in_floats(graph: Graph) -> list[str]:
    """One line for every layer of real numbers that a runtime computes in floats."""
    lines = []
    for node in graph.nodes:
        real = [v for v in (*node.inputs, *node.outputs) if v is not None and v.type.dtype.is_float]
        if not real:
            continue
        if node.op.name not in kernels() and not isinstance(node.op, CLIPS):
            lines.append(f"{node.describe()} -- {node.op.name} has no kernel of integers")
        elif any(v.type.quant is None and not is_clipped(v) for v in real):
            lines.append(f"{node.describe()} -- an operand or the result is not stored in integers")
    return lines


def _account(lines: list[str]) -> list[str]:
    """A warning about the layers that stay floats, if there are any."""
    if not lines:
        return []
    more = "" if len(lines) <= SHOWN else f"; and {len(lines) - SHOWN} more"
    return [f"NOT FULL INTEGER: {len(lines)} layers stay in float32; {'; '.join(lines[:SHOWN])}{more}"]


TARGET = OnnxTarget

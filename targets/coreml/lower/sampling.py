"""Reading images at computed places."""

from __future__ import annotations

from compiler import ops
from compiler.graph import Node
from compiler.target import Need, op_need
from targets.coreml.lower.lowering import Lowering, Operands
from targets.coreml.lower.table import FLOAT, lowers

PADDING = {("zeros", False): "constant", ("zeros", True): "constant"}
PADDING |= {("border", False): "border", ("border", True): "border"}
PADDING |= {("reflection", False): "symmetric", ("reflection", True): "reflection"}  # around edges, around centres
SAMPLING = {"linear": "bilinear", "nearest": "nearest"}
MODE = op_need(
    "mode linear or nearest (cubic is nearest to linear on an enlarged image)", lambda op: op.mode in SAMPLING
)

PLANE = Need(text="two spatial axes", holds=lambda node: node.output.type.rank == 4, source="MIL resample")


@lowers(ops.GridSample, needs=[FLOAT, MODE, PLANE])
def _grid_sample(p: Lowering, node: Node, op: ops.GridSample) -> None:
    """Coordinates stay in fp32, whose steps are far below a pixel."""
    x, grid = p.operands(node)
    operands: Operands = {
        "x": x,
        "coordinates": p.cast(grid, "fp32"),
        "sampling_mode": SAMPLING[op.mode],
        "padding_mode": PADDING[op.padding, op.align_corners],
        "padding_value": 0.0,
        "coordinates_mode": "normalized_minus_one_to_one",
        "align_corners": op.align_corners,
    }
    p.bind(node.output, p.add("resample", operands, x.dtype, node.output.type.dims, node.output.name))

"""From a .tflite file to a library of integer arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from targets.neon.int8 import depthwise as _depthwise  # noqa: F401  # fills the table, as the others do
from targets.neon.int8 import elementwise as _elementwise  # noqa: F401
from targets.neon.int8 import linear as _linear  # noqa: F401
from targets.neon.int8 import linear_plain as _plain  # noqa: F401
from targets.neon.int8 import moving as _moving  # noqa: F401
from targets.neon.int8 import reductions as _reductions  # noqa: F401
from targets.neon.int8.program import IntegerProgram
from targets.neon.int8.table import LOWERINGS
from targets.tflite.integer.kernel import NoReferenceError, refused
from targets.tflite.integer.model import KERNELS, check_operator
from targets.tflite.reader import File


def lowered(
    file: File, isa: str, inputs: Sequence[str], outputs: Sequence[str], in_order: bool = False
) -> IntegerProgram:
    """The schedule of the first subgraph of a file, whose inputs and outputs are named in this order."""
    p = IntegerProgram(file, isa, inputs, outputs, in_order)
    for place, operator in enumerate(p.operators):
        node = p.node(place)
        if all(i < 0 or i in p.constants for i in operator.inputs):
            found = KERNELS[operator.code].evaluate(node)
            p.constants |= zip(operator.outputs, found if isinstance(found, tuple) else (found,), strict=True)
            continue
        LOWERINGS[operator.code](p, node)
    p.finish()
    return p


def objections(file: File) -> list[str]:
    """One line for each operator that is not computed in integers, or not by this target."""
    graph = file.subgraphs[0]
    found = []
    for operator in graph.operators:
        try:
            check_operator(operator, graph.tensors)
            if operator.code not in LOWERINGS:
                raise refused(operator, "is of a kind that this target does not have")
        except NoReferenceError as e:
            found.append(str(e))
    return found

"""From a .tflite file to a library of integer arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from targets.neon.int8 import depthwise as _depthwise  # noqa: F401  # fills the table, as the others do
from targets.neon.int8 import elementwise as _elementwise  # noqa: F401
from targets.neon.int8 import floats as _floats  # noqa: F401
from targets.neon.int8 import linear as _linear  # noqa: F401
from targets.neon.int8 import linear_plain as _plain  # noqa: F401
from targets.neon.int8 import moving as _moving  # noqa: F401
from targets.neon.int8 import recurrent as _recurrent  # noqa: F401
from targets.neon.int8 import reductions as _reductions  # noqa: F401
from targets.neon.int8.program import IntegerProgram
from targets.neon.int8.table import FLOATS, lowering
from targets.tflite.integer.kernel import NoReferenceError, refused
from targets.tflite.integer.model import KERNELS, check_operator
from targets.tflite.reader import File, Operator, Tensor


def lowered(
    file: File, isa: str, inputs: Sequence[str], outputs: Sequence[str], in_order: bool = False, threads: int = 1
) -> IntegerProgram:
    """The schedule of the first subgraph of a file, whose inputs and outputs are named in this order."""
    p = IntegerProgram(file, isa, inputs, outputs, in_order, threads)
    for place, operator in enumerate(p.operators):
        node = p.node(place)
        dtype = _first_type(operator, p.tensors)
        is_known = all(i < 0 or i in p.constants for i in operator.inputs)
        if is_known and operator.code in KERNELS and not (_is_float(dtype) and operator.code in FLOATS):
            found = KERNELS[operator.code].evaluate(node)
            p.constants |= zip(operator.outputs, found if isinstance(found, tuple) else (found,), strict=True)
            continue
        lower = lowering(operator.code, dtype)
        assert lower is not None
        lower(p, node)
    p.finish()
    return p


def objections(file: File) -> list[str]:
    """One line for each operator that is not computed in integers, or not by this target."""
    graph = file.subgraphs[0]
    found = []
    for operator in graph.operators:
        try:
            dtype = _first_type(operator, graph.tensors)
            if not (_is_float(dtype) and lowering(operator.code, dtype)):
                check_operator(operator, graph.tensors)
            if lowering(operator.code, dtype) is None:
                raise refused(operator, "is of a kind that this target does not have")
        except NoReferenceError as e:
            found.append(str(e))
    return found


def _first_type(operator: Operator, tensors: Sequence[Tensor]) -> str:
    return tensors[operator.inputs[0]].dtype if operator.inputs else "nothing"


def _is_float(dtype: str) -> bool:
    return dtype in ("FLOAT32", "BOOL")

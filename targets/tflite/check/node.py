"""An operator together with its tensors, and what the rules ask of both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from compiler.tensor import Array
from targets.tflite.reader import Operator, Subgraph, Tensor

FLOATS = frozenset(("FLOAT32", "FLOAT16", "FLOAT64", "BFLOAT16"))
BYTES = frozenset(("INT8", "UINT8"))
PLAIN = frozenset(("INT32", "INT64", "UINT32", "UINT64", "BOOL", "STRING", "RESOURCE", "VARIANT"))
SMALL = 4096  # elements of constants that are looked at one by one, as axes and paddings
ABSENT = -1


class Node(NamedTuple):
    """`inputs` has None for an absent operand."""

    graph: Subgraph
    operator: Operator
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    def input(self, at: int) -> Tensor | None:
        """An operand; None if it is absent or there are fewer."""
        return self.inputs[at] if at < len(self.inputs) else None

    def output(self, at: int = 0) -> Tensor | None:
        return self.outputs[at] if at < len(self.outputs) else None

    @property
    def values(self) -> list[Tensor]:
        """Operands that flow in, neither stored in the file nor the state of a layer, and results."""
        flowing = [t for t in self.inputs if t is not None and t.data is None and not t.is_variable]
        return flowing + list(self.outputs)


def nodes(graph: Subgraph) -> Iterator[Node]:
    """The operators of a subgraph, in order."""
    tensors = graph.tensors
    for o in graph.operators:
        inputs = tuple(None if i == ABSENT else tensors[i] for i in o.inputs)
        yield Node(graph, o, inputs, tuple(tensors[i] for i in o.outputs if i != ABSENT))


def scales(tensor: Tensor | None) -> Array | None:
    """The scales of a tensor, if it has any."""
    q = None if tensor is None else tensor.quantization
    return q.scale if q is not None and len(q.scale) else None


def scale(tensor: Tensor | None) -> float | None:
    """The scale of a tensor that has one."""
    found = scales(tensor)
    return float(found[0]) if found is not None and len(found) == 1 else None


def zero_point(tensor: Tensor) -> int:
    """The zero point, the first of several; 0 where the file has none."""
    q = tensor.quantization
    return int(q.zero_point[0]) if q is not None and len(q.zero_point) else 0


def is_per_axis(tensor: Tensor | None) -> bool:
    """Whether there are several scales."""
    found = scales(tensor)
    return found is not None and len(found) > 1


def numbers(tensor: Tensor | None) -> list[int] | None:
    """The elements of a small integer constant; None if it is not one."""
    if tensor is None or not tensor.is_readable or tensor.size > SMALL:
        return None
    array = tensor.array()
    return [int(v) for v in array.reshape(-1)] if array.dtype.kind in "iu" else None

"""The judge of last resort: the model in float64, where an artifact and ONNX Runtime are further apart than rounding.

ONNX Runtime computes some functions by approximations with an absolute error (its sigmoid of -20 is off by a tenth), so
that an artifact which computes them better would be called wrong.

Artifacts and this evaluation stand on the same reading of the model, so that they may be wrong alike. ONNX Runtime has
to agree with that reading before it counts: on the whole graph as it was imported, and layer by layer on its own
operands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from compiler import ops
from compiler.compare import Comparison, Exact, compare, rounding_limit
from compiler.errors import CompileError
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.ops.activation import Activation
from compiler.oracle import Reference, available_memory
from compiler.probe import intermediate_values
from compiler.report import measure
from compiler.tensor import Array
from compiler.views import peak_bytes

MOST_MACS = 20 * 10**9  # about as many as numpy computes within the time
MOST_SECONDS = 60.0
WIDENING = 8  # memory of an evaluation over that of the activations: twice the bytes, and the windows of convolutions
APPROXIMATED = (Activation, ops.Tanh, ops.Erf, ops.Softmax)  # with an absolute error, as for results of about 1
SAME_DB = 90.0  # between what ONNX Runtime computes of a layer and what that is in float64


class TooLongError(CompileError):
    """The evaluation takes more time than there is for it."""


class DisagreementError(CompileError):
    """ONNX Runtime computes something else than rounding explains."""


class Exactly:
    """Outputs of a model in float64, evaluated when they are first asked for.

    model  gives the graph as it was imported
    """

    def __init__(self, model: Callable[[], Graph], reference: Reference, peaks: Mapping[str, float]) -> None:
        self._model, self._reference, self._peaks = model, reference, peaks

    @cached_property
    def outputs(self) -> Mapping[str, Array] | None:
        """None if the model is too large, draws random numbers, has a layer that cannot be evaluated, or is not what
        ONNX Runtime takes it for."""
        graph = self._model()
        if _is_large(graph) or not all(n.op.pure for n in graph.nodes):
            return None
        try:
            self._expect_agreement(graph)
            return evaluate(graph, self._reference.inputs, wide=True, each=_in_time(MOST_SECONDS))
        except CompileError:
            return None

    def _expect_agreement(self, graph: Graph) -> None:
        """DisagreementError unless ONNX Runtime makes of the graph what it makes of the original model, and of each
        layer, from its own operands, what that gives in float64."""
        seen = intermediate_values(graph, self._reference.inputs)
        for v, name in zip(graph.outputs, graph.output_names, strict=True):
            _expect_near(name, self._reference.outputs[name], seen[v] if v.data is None else v.data)
        layers = ((n, v) for n in graph.nodes for v in n.outputs if v.is_read)
        in_time = _in_time(MOST_SECONDS)

        def as_seen(array: Array) -> Array:
            node, v = next(layers)
            _expect_near(v.name, seen[v], in_time(array), 1.0 if isinstance(node.op, APPROXIMATED) else 0.0)
            return seen[v].astype(array.dtype)

        evaluate(graph, self._reference.inputs, wide=True, each=as_seen)

    def judge(
        self, compared: Sequence[Comparison], results: Mapping[str, Array], tolerance_db: float
    ) -> list[Comparison]:
        """The same comparisons; those beyond the tolerance say how far result and reference are from float64."""
        return [c if c.psnr_db >= tolerance_db or c.name not in results else self._seen(c, results) for c in compared]

    def _seen(self, c: Comparison, results: Mapping[str, Array]) -> Comparison:
        if self.outputs is None:
            return c
        exact, peak = self.outputs[c.name], self._peaks.get(c.name, 0.0)
        result, reference = (compare(c.name, exact, a[c.name], peak) for a in (results, self._reference.outputs))
        return c._replace(exact=Exact(result.psnr_db, reference.psnr_db))


def _is_large(graph: Graph) -> bool:
    """Whether the evaluation would take too much time or memory."""
    held = sum(v.type.nbytes for n in graph.nodes for v in n.outputs if v.is_read)
    needed = WIDENING * peak_bytes(graph) + held
    return measure(graph).macs > MOST_MACS or needed > available_memory() // 2


def _in_time(seconds: float) -> Callable[[Array], Array]:
    """What lets arrays pass for so long; then it raises TooLongError."""
    end = time.monotonic() + seconds

    def pass_on(array: Array) -> Array:
        if time.monotonic() > end:
            raise TooLongError(f"the evaluation takes more than {seconds:.0f} seconds")
        return array

    return pass_on


def _expect_near(name: str, theirs: Array, ours: Array, peak: float = 0.0) -> None:
    """DisagreementError unless two arrays are the same but for the rounding of their type."""
    db = compare(name, theirs, ours, peak).psnr_db
    if db < min(SAME_DB, rounding_limit(theirs)):
        raise DisagreementError(f"{name!r} is {db:.1f} dB from what ONNX Runtime computes of the same operands")

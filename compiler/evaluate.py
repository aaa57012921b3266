"""The reference meaning of a graph: every operation's own `evaluate`, in order, on numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from compiler.errors import CompileError, UsageError
from compiler.graph import Graph, Node, Value
from compiler.tensor import Array, dtype_of

FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, NotImplementedError, TypeError, ValueError)

READS_BITS = ("bitcast",)  # operations on the bits of the declared type, whatever the arithmetic


def evaluate(
    graph: Graph,
    inputs: Mapping[str, Array],
    *,
    wide: bool = False,
    each: Callable[[Array], Array] = np.asarray,
) -> dict[str, Array]:
    """Outputs by name. With `wide`, floats are computed and kept in float64: the oracle that rounding is measured
    against. Every result of a layer passes through `each`, which may disturb it to see how errors spread. Values are
    freed after their last use.

    Raises UsageError for an input that is not given, CompileError naming the layer that numpy cannot compute.
    """
    missing = [v.name for v in graph.inputs if v.name not in inputs]
    if missing:
        raise UsageError(f"no array is given for {', '.join(map(repr, missing))}")
    values: dict[Value, Array] = {v: _widened(inputs[v.name], wide) for v in graph.inputs}
    left = {v: len(v.users) for n in graph.nodes for v in n.outputs}
    for node in graph.nodes:
        results = _run(node, values, wide)
        values.update((v, each(r)) for v, r in zip(node.outputs, results, strict=True) if v.is_read)
        for v in {v for v in node.inputs if v in left}:
            left[v] -= 1
            if not left[v] and not v.n_out:
                values.pop(v, None)
    pairs = zip(graph.outputs, graph.output_names, strict=True)
    return {n: _widened(v.data, wide) if v.data is not None else values[v] for v, n in pairs}


def _run(node: Node, values: Mapping[Value, Array], wide: bool) -> tuple[Array, ...]:
    operands = [None if v is None else _widened(v.data, wide) if v.data is not None else values[v] for v in node.inputs]
    if wide and node.op.name in READS_BITS:
        pairs = zip(operands, node.inputs, strict=True)
        operands = [a if a is None or v is None else a.astype(v.type.dtype.numpy) for a, v in pairs]
    try:
        with np.errstate(all="ignore"):  # infinities and NaN are results like others
            evaluated = node.op.evaluate(*operands)
    except FAULTS as e:  # what numpy raises says little without the layer it happened in
        what = f"the layer cannot be evaluated ({type(e).__name__}: {e})"
        raise CompileError(what, where=node.describe()) from e
    results = evaluated if isinstance(evaluated, tuple) else (evaluated,)
    return tuple(_widened(np.asarray(r), wide) for r in results)


def _widened(array: Array, wide: bool) -> Array:
    """Floats of any width as float64, if asked for."""
    return array.astype(np.float64) if wide and dtype_of(array).is_float else array

"""An integer-only evaluator of a .tflite file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from compiler.errors import CompileError
from compiler.onnx_proto import quote
from compiler.tensor import Array
from targets.tflite.integer import (
    activation,
    arithmetic,
    border,
    linear,
    logarithm,
    movement,
    recurrent,
    reduction,
    resize,
    table,
    whole,
)
from targets.tflite.integer.kernel import INT8_16, Kernel, Node, first_zero_point, refused
from targets.tflite.integer.whole import WHOLE
from targets.tflite.reader import STORED, Operator, Subgraph, Tensor, read

FAMILIES = (activation, arithmetic, border, linear, logarithm, movement, recurrent, reduction, resize, table, whole)
KERNELS: dict[str, Kernel] = {code: kernel for family in FAMILIES for code, kernel in family.KERNELS.items()}

RESULTS = {  # of operators that compute with such elements; whole ones are places
    "INT8": ("INT8", "INT32", "INT64", "BOOL"),
    "INT16": ("INT16", "INT32", "INT64", "BOOL"),
}


class IntegerModel:
    """The first subgraph of a file, evaluated operator by operator in NumPy integers.

    inputs, outputs   tensors by the names of the file's signature, or by their own where it has none

    Every operator is looked at first: NoReferenceError names the first one that no kernel here evaluates. Options and
    quantization are looked at when it is reached.
    Variable tensors keep their values from run to run; `reset` gives them their first ones back.
    """

    def __init__(self, path: str | Path) -> None:
        file = read(path)
        if not file.subgraphs:
            raise CompileError(f"{quote(str(path))} has no subgraph")
        self._graph: Subgraph = file.subgraphs[0]
        signature = next((s for s in file.signatures if s.subgraph == 0), None)
        tensors = self._graph.tensors
        self.inputs: dict[str, Tensor] = {tensors[n].name: tensors[n] for n in self._graph.inputs}
        self.outputs: dict[str, Tensor] = {tensors[n].name: tensors[n] for n in self._graph.outputs}
        signature = next((s for s in file.signatures if s.subgraph == 0), None)
        if signature is not None:
            self.inputs = {name: tensors[n] for name, n in signature.inputs.items()}
            self.outputs = {name: tensors[n] for name, n in signature.outputs.items()}
        for operator in self._graph.operators:
            check_operator(operator, tensors)
        self._constants = {t.number: t.array() for t in tensors if t.data is not None and t.nbytes is not None}
        self._states: dict[int, Array] = {}
        self.reset()

    def reset(self) -> None:
        """Give variable tensors the numbers that stand for 0."""
        variables = [t for t in self._graph.tensors if t.is_variable]
        self._states = {t.number: np.full(t.shape, first_zero_point(t), STORED[t.dtype]) for t in variables}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name, in the file's types. CompileError if an input is missing or is of another type or
        shape."""
        values = self.values(feeds)
        return {name: values[t.number] for name, t in self.outputs.items()}

    def values(self, feeds: Mapping[str, Array]) -> dict[int, Array]:
        """The values of all tensors but the variables, by number."""
        values = self._constants | {self.inputs[name].number: array for name, array in self._checked(feeds)}
        for operator in self._graph.operators:
            node = Node(operator, self._graph.tensors, values, self._states)
            try:
                results = KERNELS[operator.code].evaluate(node)
            except (ArithmeticError, LookupError, TypeError, ValueError) as e:
                raise refused(operator, f"does not fit its operands ({e})") from e
            listed = results if isinstance(results, tuple) else (results,)
            values |= zip(operator.outputs, listed, strict=True)
        return values

    def _checked(self, feeds: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        for name, tensor in self.inputs.items():
            if name not in feeds:
                raise CompileError(f"input {quote(name)} is missing")
            array = feeds[name]
            expected = STORED[tensor.dtype]
            if array.dtype != expected or array.shape != tensor.shape:
                got, due = f"{array.dtype}{list(array.shape)}", f"{expected}{list(tensor.shape)}"
                raise CompileError(f"input {quote(name)} is {got} where the file has {due}")
            yield name, array


def check_operator(operator: Operator, tensors: tuple[Tensor, ...]) -> None:
    """NoReferenceError for an operator that no kernel here evaluates."""
    kernel = KERNELS.get(operator.code)
    if kernel is None:
        raise refused(operator, "is of a kind that is not covered")
    dtype = tensors[operator.inputs[0]].dtype if operator.inputs else "nothing"
    if dtype not in kernel.types:
        raise refused(operator, f"works on {dtype} elements, not on {' or '.join(sorted(kernel.types))}")
    results = RESULTS.get(dtype, ()) if kernel.types <= INT8_16 | WHOLE else ()
    others = [tensors[n].dtype for n in operator.outputs if tensors[n].dtype not in results]
    if results and others:
        raise refused(operator, f"gives {others[0]} elements of {dtype} ones")

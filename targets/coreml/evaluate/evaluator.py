"""Read a package back from disk and run it, every tensor rounded to the element type that the program declares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compiler.errors import EmitError, UsageError
from compiler.tensor import Array
from targets.coreml.blob import BlobReader
from targets.coreml.dtypes import TYPES
from targets.coreml.evaluate import (
    activation,
    conv,
    detection,
    elementwise,
    image,
    indexing,
    linear,
    norm,
    pool,
    recurrent,
    weights,
)
from targets.coreml.evaluate import reduce as reduction
from targets.coreml.evaluate import shape as rearrangement
from targets.coreml.evaluate import tensor as creation
from targets.coreml.evaluate.registry import FUNCTIONS, MOVES
from targets.coreml.package import read_package
from targets.coreml.values import ANY_RANK, read_value, tensor_type

# Importing a family registers its operations.
FAMILIES = (activation, conv, creation, detection, elementwise, image, indexing, linear, norm, pool)
MORE_FAMILIES = (rearrangement, recurrent, reduction, weights)

_TUPLES = frozenset({"values", "ref_tensors", "begins", "ends", "end_masks", "loop_vars"})
_WITH_BLOCKS = frozenset({"cond", "while_loop"})

Message = Any  # a protobuf message of Apple's schema: classes are made at run time
Value = Any  # an array, or a Python value for constant scalars and strings; operations differ in what they take
Environment = dict[str, Value]
Observer = Callable[[str, str, Array], None]
"""Called with operation, name and value of each tensor computed."""


class _Constant:
    """A constant as stored; its fp16 data is widened only while an operation uses it."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value


class _Step:
    """One operation, decoded. Operands are names of values, or constants; `last` lists values not needed afterwards."""

    __slots__ = ("blocks", "kind", "last", "operands", "outputs")

    def __init__(
        self,
        kind: str,
        operands: dict[str, list[str | _Constant]],
        outputs: list[tuple[str, str, tuple[int, ...]]],
        blocks: list[_Block],
    ) -> None:
        self.kind, self.operands, self.outputs, self.blocks = kind, operands, outputs, blocks
        self.last: list[str] = []


class _Block:
    """Steps in order, with the names of the parameters and results."""

    __slots__ = ("inputs", "outputs", "steps")

    def __init__(self, inputs: list[str], outputs: list[str], steps: list[_Step]) -> None:
        self.inputs, self.outputs, self.steps = inputs, outputs, steps


def evaluate_package(path: Path | str) -> Evaluator:
    """An evaluator of the saved package `path`; EmitError if it cannot be read or holds operations that cannot be
    executed.
    """
    return Evaluator(Path(path))


class Evaluator:
    """A saved ML Program that runs here.

    fp16 tensors are rounded to fp16 after each operation; sums, products and functions are computed in fp32. `warnings`
    names the operations of the last run that gave infinities or NaN although their operands were finite.
    """

    def __init__(self, path: Path) -> None:
        spec, self._weights = read_package(path)
        function = spec.mlProgram.functions["main"]
        block = function.block_specializations[function.opset]
        unknown = sorted(_unknown(block))
        if unknown:
            raise EmitError(
                f"the package {str(path)!r} has operations that cannot be executed here: {', '.join(unknown)}"
            )
        self.inputs = {entry.name: tensor_type(entry.type) for entry in function.inputs}
        self._constants: dict[str, _Constant] = {}
        self._block = self._decode(block)
        self._types = {name: dtype for step in self._block.steps for name, dtype, _ in step.outputs}
        self._types.update({name: dtype for name, (dtype, _) in self.inputs.items()})
        self._types.update({output.name: tensor_type(output.type)[0] for output in _constants(block)})
        self.outputs = {name: self._types[name] for name in self._block.outputs}
        self.warnings: list[str] = []
        self._expand_weights()
        self._expansion_warnings = self.warnings
        _find_last_uses(self._block)

    def run(self, inputs: Mapping[str, Array], observe: Observer | None = None) -> dict[str, Array]:
        """The outputs, in their declared types. UsageError if inputs are missing, unknown, or of another shape."""
        self.warnings = list(self._expansion_warnings)
        environment: Environment = dict(self._constants)
        environment.update(self._checked(inputs))
        with np.errstate(all="ignore"):
            results = self._run_block(self._block, environment, observe)
        return {
            name: np.asarray(result).astype(TYPES[dtype].numpy)
            for (name, dtype), result in zip(self.outputs.items(), results, strict=True)
        }

    def _checked(self, inputs: Mapping[str, Array]) -> Environment:
        if set(inputs) != set(self.inputs):
            raise UsageError(f"the model has inputs {sorted(self.inputs)}, but was given {sorted(inputs)}")
        checked: Environment = {}
        for name, (dtype, shape) in self.inputs.items():
            array = np.asarray(inputs[name])
            if not _fits(array.shape, shape):
                raise UsageError(f"the model's input {name!r} has shape {shape}, but was given {array.shape}")
            with np.errstate(all="ignore"):
                checked[name] = _rounded(array, dtype)
        return checked

    def _decode(self, block: Message) -> _Block:
        steps = []
        for operation in block.operations:
            outputs = [(output.name, *tensor_type(output.type)) for output in operation.outputs]
            if operation.type == "const":
                self._constants[outputs[0][0]] = _Constant(_python(self._read(operation.attributes["val"])))
                continue
            operands: dict[str, list[str | _Constant]] = {
                parameter: [_Constant(_python(self._read(value)))]
                for parameter, value in operation.attributes.items()
                if parameter != "name"
            }
            for parameter, argument in operation.inputs.items():
                operands[parameter] = [
                    binding.name or _Constant(_python(self._read(binding.value))) for binding in argument.arguments
                ]
            blocks = [self._decode(inner) for inner in operation.blocks]
            steps.append(_Step(operation.type, operands, outputs, blocks))
        return _Block([entry.name for entry in block.inputs], list(block.outputs), steps)

    def _read(self, message: Message) -> Value:
        weights: BlobReader | None = self._weights
        return read_value(message, weights)

    def _expand_weights(self) -> None:
        """Run the operations on constants of the outermost block, once."""
        left = []
        for step in self._block.steps:
            if not step.kind.startswith("constexpr_"):
                left.append(step)
                continue
            with np.errstate(all="ignore"):
                results = self._run_step(step, self._constants, None)
            for (name, dtype, _), array in zip(step.outputs, results, strict=True):
                self._constants[name] = _Constant(array.astype(TYPES[dtype].numpy, copy=False))
        self._block.steps = left

    def _run_block(self, block: _Block, environment: Environment, observe: Observer | None) -> list[Value]:
        for step in block.steps:
            for (name, _, _), value in zip(step.outputs, self._run_step(step, environment, observe), strict=True):
                environment[name] = value
                if observe is not None:
                    observe(step.kind, name, value)
            for name in step.last:
                environment.pop(name, None)
        return [_fetch(environment, name) for name in block.outputs]

    def _run_step(self, step: _Step, environment: Environment, observe: Observer | None) -> list[Value]:
        operands: dict[str, Value] = {}
        for parameter, bound in step.operands.items():
            values = [_fetch(environment, item) for item in bound]
            operands[parameter] = values if parameter in _TUPLES else values[0]
        if step.kind in _WITH_BLOCKS:
            return self._run_control(step, operands, environment, observe)
        try:
            result = FUNCTIONS[step.kind](**operands)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            raise EmitError(f"cannot execute {step.kind} {step.outputs[0][0]!r} of the package: {error}") from error
        results = result if isinstance(result, (tuple, list)) else [result]
        return [self._finish(step, operands, output, r) for output, r in zip(step.outputs, results, strict=True)]

    def _run_control(
        self, step: _Step, operands: dict[str, Value], environment: Environment, observe: Observer | None
    ) -> list[Value]:
        if step.kind == "cond":
            return self._run_block(step.blocks[0 if operands["pred"] else 1], dict(environment), observe)
        condition, body = step.blocks
        state = operands["loop_vars"]
        while True:
            scope = {**environment, **dict(zip(condition.inputs, state, strict=True))}
            if not self._run_block(condition, scope, observe)[0]:
                return list(state)
            scope = {**environment, **dict(zip(body.inputs, state, strict=True))}
            state = self._run_block(body, scope, observe)

    def _finish(
        self, step: _Step, operands: dict[str, Value], output: tuple[str, str, tuple[int, ...]], result: Array
    ) -> Array:
        """`result` in its declared type; EmitError if it has not the declared shape."""
        name, dtype, declared = output
        array = np.asarray(result)
        if not _fits(array.shape, declared):
            raise EmitError(
                f"{step.kind} {name!r} of the package gives a result of shape {array.shape}, but declares {declared}"
            )
        if step.kind in MOVES and array.dtype == _held_as(dtype):
            return array
        rounded = _rounded(array, dtype)
        if rounded.dtype.kind == "f" and not np.isfinite(rounded).all() and _all_finite(operands):
            what = "NaN" if np.isnan(rounded).any() else "infinity"
            self.warnings.append(f"{step.kind} {name!r} gives {what} in {dtype} although its operands are finite")
        return rounded


def _constants(block: Message) -> Iterator[Message]:
    return (operation.outputs[0] for operation in block.operations if operation.type == "const")


def _fits(shape: tuple[int, ...], declared: tuple[int, ...]) -> bool:
    if declared == ANY_RANK:
        return True
    return len(shape) == len(declared) and all(d in (-1, n) for n, d in zip(shape, declared, strict=True))


def _unknown(block: Message) -> set[str]:
    found: set[str] = set()
    for operation in block.operations:
        if operation.type != "const" and operation.type not in _WITH_BLOCKS and operation.type not in FUNCTIONS:
            found.add(operation.type)
        for inner in operation.blocks:
            found |= _unknown(inner)
    return found


def _find_last_uses(block: _Block) -> None:
    """Give each step of the outermost block the values that nothing reads after it."""
    seen = set(block.outputs)
    for step in reversed(block.steps):
        used = _names_read(step) | {name for name, _, _ in step.outputs}
        step.last = sorted(used - seen)
        seen |= used


def _names_read(step: _Step) -> set[str]:
    names = {item for bound in step.operands.values() for item in bound if isinstance(item, str)}
    for block in step.blocks:
        names.update(block.outputs)
        for inner in block.steps:
            names |= _names_read(inner)
    return names


def _python(value: Value) -> Value:
    """Constant scalars that are not floats as Python values."""
    if isinstance(value, np.ndarray) and not value.shape and value.dtype.kind in "iubU":
        return value.item()
    return value


def _fetch(environment: Environment, item: str | _Constant) -> Value:
    """The value of an operand; fp16 data as fp32."""
    value = environment[item] if isinstance(item, str) else item
    if not isinstance(value, _Constant):
        return value
    data = value.value
    return data.astype(np.float32) if isinstance(data, np.ndarray) and data.dtype == np.float16 else data


def _held_as(dtype: str) -> np.dtype[np.generic]:
    return np.dtype(np.float32) if dtype == "fp16" else TYPES[dtype].numpy


def _rounded(array: Array, dtype: str) -> Array:
    """`array` as MIL type `dtype`; fp16 is held as fp32 with the values of fp16."""
    if dtype == "fp16":
        return array.astype(np.float16).astype(np.float32)
    return array.astype(TYPES[dtype].numpy, copy=False)


def _all_finite(operands: Mapping[str, Value]) -> bool:
    for operand in operands.values():
        for item in operand if isinstance(operand, list) else (operand,):
            if isinstance(item, np.ndarray) and item.dtype.kind == "f" and not np.isfinite(item).all():
                return False
    return True

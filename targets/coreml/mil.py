"""Build an ML Program: inputs, constants, operations, outputs; then its specification and package.

Values are typed from birth and named at the end: names given while building are wishes, names of model inputs and
outputs are kept.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compiler.errors import EmitError
from compiler.tensor import Array
from targets.coreml import opset
from targets.coreml.blob import BlobWriter, entry_bytes
from targets.coreml.dtypes import TYPES, type_of
from targets.coreml.features import Color, describe_array, describe_image, feature_dtype
from targets.coreml.literals import WEIGHT_FILE_FROM, constant_identity, is_float_literal, narrow
from targets.coreml.names import identifier, unique
from targets.coreml.package import write_package
from targets.coreml.proto import messages
from targets.coreml.values import set_immediate, set_reference, set_tensor_type

Message = Any  # a protobuf message of Apple's schema: classes are made at run time

_FLOATS = ("fp16", "fp32")
_INLINE = {"reshape_like": ("begins", "ends", "end_masks")}
"""Parameters that are tuples of scalars, written where they are used rather than as constants."""


class Var:
    """A tensor of the program. `value` is its data if it is a constant, else None."""

    __slots__ = ("dtype", "name", "shape", "value")

    def __init__(self, name: str, dtype: str, shape: tuple[int, ...], value: Array | str | None = None) -> None:
        self.name, self.dtype, self.shape, self.value = name, dtype, shape, value

    def __repr__(self) -> str:
        return f"%{self.name}: {self.dtype}[{','.join(map(str, self.shape))}]"


Literal = bool | int | float | str | np.generic | Array | Sequence[int] | Sequence[float] | Sequence[bool]
Operand = Var | Literal | Sequence[Var]
OutputType = tuple[str, tuple[int, ...]]


class Operation:
    """An operation with its operands by parameter. `layer` is what the program was written for when it was added."""

    __slots__ = ("kind", "layer", "operands", "outputs")

    def __init__(
        self, kind: str, operands: Mapping[str, tuple[Var, ...]], outputs: tuple[Var, ...], layer: Hashable = None
    ) -> None:
        self.kind, self.operands, self.outputs, self.layer = kind, operands, outputs, layer


class Constant(Operation):
    """`const` (its value under "val") and the constexpr operations, whose operands are values, or variables that
    another such operation gives."""

    __slots__ = ("keys", "values")

    def __init__(
        self,
        kind: str,
        values: Mapping[str, tuple[Array | str, str]],
        outputs: tuple[Var, ...],
        key: Hashable,
        operands: Mapping[str, tuple[Var, ...]] | None = None,
    ) -> None:
        super().__init__(kind, operands or {}, outputs)
        self.values, self.keys = values, key


class Program:
    """An ML Program for one deployment target ("iOS15" ... "iOS26"). Arrays given as constants are referenced until it
    is saved.
    """

    def __init__(self, deployment_target: str = "iOS16") -> None:
        self.target = opset.target(deployment_target)
        self.inputs: list[Var] = []
        self.outputs: list[tuple[str, Var]] = []
        self.metadata: dict[str, str] = {}
        self.layer: Hashable = None  # what operations are added for, as whoever adds them says
        self._operations: list[Operation] = []
        self._features: dict[str, tuple[str, Color | None]] = {}
        self._literals: dict[Hashable, Var] = {}
        self._overflowed: list[str] = []
        self.stored_bytes: dict[Var, int] = {}  # by constant, what it takes in the weight file

    def input(
        self, name: str, dtype: str, shape: tuple[int, ...], *, color: Color | None = None, description: str = ""
    ) -> Var:
        """A model input: a multi-array, or with `color` an image of shape (1, 3 or 1, height, width).

        Multi-arrays may be fp32 or int32, from iOS 16 fp16, from iOS 26 int8.
        """
        if any(name == known.name for known in self.inputs):
            raise EmitError(f"the program has two inputs called {name!r}")
        feature_dtype(name, dtype, self.target.ios)
        var = Var(name, dtype, shape)
        self.inputs.append(var)
        self._features[f"input {name}"] = (description, color)
        return var

    def output(self, var: Var, name: str, *, color: Color | None = None, description: str = "") -> None:
        """Make `var` the model output `name`; the same restrictions as for inputs hold."""
        if any(name == known for known, _ in self.outputs):
            raise EmitError(f"the program has two outputs called {name!r}")
        feature_dtype(name, var.dtype, self.target.ios)
        taken = any(var is known for known in self.inputs) or any(var is known for _, known in self.outputs)
        if taken or var.value is not None:
            (var,) = self.op("identity", {"x": var}, [(var.dtype, var.shape)], name)
        self.outputs.append((name, var))
        self._features[f"output {name}"] = (description, color)

    def const(self, value: Literal, dtype: str | None = None, *, name: str = "const", key: Hashable = None) -> Var:
        """A constant of MIL type `dtype`; by default that of `value`, with 64-bit numbers narrowed to 32 bits.

        Equal literals are one constant; so are large arrays which are the same object, or which come with the same
        `key`.
        """
        data: Array | str = value if isinstance(value, str) else narrow(np.asarray(value), dtype)
        dtype = "string" if isinstance(data, str) else dtype or type_of(data.dtype)
        identity = constant_identity(data, dtype, key)
        if (known := self._literals.get(identity)) is not None:
            return known
        shape = () if isinstance(data, str) else data.shape
        var = Var(name, dtype, shape, data)
        self._append(Constant("const", {"val": (data, dtype)}, (var,), key))
        self._literals[identity] = var
        return var

    def constexpr(
        self,
        kind: str,
        values: Mapping[str, Literal | tuple[Array, str] | Var],
        outputs: Sequence[OutputType],
        name: str = "weight",
        *,
        key: Hashable = None,
    ) -> list[Var]:
        """A weight stored compressed, expanded on the device by the operation `constexpr_*`.

        A value is a literal, an array with its MIL type: `{"indices": (codes, "uint4"), "lut": table}`, or what another
        such operation gives.
        """
        form = self._form(kind, values)
        typed: dict[str, tuple[Array | str, str]] = {}
        given: dict[str, tuple[Var, ...]] = {}
        for parameter in (*form.required, *form.optional):
            value = values.get(parameter)
            if isinstance(value, Var):
                given[parameter] = (value,)
            elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str):
                typed[parameter] = (np.asarray(value[0]), value[1])
            elif isinstance(value, str):
                typed[parameter] = (value, "string")
            elif value is not None:
                array = narrow(np.asarray(value), None)
                typed[parameter] = (array, type_of(array.dtype))
        made = [Var(name, *output) for output in outputs]
        self._append(Constant(kind, typed, tuple(made), key, given))
        return made

    def op(
        self, kind: str, operands: Mapping[str, Operand | None], types: Sequence[OutputType], name: str | None = None
    ) -> list[Var]:
        """Append an operation and return its outputs, one for each (dtype, shape) of `types`.

        An operand is a Var, a sequence of Vars, or a literal, which becomes a constant; None leaves it out. Python
        floats, and the floats among the defaults that MIL documents, take the float type of the operation's first float
        operand. Optional parameters with a default are written out. EmitError if the deployment target has no such
        operation, or it has other parameters.
        """
        given = {parameter: operand for parameter, operand in operands.items() if operand is not None}
        form = self._form(kind, given)
        name = name or kind
        number = _float_type(given)
        bound: dict[str, tuple[Var, ...]] = {}
        for parameter in (*form.required, *form.optional):
            operand = given.get(parameter)
            if operand is None:
                operand = _default(form.optional[parameter], given)
                if operand is None:
                    continue
            if parameter in _INLINE.get(kind, ()):
                assert isinstance(operand, (list, tuple))
                bound[parameter] = tuple(_inline(item) for item in operand)
            else:
                bound[parameter] = self._bind(operand, number, f"{name}_{parameter}")
        hints = [name] if len(types) == 1 else [f"{name}_{index}" for index in range(len(types))]
        outputs = tuple(Var(hint, *output) for hint, output in zip(hints, types, strict=True))
        self._operations.append(Operation(kind, bound, outputs, self.layer))
        return list(outputs)

    def __len__(self) -> int:
        return len(self._operations)

    def stored(self, start: int) -> dict[Hashable, int]:
        """The large constants that operations from number `start` on read, with the bytes that each takes in the weight
        file."""
        read = (v for o in self._operations[start:] for vs in o.operands.values() for v in vs)
        return {v: size for v in read if (size := self.stored_bytes.get(v, 0))}

    def operations(self) -> Sequence[Operation]:
        """Constants and operations in program order, their variables under the names that they are saved with."""
        self._assign_names()
        return self._operations

    def save(self, path: Path) -> list[str]:
        """Write the program as the package `path`; returns the names of constants with finite elements that fp16 cannot
        hold.
        """
        weights = BlobWriter()
        write_package(path, self.specification(weights), weights)
        return [*self._overflowed, *weights.overflowed]

    def specification(self, weights: BlobWriter) -> Message:
        """Apple's `Model` message of this program; its large constants are added to `weights`."""
        self._assign_names()
        self._overflowed = []
        model = messages().model.Model(specificationVersion=self.target.specification_version)
        self._describe(model.description)
        model.mlProgram.version = 1
        function = model.mlProgram.functions["main"]
        function.opset = self.target.opset
        for var in self.inputs:
            entry = function.inputs.add(name=var.name)
            set_tensor_type(entry.type, var.dtype, var.shape)
        block = function.block_specializations[self.target.opset]
        block.outputs.extend(var.name for _, var in self.outputs)
        for operation in self._operations:
            self._emit(block.operations.add(type=operation.kind), operation, weights)
        return model

    def _append(self, constant: Constant) -> None:
        self._operations.append(constant)
        sizes = (
            entry_bytes(value.size, dtype)
            for value, dtype in constant.values.values()
            if isinstance(value, np.ndarray) and self._in_weight_file(value, dtype)
        )
        expanded = (self.stored_bytes.pop(v, 0) for vs in constant.operands.values() for v in vs)
        self.stored_bytes[constant.outputs[0]] = sum(sizes) + sum(expanded)

    def _form(self, kind: str, given: Mapping[str, object]) -> opset.Signature:
        form = opset.signature(kind, self.target.ios)
        missing = [parameter for parameter in form.required if parameter not in given]
        unknown = [
            parameter for parameter in given if parameter not in form.required and parameter not in form.optional
        ]
        if missing or unknown:
            parts = [f"lacks {', '.join(missing)}"] if missing else []
            parts += [f"has no {', '.join(unknown)} on iOS {self.target.ios}"] if unknown else []
            raise EmitError(f"the MIL operation {kind!r} {' and '.join(parts)}")
        return form

    def _bind(self, operand: Operand, number: str, name: str) -> tuple[Var, ...]:
        if isinstance(operand, Var):
            return (operand,)
        if isinstance(operand, (list, tuple)):
            variables = tuple(item for item in operand if isinstance(item, Var))
            if variables and len(variables) == len(operand):
                return variables
        literal: Any = operand  # no longer a sequence of Vars, which cannot be said of a union of sequences
        return (self.const(literal, number if is_float_literal(literal) else None, name=name),)

    def _assign_names(self) -> None:
        used = {var.name for var in self.inputs}
        if clash := used & {name for name, _ in self.outputs}:
            raise EmitError(f"the program has an input and an output called {min(clash)!r}")
        for name, var in self.outputs:
            var.name = name
        for name in sorted(used | {name for name, _ in self.outputs}):
            if name != identifier(name):
                raise EmitError(
                    f"Core ML cannot have an input or output called {name!r}", hint=f"call it {identifier(name)!r}"
                )
        kept = {id(var) for _, var in self.outputs}
        used.update(name for name, _ in self.outputs)
        counts: dict[str, int] = {}
        for operation in self._operations:
            for var in operation.outputs:
                if id(var) not in kept:
                    var.name = unique(identifier(var.name), used, counts)

    def _describe(self, description: Message) -> None:
        ios = self.target.ios
        for var in self.inputs:
            text, color = self._features[f"input {var.name}"]
            feature = description.input.add(name=var.name, shortDescription=text)
            if color is not None:
                describe_image(feature, var.shape, color, ios)
            else:
                describe_array(feature, var.dtype, var.shape or (1,), ios)
        for name, var in self.outputs:
            text, color = self._features[f"output {name}"]
            feature = description.output.add(name=name, shortDescription=text)
            if color is not None:
                describe_image(feature, var.shape, color, ios)
            else:
                describe_array(feature, var.dtype, var.shape, ios)
        metadata = description.metadata
        for key, value in self.metadata.items():
            if key in ("shortDescription", "versionString", "author", "license"):
                setattr(metadata, key, value)
            else:
                metadata.userDefined[key] = value

    def _emit(self, message: Message, operation: Operation, weights: BlobWriter) -> None:
        for var in operation.outputs:
            output = message.outputs.add(name=var.name)
            set_tensor_type(output.type, var.dtype, var.shape)
        set_immediate(message.attributes["name"], operation.outputs[0].name, "string")
        for parameter, variables in operation.operands.items():
            arguments = message.inputs[parameter].arguments
            for var in variables:
                if parameter in _INLINE.get(operation.kind, ()) and var.value is not None:
                    set_immediate(arguments.add().value, var.value, var.dtype)
                else:
                    arguments.add(name=var.name)
        if not isinstance(operation, Constant):
            return
        as_inputs = opset_inlines(operation.kind, self.target.ios)
        for parameter, (value, dtype) in operation.values.items():
            slot = message.inputs[parameter].arguments.add().value if as_inputs else message.attributes[parameter]
            self._store(slot, value, dtype, operation, parameter, weights)

    def _store(
        self, slot: Message, value: Array | str, dtype: str, operation: Constant, parameter: str, weights: BlobWriter
    ) -> None:
        if isinstance(value, str) or not self._in_weight_file(value, dtype):
            if set_immediate(slot, value, dtype):
                self._overflowed.append(operation.outputs[0].name)
            return
        key = None if operation.keys is None else (operation.keys, parameter)
        offset = weights.add(value, dtype, name=operation.outputs[0].name, key=key)
        set_reference(slot, offset, dtype, value.shape)

    def _in_weight_file(self, value: Array, dtype: str) -> bool:
        element = TYPES[dtype]
        since = 18 if element.name in ("int16", "uint16", "int32", "uint32") else 15
        return value.size >= WEIGHT_FILE_FROM and element.blob is not None and self.target.ios >= since


def opset_inlines(kind: str, ios: int) -> bool:
    """True if values of the constant operation `kind` are inputs (the forms since iOS 18) rather than attributes."""
    return kind != "const" and opset.signature(kind, ios).since >= 18


def _inline(item: object) -> Var:
    value = np.asarray(item)
    return Var("", type_of(value.dtype), (), narrow(value, None))


def _float_type(given: Mapping[str, Operand]) -> str:
    for operand in given.values():
        items: Iterable[object] = operand if isinstance(operand, (list, tuple)) else (operand,)
        for item in items:
            if isinstance(item, Var) and item.dtype in _FLOATS:
                return item.dtype
    return "fp32"


def _default(default: opset.Default, given: Mapping[str, Operand]) -> Literal | None:
    """The literal that MIL documents for a parameter left out; some depend on the operands."""
    x, weight = given.get("x"), given.get("weight")
    rank = len(x.shape) if isinstance(x, Var) else 0
    if default == opset.ONES:
        return [1] * (rank - 2)
    if default == opset.PADS:
        return [0] * (2 * (rank - 2))
    if default == opset.ALL_AXES:
        return list(range(rank))
    if default == opset.ZEROS:
        assert isinstance(weight, Var)
        return np.zeros(weight.shape[0], TYPES[weight.dtype].numpy)
    return default

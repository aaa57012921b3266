"""A program of MIL operations as the prediction of places reads it; Apple's messages are not needed for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compiler.graph import Node
from targets.apple.placement.operation import Operation, Tensor
from targets.apple.placement.operation import Program as Placed
from targets.coreml import mil

SMALL = 64  # elements of a constant whose values are handed on
SHAPED = ("scale", "lut")  # the parameter of a compressed weight that says how it is divided


def placed(program: mil.Program) -> Placed:
    """The operations of a finished program but for its constants, which are operands of theirs."""
    operations = program.operations()
    tensors: dict[mil.Var, Tensor] = {}
    stored = program.stored(0)
    forms: dict[mil.Var, mil.Constant] = {}
    for operation in operations:
        form = _first(operation, forms) if isinstance(operation, mil.Constant) else None
        for var in operation.outputs:
            tensors[var] = _tensor(var, form, stored.get(var, 0))
            if form is not None:
                forms[var] = form
    for var in program.inputs:
        tensors[var] = _tensor(var, None, 0)
    computed = [o for o in operations if not isinstance(o, mil.Constant)]
    readers = _readers(computed, program)
    makers = {v: o.kind for o in computed for v in o.outputs}
    made = tuple(_operation(number, o, tensors, readers, makers) for number, o in enumerate(computed))
    inputs = tuple(tensors[v] for v in program.inputs)
    return Placed(made, inputs, tuple(tensors[v] for _, v in program.outputs), f"iOS{program.target.ios}")


def _first(operation: mil.Constant, forms: Mapping[mil.Var, mil.Constant]) -> mil.Constant:
    """The operation that says in what bits a weight is stored: of several in a row, the first."""
    return next((forms[v] for vs in operation.operands.values() for v in vs), operation)


def _tensor(var: mil.Var, form: mil.Constant | None, stored: int) -> Tensor:
    if form is None or form.kind == "const":
        return Tensor(var.name, var.dtype, var.shape, form is not None, stored=stored)
    return Tensor(var.name, var.dtype, var.shape, True, form.kind, _division(var, form), stored)


def _division(var: mil.Var, form: mil.Constant) -> tuple[int, ...]:
    """Into how many parts with a scale or table of their own each axis of a weight is divided; () if into none."""
    found = next((v for name in SHAPED if isinstance(v := form.values.get(name, ("", ""))[0], np.ndarray)), None)
    rank = len(var.shape)
    if found is None or found.size < 2:
        return ()
    if "axis" in form.values:  # one number for each place along it
        axis = int(np.asarray(form.values["axis"][0]))
        return tuple(found.size if i == axis % rank else 1 for i in range(rank))
    return found.shape[:rank] if found.ndim >= rank else ()


def _readers(operations: Sequence[mil.Operation], program: mil.Program) -> dict[mil.Var, list[str]]:
    found: dict[mil.Var, list[str]] = {}
    for operation in operations:
        for variables in operation.operands.values():
            for var in variables:
                found.setdefault(var, []).append(operation.kind)
    for _, var in program.outputs:
        found.setdefault(var, []).append("output")
    return found


def _operation(
    number: int,
    operation: mil.Operation,
    tensors: Mapping[mil.Var, Tensor],
    readers: Mapping[mil.Var, list[str]],
    makers: Mapping[mil.Var, str],
) -> Operation:
    layer = operation.layer
    node = layer if isinstance(layer, Node) else None
    inline = {v: _tensor(v, None, 0)._replace(constant=True) for vs in operation.operands.values() for v in vs}
    inputs = {name: tuple(tensors.get(v) or inline[v] for v in vs) for name, vs in operation.operands.items()}
    return Operation(
        number,
        operation.kind,
        inputs,
        [tensors[v] for v in operation.outputs],
        attributes={name: value for name, vs in operation.operands.items() if (value := _value(vs)) is not None},
        read_by=[kind for v in operation.outputs for kind in readers.get(v, ())],
        made_by=[makers[v] for vs in operation.operands.values() for v in vs if v in makers],
        layer="" if node is None else f"{node.op.name} {node.outputs[0].name}".strip(),
        onnx="" if node is None else node.op.onnx,
        origin=() if node is None else sorted(node.origin),
    )


def _value(variables: Sequence[mil.Var]) -> Any:  # Any: a number, a text, or a list of numbers
    """The value of a small constant, or of several scalars; None for all else."""
    values = [v.value for v in variables]
    if any(v is None or (not isinstance(v, str) and v.size > SMALL) for v in values):
        return None
    plain = [v if isinstance(v, str) else v.tolist() for v in values if v is not None]
    return plain[0] if len(plain) == 1 else plain

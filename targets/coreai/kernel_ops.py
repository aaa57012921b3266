"""Reads the Metal kernels of an asset back: their texts, names, threads and tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compiler.errors import EmitError
from targets.coreai.package import BYTECODE, is_asset

Operation = Any  # of the package's bindings, which come without types
OPERATION = "coreai.metal4_kernel"


class KernelOp(NamedTuple):
    """A kernel in a program: the text, its function there, threads of the grid and of a threadgroup, and the types of
    its operands and results in the dialect's notation."""

    source: str
    name: str
    grid: tuple[int, ...]
    group: tuple[int, ...]
    operands: list[str]
    results: list[str]


def kernels_in(path: Path) -> dict[str, KernelOp]:
    """The kernels of the asset `path`, by name, in their order. EmitError if there is none, which ends the process in
    Apple's package."""
    if not is_asset(path):
        raise EmitError(f"{str(path)!r} is not an .aimodel with a program")
    import coreai.authoring  # noqa: F401  # all of Apple's package, whose parts load each other in this order alone
    from coreai._compiler import ir
    from coreai._compiler._mlir_libs import _coreaiIR
    from coreai._compiler._mlir_libs._coreaiIR._bindings import compiler

    context = ir.Context()
    _coreaiIR.register_dialects(context, load=True)
    module = compiler.load_module_from_bytecode(context=context, path=path / BYTECODE)
    found = (_read(op) for op in _operations(module.operation) if op.name == OPERATION)
    return {kernel.name: kernel for kernel in found}


def _operations(op: Operation) -> Iterator[Operation]:
    """An operation and all that are inside."""
    yield op
    for region in op.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield from _operations(inner.operation)


def _read(op: Operation) -> KernelOp:
    count = _integers(op.attributes["operandSegmentSizes"])[0]
    operands = list(op.operands)
    grid, group = (_constant(v) for v in operands[count : count + 2])
    text, name = (op.attributes[key].value for key in ("kernel_source", "kernel_name"))
    types = [str(v.type) for v in operands[:count]], [str(v.type) for v in op.results]
    return KernelOp(text, name, grid, group, *types)


def _integers(attribute: Any) -> list[int]:  # Any: of the package's bindings
    return [int(n) for n in attribute]


def _constant(v: Any) -> tuple[int, ...]:  # Any: of the package's bindings
    return tuple(int(n) for n in np.array(v.owner.attributes["value"]).ravel())

"""The seam for our own Metal kernels: an operation without a lowering may be supplied as one.

A kernel is a function `(node) -> Kernel | None`, registered for an operation with `supplies`. It is asked where the
table of lowerings does not accept the layer; None refuses it too. The program then holds a `metal4_kernel` operation
between copies of its operands and results into and out of Metal's memory. Only Apple's systems execute those: a program
with one is saved here, and refused when it is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from compiler.errors import EmitError
from compiler.graph import Node
from compiler.op import Op
from targets.coreai.lower.lowering import Lowering
from targets.coreai.program import Var

PARAMETER_LIMIT = 31  # of a Metal function
METAL = {
    "bool": "bool", "fp16": "half", "fp32": "float", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t",
    "uint16": "uint16_t", "int32": "int", "uint32": "uint",
}  # fmt: skip
HEADER = """#include <metal_stdlib>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp::tensor_ops;
"""


class Kernel(NamedTuple):
    """The body of a Metal function over tensors x0, x1, ... (operands that are present) and y0, y1, ... (results).

    body      statements; `position`, of type uint3, is the thread's place in the grid
    threads   how many threads there are along each of three axes
    group     how many of them form a threadgroup
    helpers   functions before it
    """

    name: str
    body: str
    threads: tuple[int, int, int]
    group: tuple[int, int, int] = (32, 1, 1)
    helpers: str = ""


Supplier = Callable[[Node], Kernel | None]
KERNELS: dict[type[Op], Supplier] = {}


def supplies(op: type[Op]) -> Callable[[Supplier], Supplier]:
    """Register a kernel for an operation."""

    def register(supplier: Supplier) -> Supplier:
        assert op not in KERNELS, f"{op.name} has two kernels"
        KERNELS[op] = supplier
        return supplier

    return register


def kernel_for(node: Node) -> Kernel | None:
    """The kernel of a layer, if there is one."""
    supplier = KERNELS.get(type(node.op))
    return None if supplier is None else supplier(node)


def launch(p: Lowering, node: Node, kernel: Kernel) -> None:
    """Write a layer as its kernel. EmitError for more tensors than a Metal function takes."""
    operands = p.operands(node)
    results = [(p.dtype(v.type.dtype), v.type.dims) for v in node.outputs]
    if len(operands) + len(results) >= PARAMETER_LIMIT:
        raise EmitError(
            f"a Metal function takes {PARAMETER_LIMIT} parameters, and the kernel {kernel.name!r} needs more"
        )
    source, name = _source(kernel, operands, results)
    settings = [p.sizes(kernel.threads), p.sizes(kernel.group), *(p.sizes(shape) for _, shape in results)]
    made = p.program.kernel(operands, settings, results, source, name)
    for v, y in zip(node.outputs, made, strict=True):
        p.bind(v, y)


def _source(kernel: Kernel, operands: list[Var], results: list[tuple[str, tuple[int, ...]]]) -> tuple[str, str]:
    """The whole of the function, and its name, which is another one for another source."""
    tensors = [(f"x{i}", v.dtype, len(v.shape)) for i, v in enumerate(operands)]
    tensors += [(f"y{i}", dtype, len(shape)) for i, (dtype, shape) in enumerate(results)]
    parameters = [_parameter(i, *tensor) for i, tensor in enumerate(tensors)]
    arguments = ", ".join([*parameters, "uint3 position [[thread_position_in_grid]]"])
    body = f"({arguments}) {{\n{kernel.body}\n}}\n"
    digest = hashlib.sha256((kernel.helpers + body).encode()).hexdigest()[:8]
    name = f"{kernel.name}_{digest}"
    return f"{HEADER}{kernel.helpers}\n[[kernel]] void {name}{body}", name


def _parameter(index: int, name: str, dtype: str, rank: int) -> str:
    if rank == 0:
        return f"constant {METAL[dtype]}& {name} [[buffer({index})]]"
    return f"tensor<device {METAL[dtype]}, metal::dextents<int, {rank}>, tensor_handle> {name} [[buffer({index})]]"

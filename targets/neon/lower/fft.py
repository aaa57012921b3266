"""Fourier transforms of lengths that split into small factors; others are products with constant matrices."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from codegen.neon.fft import FIRST, SCRATCH, Fft, stages
from codegen.program import Split
from compiler import ops
from compiler.target import Need
from compiler.tensor import F32, Array
from targets.neon.table import lowers

if TYPE_CHECKING:
    from compiler.graph import Node, Value
    from targets.neon.program import NeonProgram

SIZE = 4  # bytes of a float


def kind_of(op: ops.DFT, parts: int) -> str | None:
    """Of the kernel for a transform of numbers of so many parts; None if there is none."""
    if op.inverse:
        kind = "real_inverse" if op.onesided else "inverse"
        return kind if parts == 2 else None
    if parts == 2:
        return None if op.onesided else "complex"
    return "real" if op.onesided else "whole"


def kernel_of(kind: str | None, length: int, *, is_windowed: bool = False) -> Fft | None:
    """None if there is none for the length."""
    if kind is None:
        return None
    made = Fft(length=length, kind=kind, is_windowed=is_windowed)
    return made if not (made.is_real and length % 2) and stages(made.points) else None


def dft_kernel(node: Node) -> Fft | None:
    """Along the last axis but that of the parts, of floats, without zeros added."""
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.DFT) and x is not None
    kernel = kernel_of(kind_of(op, int(x.type.shape[-1])), op.length)
    if kernel is None or x.type.dtype is not F32 or op.axis != x.type.rank - 2 or not x.type.is_static:
        return None
    taken = op.length // 2 + 1 if kernel.kind == "real_inverse" else op.length
    return kernel if taken <= x.type.dims[op.axis] else None


def stft_kernel(node: Node) -> Fft | None:
    """Of frames of real numbers."""
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.STFT) and x is not None
    if x.type.dtype is not F32 or x.type.shape[-1] != 1 or not x.type.is_static:
        return None
    window = node.inputs[1] if len(node.inputs) > 1 else None
    return kernel_of("real" if op.onesided else "whole", op.length, is_windowed=window is not None)


LENGTHS = "a length of 2^a 3^b 5^c, a multiple of 4 from 16 on (of 8 from 32 on for real numbers)"
TRANSFORMED = Need(
    text=f"float32, {LENGTHS}, of elements that are there; other transforms are at most products with a matrix of the"
    " size that docs/passes/decompose.md tells",
    holds=lambda node: dft_kernel(node) is not None,
)
FRAMED = Need(
    text=f"float32, real numbers, {LENGTHS}; other transforms are at most convolutions with a matrix of the size that"
    " docs/passes/decompose.md tells",
    holds=lambda node: stft_kernel(node) is not None,
)


@lowers(ops.DFT, needs=(TRANSFORMED,))
def _dft(p: NeonProgram, node: Node, op: ops.DFT) -> None:
    x, kernel = node.inputs[0], dft_kernel(node)
    assert x is not None and kernel is not None
    step = prod(x.type.dims[op.axis :])
    transform(p, node, kernel, (1, 0, x.type.size // step if step else 0, step), None)


@lowers(ops.STFT, needs=(FRAMED,))
def _stft(p: NeonProgram, node: Node, op: ops.STFT) -> None:
    x, kernel = node.inputs[0], stft_kernel(node)
    assert x is not None and kernel is not None
    batch, total, _ = x.type.dims
    window = node.inputs[1] if kernel.is_windowed else None
    transform(p, node, kernel, (batch, total, node.output.type.dims[1], op.step), window)


def transform(p: NeonProgram, node: Node, kernel: Fft, over: tuple[int, int, int, int], window: Value | None) -> None:
    """The frames of all groups: `over` how many groups, floats from one to the next, and the same for frames."""
    x = node.inputs[0]
    assert x is not None
    groups, group_step, frames, step = over
    own = SIZE * SCRATCH * kernel.points
    windows = [] if window is None else [p.at(window)]
    factors = p.constant(factors_of(kernel), "factors")
    source, y, scratch = p.at(x), p.result(node.output), p.scratch(own * p.threads, "parts")
    result = SIZE * kernel.result
    if groups == 1:
        split = Split(frames, count="frames", steps={"x": SIZE * step, "y": result}, own={"scratch": own})
    else:
        steps = {"x": SIZE * group_step, "y": result * frames}
        split = Split(groups, count="groups", steps=steps, own={"scratch": own})
    title = f"Fourier transforms of {kernel.length}, {groups * frames} frames"
    p.call(kernel, source, *windows, factors, y, scratch, *over, node=node, title=title, split=split)


def factors_of(kernel: Fft) -> Array:
    """e^(-2 pi i p k / n) of all passes but the last: of the first the parts apart, of the others in pairs; then those
    of the step between real and complex numbers."""
    parts = []
    for stage in kernel.stages[:-1]:
        p, k = np.arange(stage.groups), np.arange(1, stage.radix)
        turns = np.exp(-2j * np.pi * (np.outer(p, k) % (stage.radix * stage.groups)) / (stage.radix * stage.groups))
        pairs = np.stack([turns.real, turns.imag], -1)
        parts.append(pairs.transpose(1, 2, 0) if stage.step == 1 else pairs)
    assert kernel.stages[0].radix == FIRST
    if kernel.is_real:
        turns = np.exp(-1j * np.pi * np.arange(1, kernel.points // 2 + 1) / kernel.points)
        turns = turns if kernel.kind == "real_inverse" else turns / 2
        parts.append(np.stack([turns.real, turns.imag]))
    return np.concatenate([part.reshape(-1) for part in parts]).astype(np.float32)

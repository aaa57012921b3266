"""Products of few rows with constant matrices, among them those that are stored in 8 or 4 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from codegen.expression import Operand
from codegen.metal.gemv import COLUMNS, Gemv, packed_columns, take_of, words
from codegen.program import Pointer
from compiler import ops
from compiler.graph import Node, Value
from compiler.ops.quant import DequantizeLinear
from compiler.tensor import I4, I8, U4, U8, Array
from targets.metal.lower.results import Result, result_of
from targets.metal.program import MetalProgram
from targets.source.program import Tail, ctype_of


class Stored(NamedTuple):
    """A matrix [k, n] in few bits: real = scale * (stored - zero), with [blocks, n] scales and zeros, of which each is
    for `block` rows; zeros are None if all are 0. `bits` are those of an element."""

    stored: Array
    scales: Array
    zeros: Array | None
    block: int
    bits: int


def stored_matrix(w: Value, *, transposed: bool = False) -> Stored | None:
    """A constant matrix [k, n], or [n, k], that is stored in few bits with a scale for each column, for all, or for
    blocks of a multiple of 8 rows; None if it is anything else."""
    node = w.node
    if node is not None and isinstance(node.op, ops.Cast) and node.inputs[0] is not None:
        node = node.inputs[0].node
    if node is None or not isinstance(node.op, DequantizeLinear):
        return None
    x, scale, zero = (*node.inputs, None)[:3]
    assert x is not None and scale is not None
    known = all(v is None or v.data is not None for v in (x, scale, zero))
    if not known or x.type.rank != 2 or x.type.dtype not in (I8, U8, I4, U4):
        return None
    op, depth = node.op, 1 if transposed else 0
    in_blocks = bool(op.block_size) and op.axis == depth and op.block_size % 8 == 0
    if not in_blocks and (op.block_size or op.axis == depth):
        return None
    return _taken(op, x, scale, zero, transposed)


def _taken(op: DequantizeLinear, x: Value, scale: Value, zero: Value | None, transposed: bool) -> Stored:
    matrix = np.asarray(x.data)
    first = slice(None, None, op.block_size or matrix.shape[1 if transposed else 0])
    at = (slice(None), first) if transposed else (first, slice(None))

    def parameters(v: Value) -> Array:
        whole = np.broadcast_to(op.spread(np.asarray(v.data), matrix.shape), matrix.shape)[at].astype(np.float32)
        return whole.T if transposed else whole

    zeros = None if zero is None else parameters(zero)
    if zeros is not None and not zeros.any():
        zeros = None
    wide = matrix.astype(np.int8 if x.type.dtype.kind == "i" else np.uint8)
    bits = x.type.dtype.bits
    return Stored(wide.T if transposed else wide, parameters(scale), zeros, op.block_size, bits)


class Rows(NamedTuple):
    """The rows of x, as they lie, times a matrix [k, n] plus biases, if there are any: the result of the layer with its
    tail, or what goes `to` another place as it is."""

    x: Value
    matrix: Array | Stored
    biases: Sequence[Pointer]
    title: str
    to: Pointer | None = None

    def tail(self, p: MetalProgram, node: Node) -> Tail:
        """What is done with each result."""
        return p.tail(node) if self.to is None else Tail(Operand(0), (), node.outputs[0])

    def result(self, p: MetalProgram, tail: Tail) -> Result:
        """Where the result is written."""
        return result_of(p, tail.value) if self.to is None else Result(self.to)


def few_rows(p: MetalProgram, node: Node, of: Rows, vector: int) -> None:
    """For at most MOST_ROWS; `vector` neighbours of x can be loaded at once."""
    stored = of.matrix if isinstance(of.matrix, Stored) else None
    k, n = (of.matrix.stored if isinstance(of.matrix, Stored) else of.matrix).shape
    ctype, tail = ctype_of(of.x.type.dtype), of.tail(p, node)
    rows = of.x.type.size // k if of.to is not None else tail.value.type.size // n
    others = [p.at(v) for v in tail.others]
    y = of.result(p, tail)
    kernel = Gemv(
        rows=rows,
        ctype=ctype,
        w_type=ctype if stored is None else _type(stored),
        block=0 if stored is None else stored.block,
        has_zeros=stored is not None and (stored.zeros is not None or stored.bits == 4),
        vector=vector if vector == Gemv.vector else 1,
        has_bias=bool(of.biases),
        tail=tail.expression,
        **y.fields,
    )
    w = node.inputs[1]
    name = (w.name if w is not None else None) or "w"
    if isinstance(of.matrix, Stored):
        weights = _placed(p, of.matrix, kernel, name)
    else:
        weights = [p.constant(packed_columns(of.matrix, kernel.take), name)]
    arguments = [p.at(of.x), *weights, *of.biases, *others, y.at, n, k, *y.numbers]
    p.call(kernel, *arguments, node=node, title=f"{of.title}, {rows} row{'s' * (rows != 1)}")


def _type(of: Stored) -> str:
    """Of the elements that the kernel reads."""
    if of.bits == 4:
        return "uint32_t"
    return "int8_t" if of.stored.dtype == np.int8 else "uint8_t"


def _placed(p: MetalProgram, of: Stored, kernel: Gemv, name: str) -> list[Pointer]:
    """Weights, scales and zeros as the kernel reads them; numbers of 4 bits that have a sign are raised by 8."""
    stored, zeros = of.stored, of.zeros
    if of.bits == 4:
        raised = 8 if stored.dtype == np.int8 else 0
        stored = (stored.astype(np.int16) + raised).astype(np.uint8)
        zeros = (np.zeros_like(of.scales) if zeros is None else zeros) + np.float32(raised)
    columns = packed_columns(stored, take_of(kernel.w_type))
    made = [
        p.constant(words(columns) if of.bits == 4 else columns, name),
        p.constant(_padded(of.scales), f"{name}_scale"),
    ]
    return made if zeros is None else [*made, p.constant(_padded(zeros), f"{name}_zero")]


def _padded(parameters: Array) -> Array:
    """[blocks, n] column by column, with zeros for columns that are missing in a simdgroup."""
    blocks, n = parameters.shape
    made = np.zeros((-(-n // COLUMNS) * COLUMNS, blocks), np.float32)
    made[:n] = parameters.T
    return made

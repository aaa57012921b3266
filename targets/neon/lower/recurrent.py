"""Recurrent layers of floats with constant weights, as loops over their steps."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.expression import Apply, Expression, Operand
from codegen.neon.attention import Product
from codegen.neon.gemm import SIZE
from codegen.neon.gemm_model import tiles
from codegen.neon.recurrent import Recurrent
from codegen.program import Pointer
from compiler import ops
from compiler.graph import Node
from compiler.ops.recurrent import Recurrent as Layer
from compiler.target import Need
from compiler.tensor import F32, Array
from targets.neon.blocking import Core
from targets.neon.lower.attention import product as cut
from targets.neon.lower.matmul import packed, product
from targets.neon.program import NeonProgram
from targets.neon.table import lowers
from targets.source.gates import Gates
from targets.source.recurrent import PEEPHOLES, C, H, biases, has_constant_weights, lengths, operand, parameters

SUM: Expression = Apply("add", (Operand(0), Operand(1)))


def _holds(node: Node) -> bool:
    x = operand(node, 0)
    return x is not None and x.type.dtype is F32 and has_constant_weights(node)


FLOATS = Need(text="constant weights of float32", holds=_holds)


@lowers(ops.LSTM, ops.GRU, ops.RNN, needs=(FLOATS,))
def _recurrent(p: NeonProgram, node: Node, op: Layer) -> None:
    x = operand(node, 0)
    assert x is not None
    time, batch, _ = x.type.dims
    w, r, b = parameters(node)
    directions, wide, _ = r.shape
    first, rest = biases(op, b, wide)
    matrix = w.reshape(directions * wide, -1).T
    seen = p.scratch(SIZE * time * batch * directions * wide, "seen")
    title = f"inputs of {type(op).__name__}, {matrix.shape[0]} to {matrix.shape[1]} features"
    product(p, node, x, matrix, first.reshape(-1), title, to=(seen, Operand(0)))
    outputs = [p.result(v) for v in node.outputs]
    for d in range(directions):
        _direction(p, node, op, d, r[d].T, rest[d], seen, outputs)


def _direction(
    p: NeonProgram,
    node: Node,
    op: Layer,
    d: int,
    r: Array,
    bias: Array,
    seen: Pointer,
    outputs: Sequence[Pointer],
) -> None:
    """r [hidden, gates * hidden] and the biases of its product."""
    x = operand(node, 0)
    assert x is not None
    time, batch, _ = x.type.dims
    hidden, wide = r.shape
    lens = lengths(node)
    start_h, start_c, peepholes = (operand(node, i) for i in (H, C, PEEPHOLES))
    is_gru, is_lstm = isinstance(op, ops.GRU), isinstance(op, ops.LSTM)
    kernel, constants = _kernel(p, op, d, r, bias, 1 if lens is not None else batch, peepholes is not None)
    kernel = kernel.with_(
        time=time,
        batch=batch,
        directions=node.outputs[1].type.dims[0],
        backwards=op.direction == "reverse" or d == 1,
        has_lens=lens is not None,
        has_h=start_h is not None,
        has_c=is_lstm and start_c is not None,
        has_p=is_lstm and peepholes is not None,
    )
    state = SIZE * d * batch * hidden
    given = [] if lens is None else [p.at(lens)]
    if start_h is not None:
        given.append(further(p.at(start_h), state))
    if is_lstm and start_c is not None:
        given.append(further(p.at(start_c), state))
    if is_lstm and peepholes is not None:
        given.append(further(p.at(peepholes), SIZE * d * 3 * hidden))
    writes = [further(seen, SIZE * d * wide), *(further(y, state) for y in outputs)]
    if is_gru:
        writes.append(p.scratch(SIZE * batch * hidden, "rest"))
    title = f"{type(op).__name__}, {time} step{'s' * (time != 1)} of {hidden} units"
    p.call(kernel, *constants, *given, *writes, node=node, title=title)


def _kernel(
    p: NeonProgram, op: Layer, d: int, r: Array, bias: Array, rows: int, has_p: bool
) -> tuple[Recurrent, list[Pointer]]:
    """The kernel but for the shape of the sequence, and its packed weights."""
    hidden, wide = r.shape
    gates, core = Gates(op, d), p.core
    shared = wide - hidden if isinstance(op, ops.GRU) else wide
    first = added(rows, shared, hidden, core)
    weights = [_packed(p, r[:, :shared], bias[:shared], rows, core)]
    kernel = Recurrent(
        kind=type(op).__name__.lower(),
        time=0,
        batch=rows,
        directions=1,
        hidden=hidden,
        backwards=False,
        out=gates(0, Operand(0)),
        product=first,
    )
    if isinstance(op, ops.LSTM):
        cell, out = gates.lstm(op, has_p)
        return kernel.with_(cell=cell, out=out), weights
    if isinstance(op, ops.GRU):
        out, reset = gates.gru(op)
        weights.append(_packed(p, r[:, shared:], bias[shared:], rows, core))
        second = cut(rows, hidden, hidden, core) if reset is None else added(rows, hidden, hidden, core)
        return kernel.with_(out=out, reset=reset, candidate=second), weights
    return kernel, weights


def added(m: int, n: int, k: int, core: Core) -> Product:
    """A product that is added to what is there."""
    made = cut(m, n, k, core)
    return made._replace(gemm=made.gemm.with_(tail=SUM))


def _packed(p: NeonProgram, matrix: Array, bias: Array, rows: int, core: Core) -> Pointer:
    k, n = matrix.shape
    return p.constant(packed(matrix, bias, tiles(rows, n, k, in_order=core.is_in_order)), "r")


def further(p: Pointer, nbytes: int) -> Pointer:
    """So many bytes further on."""
    return p._replace(offset=p.offset + nbytes)

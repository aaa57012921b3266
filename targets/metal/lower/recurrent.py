"""Recurrent layers of floats with constant weights: a product for the inputs of all steps, then a kernel that walks
them."""

from __future__ import annotations

import numpy as np

from codegen.expression import Operand
from codegen.metal.recurrent import Recurrent
from codegen.program import Pointer
from compiler import ops
from compiler.graph import Node
from compiler.ops.recurrent import Recurrent as Layer
from compiler.target import Need
from compiler.tensor import F16, F32, Array
from targets.metal.lower.matmul import product
from targets.metal.program import MetalProgram
from targets.metal.table import lowers
from targets.source.gates import Gates
from targets.source.program import bytes_of, ctype_of
from targets.source.recurrent import PEEPHOLES, C, H, biases, has_constant_weights, lengths, operand, parameters

MEMORY = 32768  # bytes of a threadgroup: states of 32-bit floats have to fit
STATES = 5  # of a unit, at most


def _holds(node: Node) -> bool:
    x, op = operand(node, 0), node.op
    assert isinstance(op, Layer)
    fits = 4 * STATES * node.outputs[1].type.dims[-1] <= MEMORY
    return x is not None and x.type.dtype in (F16, F32) and fits and has_constant_weights(node)


FLOATS = Need(text=f"constant weights of float32 or float16, and at most {MEMORY // 4 // STATES} units", holds=_holds)


@lowers(ops.LSTM, ops.GRU, ops.RNN, needs=(FLOATS,))
def _recurrent(p: MetalProgram, node: Node, op: Layer) -> None:
    w, r, b = parameters(node)
    first, rest = biases(op, b, r.shape[1])
    seen = _inputs(p, node, w, first)
    outputs = [p.result(v) for v in node.outputs]
    for d in range(r.shape[0]):
        _direction(p, node, op, d, r[d].T, rest[d], [seen, *outputs])


def _inputs(p: MetalProgram, node: Node, w: Array, bias: Array) -> Pointer:
    """What all gates see of the inputs: w [directions, gates * hidden, features]."""
    x = operand(node, 0)
    assert x is not None
    time, batch, features = x.type.dims
    wide = w.shape[0] * w.shape[1]
    seen = p.scratch(bytes_of(x.type.dtype) * time * batch * wide, "seen")
    title = f"inputs of {type(node.op).__name__}, {features} to {wide} features"
    product(p, node, x, w.reshape(wide, features).T, bias.reshape(-1), title, to=seen)
    return seen


def _direction(p: MetalProgram, node: Node, op: Layer, d: int, r: Array, bias: Array, places: list[Pointer]) -> None:
    """r [hidden, gates * hidden] and the biases of a candidate's product; `places`: what is seen, and results."""
    x, lens = operand(node, 0), lengths(node)
    assert x is not None
    time, batch, _ = x.type.dims
    hidden, wide = r.shape
    element = bytes_of(x.type.dtype)
    starts = [operand(node, i) for i in ((H, C, PEEPHOLES) if isinstance(op, ops.LSTM) else (H,))]
    kernel = _kernel(op, d, has_p=len(starts) > 1 and starts[2] is not None).with_(
        time=time,
        batch=batch,
        directions=node.outputs[1].type.dims[0],
        hidden=hidden,
        ctype=ctype_of(x.type.dtype),
        backwards=op.direction == "reverse" or d == 1,
        has_lens=lens is not None,
        has_h=starts[0] is not None,
        has_c=len(starts) > 1 and starts[1] is not None,
    )
    state = element * d * batch * hidden
    weights = [p.constant(np.ascontiguousarray(r), "r")]
    if kernel.is_split:
        weights.append(p.constant(np.ascontiguousarray(bias[2 * hidden :]), "rest"))
    sizes = (state, state, element * d * 3 * hidden)
    given = [_further(p.at(v), size) for v, size in zip(starts, sizes, strict=False) if v is not None]
    given.append(_further(places[0], element * d * wide))
    given += [] if lens is None else [p.at(lens)]
    written = [_further(y, state) for y in places[1:]]
    title = f"{type(op).__name__}, {time} step{'s' * (time != 1)} of {hidden} units"
    p.call(kernel, *weights, *given, *written, node=node, title=title)


def _kernel(op: Layer, d: int, has_p: bool) -> Recurrent:
    """The kernel of one direction, but for its sizes."""
    gates = Gates(op, d)
    kernel = Recurrent(
        kind=type(op).__name__.lower(),
        time=0,
        batch=0,
        directions=1,
        hidden=0,
        backwards=False,
        out=gates(0, Operand(0)),
        has_p=has_p,
    )
    if isinstance(op, ops.LSTM):
        cell, out = gates.lstm(op, has_p)
        return kernel.with_(cell=cell, out=out)
    if isinstance(op, ops.GRU):
        out, reset = gates.gru(op)
        return kernel.with_(out=out, reset=reset)
    return kernel


def _further(p: Pointer, nbytes: int) -> Pointer:
    """So many bytes further on."""
    return p._replace(offset=p.offset + nbytes)

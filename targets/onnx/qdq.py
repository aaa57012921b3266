"""Stored integers as ONNX says them: QuantizeLinear and DequantizeLinear between layers of floats.

A value becomes QuantizeLinear -> DequantizeLinear, a constant its integers -> DequantizeLinear. A runtime that knows
the pattern computes a layer between the two in integers; any other computes floats that were rounded to the same steps.
"""

from __future__ import annotations

import numpy as np

from compiler.graph import Graph, Node, Value
from compiler.ops.activation import Clip, Relu
from compiler.ops.elementwise import Add, Sum
from compiler.ops.matmul import Dense
from compiler.ops.quant import DequantizeLinear, QuantizeLinear
from compiler.ops.shape import Reshape
from compiler.quantize import counts, quantized
from compiler.tensor import I8, I32, U8, Array, DType, QuantParams
from passes._int8_scheme import Scheme

CLIPS = (Relu, Clip)


class QdqGraph:
    """A graph of stored integers for one that is annotated; `graph` is new, the annotated one stays.

    kind     int8 or uint8: the element type of activations that are annotated as int8. The numbers are the same.
    ports    int8 or uint8: what inputs and outputs that are annotated as int8 are in the file; None: floats
    quants   parameters of those, by name
    """

    def __init__(self, annotated: Graph, scheme: Scheme, kind: DType, ports: DType | None) -> None:
        self.graph = Graph(annotated.name)
        self.graph.metadata = dict(annotated.metadata)
        self.quants: dict[str, QuantParams] = {}
        self._scheme = scheme
        self._kind = kind
        self._ports = ports
        self._values: dict[Value, Value] = {}
        self._stored: dict[Value, Value] = {}
        self._constants: dict[tuple[int, QuantParams | None, bool], Value] = {}  # by array and how it is stored
        self._parameters: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        for v in annotated.inputs:
            self._input(v)
        for node in annotated.nodes:
            self._layer(node)
        named = zip(annotated.outputs, annotated.output_names, strict=True)
        outputs = [self._output(v, name) for v, name in named]
        self.graph.set_outputs(outputs, annotated.output_names)

    def _input(self, v: Value) -> None:
        params, port = self._params(v), self._port(v, v.name)
        held = v.type._replace(quant=None)
        given = self.graph.add_input(held if port is None else held.with_dtype(port.dtype), v.name)
        if port is not None and port == params:
            self._stored[v], self._values[v] = given, self._real(given, port)
            return
        real = given if port is None else self._real(given, port)
        self._values[v] = real if params is None else self._rounded(v, real, params)

    def _output(self, v: Value, name: str) -> Value:
        port = self._port(v, name) if v in self._stored else None
        if port is None:
            return self._operand(v)
        return self._stored[v] if port == self._params(v) else self._quantize(self._values[v], port)

    def _port(self, v: Value, name: str) -> QuantParams | None:
        """The parameters of an input or output that is integers in the file."""
        if self._ports is None or v.type.quant is None or v.type.quant.dtype is not I8:
            return None
        self.quants[name] = unsigned(v.type.quant) if self._ports is U8 else v.type.quant
        return self.quants[name]

    def _layer(self, node: Node) -> None:
        found = self._scheme.weight_of(node)
        weights = None if found is None else found[1]
        alone = not any(v is not None and v.data is None and v.type.quant for v in node.inputs)
        operands = [None if v is None else self._operand(v, alone or i == weights) for i, v in enumerate(node.inputs)]
        op = Add() if isinstance(node.op, Sum) and len(operands) == 2 else node.op
        results = self._dense(node, operands) or self.graph.add(
            op, *operands, origin=node.origin, names=[v.name for v in node.outputs]
        )
        for v, result in zip(node.outputs, results, strict=True):
            params = None if is_clipped(v) else self._params(v)
            self._values[v] = result if params is None else self._rounded(v, result, params)

    def _dense(self, node: Node, operands: list[Value | None]) -> tuple[Value, ...]:
        """A dense layer of more than two axes as one of rows, which is computed in integers with its bias; empty for
        any other."""
        x, y = node.inputs[0], node.outputs[0]
        before, after = (None if v is None else self._params(v) for v in (x, y))
        if not isinstance(node.op, Dense) or x is None or None in (before, after) or not x.type.is_static:
            return ()
        if x.type.rank == 2:
            return ()
        assert before is not None and after is not None
        rows = self._reshaped(operands[0], (x.type.size // x.type.dims[-1], x.type.dims[-1]))
        (product,) = self.graph.add(node.op, self._again(rows, before), *operands[1:], origin=node.origin)
        return (self._reshaped(self._again(product, after), y.type.dims, y.name),)

    def _reshaped(self, v: Value | None, shape: tuple[int, ...], name: str = "") -> Value:
        return self.graph.add(Reshape(shape=shape), v, names=[name])[0]

    # -- values ----------------------------------------------------------------------------------------------

    def _params(self, v: Value) -> QuantParams | None:
        params = v.type.quant
        return params if params is None or params.dtype is not I8 or self._kind is not U8 else unsigned(params)

    def _operand(self, v: Value, is_weight: bool = False) -> Value:
        if v.data is None:
            return self._values[v]
        key = (id(v.data), v.type.quant, is_weight)
        if key not in self._constants:
            self._constants[key] = self._constant(v, is_weight)
        return self._constants[key]

    def _constant(self, v: Value, is_weight: bool) -> Value:
        assert v.data is not None
        params = v.type.quant if is_weight else self._params(v)
        if params is None:
            return self.graph.const(v.data, v.name, v.origin)
        stored = quantized(np.asarray(v.data), params, narrow=is_weight and params.dtype.bits <= 8)
        return self._real(self.graph.const(stored, v.name, v.origin), params)

    def _rounded(self, v: Value, raw: Value, params: QuantParams) -> Value:
        stored = self._stored[v] = self._quantize(raw, params)
        return self._real(stored, params)

    def _again(self, v: Value, params: QuantParams) -> Value:
        return self._real(self._quantize(v, params), params)

    def _quantize(self, v: Value, params: QuantParams) -> Value:
        layer = QuantizeLinear(axis=params.axis, dtype=params.dtype.name)
        return self.graph.add(layer, v, *self._numbers(params, v.type.dims))[0]

    def _real(self, stored: Value, params: QuantParams) -> Value:
        axis, size = params.block or (params.axis, 0)
        layer = DequantizeLinear(axis=axis, block_size=size)
        return self.graph.add(layer, stored, *self._numbers(params, stored.type.dims))[0]

    def _numbers(self, params: QuantParams, dims: tuple[int, ...]) -> tuple[Value, ...]:
        """Scales and zero points in the shape that ONNX has for them; biases have scales alone."""
        scale, zero = np.array(params.scale, np.float32), np.array(params.zero_point, params.dtype.numpy)
        if params.block is not None:
            shape = tuple(d // params.block.size if i == params.block.axis else d for i, d in enumerate(dims))
            held = counts(params, dims)
            scale, zero = (np.broadcast_to(a.reshape(held), shape) for a in (scale, zero))
        elif params.axis is None:
            scale, zero = scale.reshape(()), zero.reshape(())
        if params.dtype is I32:
            return (self._shared(scale, "scale"),)
        return self._shared(scale, "scale"), self._shared(zero, "zero_point")

    def _shared(self, array: Array, name: str) -> Value:
        """A constant; equal ones are one."""
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._parameters:
            self._parameters[key] = self.graph.const(array.copy(), name)
        return self._parameters[key]


def unsigned(params: QuantParams) -> QuantParams:
    """The same numbers as int8, stored in uint8."""
    return params._replace(zero_point=tuple(z + 128 for z in params.zero_point), dtype=U8)


def is_clipped(v: Value) -> bool:
    """Whether only a clip reads a value, and rounds to the same steps: rounding is monotone, so once is enough, and a
    runtime can compute the clip by saturation."""
    if v.n_out or len(v.users) != 1:
        return False
    (user,) = v.users
    return isinstance(user.op, CLIPS) and user.inputs[0] is v and user.output.type.quant == v.type.quant

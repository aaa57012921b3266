"""A TensorFlow Lite model before it is written: tensors, constants that know how they are stored, operators."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from compiler.filemap import release
from compiler.quantize import part_of, quantized
from compiler.tensor import I4, Array, QuantParams
from targets.tflite import opset

Options = dict[str, Any]  # fields of a builtin options table, as the schema names them
PIECE = 1 << 20  # elements of a constant that are converted and written at a time
PAGES = 1 << 16  # elements from which the pages of a constant are worth giving back
SMALL = 2048  # bytes up to which equal constants are stored once; no kernel that is stored in 16 bits is as small

NUMPY: dict[str, np.dtype[Any]] = {
    "FLOAT32": np.dtype(np.float32),
    "FLOAT16": np.dtype(np.float16),
    "INT8": np.dtype(np.int8),
    "UINT8": np.dtype(np.uint8),
    "INT16": np.dtype(np.int16),
    "UINT16": np.dtype(np.uint16),
    "INT32": np.dtype(np.int32),
    "UINT32": np.dtype(np.uint32),
    "INT64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
}
TYPES = {dtype: name for name, dtype in NUMPY.items()}
NUMPY["INT4"] = np.dtype(np.int8)  # in pairs, where they are stored


class Constant(NamedTuple):
    """Data of a constant tensor: an array, perhaps memory-mapped, stored with its axes permuted and as `dtype`, or as
    the integers of `quant`, whose axis is one of the permuted array's."""

    array: Array
    perm: tuple[int, ...] | None
    dtype: np.dtype[Any]
    quant: QuantParams | None = None
    narrow: bool = False

    @property
    def nbytes(self) -> int:
        return -(-self.array.size // 2) if self._in_pairs else self.array.size * self.dtype.itemsize

    @property
    def _in_pairs(self) -> bool:
        return self.quant is not None and self.quant.dtype is I4

    @property
    def place(self) -> Hashable:
        """The same for constants that are the same memory, stored alike, whatever their shapes."""
        view = self.array if self.perm is None else self.array.transpose(self.perm)
        axes: list[tuple[int, int]] = []  # lengths and strides, neighbours merged where they are one axis in memory
        for length, stride in zip(view.shape, view.strides, strict=True):
            if axes and axes[-1][1] == length * stride:
                axes[-1] = (axes[-1][0] * length, stride)
            elif length != 1:
                axes.append((length, stride))
        return view.__array_interface__["data"][0], tuple(axes), view.dtype.str, self.dtype.char, self.quant

    def stored(self) -> Array:
        """The elements as they are written; a copy only where they differ from the array."""
        array = self.array if self.perm is None else self.array.transpose(self.perm)
        if self.quant is not None:
            integers = quantized(array, self.quant, self.narrow)
            return _pairs(integers) if self._in_pairs else np.ascontiguousarray(integers)
        with np.errstate(over="ignore", under="ignore"):
            return np.ascontiguousarray(array, self.dtype)

    def pieces(self) -> Iterator[Array]:
        """`stored` in pieces along its first axis, of which only one need be in memory; the pages of a mapped file
        are given back behind them."""
        array = self.array if self.perm is None else self.array.transpose(self.perm)
        if array.size <= PIECE or not array.ndim or self._in_pairs:
            yield self.stored()
        else:
            rows = max(1, PIECE * len(array) // array.size)
            for start in range(0, len(array), rows):
                part = array[start : start + rows]
                quant = self.quant if self.quant is None else part_of(self.quant, start, start + rows)
                yield Constant(part, None, self.dtype, quant, self.narrow).stored()
                release(part)
        if array.size > PAGES:
            release(self.array)


def _pairs(integers: Array) -> Array:
    """Integers of 4 bits two to a byte, the first in the lower half."""
    flat = integers.astype(np.uint8).reshape(-1) & 15
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return flat[::2] | flat[1::2] << 4


class Tensor:
    """A tensor of the model; `constant` holds the data of a constant, `variable` marks the state of a layer.

    quant  of integers that stand for real numbers; of floats, the parameters to store them with, where that is known
    real   floats that are not to be stored as integers, whatever could be known of them
    """

    __slots__ = ("constant", "dtype", "name", "quant", "real", "shape", "variable")

    def __init__(self, name: str, dtype: str, shape: tuple[int, ...], constant: Constant | None = None) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.constant = constant
        self.variable = False
        self.quant: QuantParams | None = None
        self.real = False

    def __repr__(self) -> str:
        return f"{self.name}:{self.dtype}{list(self.shape)}"


class Operator(NamedTuple):
    """A builtin operator applied to tensors (None: an optional operand that is absent)."""

    code: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Options
    version: int


class Model:
    """One subgraph being built; operators stand in the order of execution.

    inputs, outputs   the ONNX name and the tensor of each
    """

    def __init__(self) -> None:
        self.inputs: list[tuple[str, Tensor]] = []
        self.outputs: list[tuple[str, Tensor]] = []
        self.operators: list[Operator] = []
        self.description = ""
        self.runtimes: list[str] = []  # the oldest that have the element types of the operators
        self._constants: dict[Hashable, Tensor] = {}
        self._producers: dict[int, int] = {}  # id of a tensor -> place of the operator that computes it
        self._reads: dict[int, int] = {}  # id of a tensor -> how many operands it is

    def input(self, name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
        """A new input, after those that there are."""
        tensor = Tensor(name, dtype, shape)
        self.inputs.append((name, tensor))
        return tensor

    def constant(
        self,
        array: Array,
        name: str = "const",
        perm: tuple[int, ...] | None = None,
        dtype: str | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Tensor:
        """A constant tensor, perhaps under another shape once its axes are permuted. The same array stored alike is
        one tensor, and so are small equal ones."""
        kind = NUMPY[dtype] if dtype else array.dtype
        if perm == tuple(range(array.ndim)):
            perm = None
        key: Hashable = (id(array), perm, kind.char, shape)
        if array.nbytes <= SMALL:
            stored = Constant(array, perm, kind).stored()
            array, perm, shape = stored.reshape(shape or (stored.shape if array.ndim else ())), None, None
            key = (array.shape, kind.char, array.tobytes())
        found = self._constants.get(key)
        if found is None:
            shape = shape or (array.shape if perm is None else tuple(array.shape[i] for i in perm))
            found = self._constants[key] = Tensor(name, TYPES[kind], shape, Constant(array, perm, kind))
        return found

    def add(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        results: Sequence[tuple[str, tuple[int, ...]]],
        options: Options | None = None,
        name: str = "",
    ) -> tuple[Tensor, ...]:
        """An operator with results of these types."""
        outputs = tuple(Tensor(name or code.lower(), dtype, shape) for dtype, shape in results)
        version = opset.version(code, inputs, outputs, options or {})
        for t in outputs:
            self._producers[id(t)] = len(self.operators)
        for operand in inputs:
            self._reads[id(operand)] = self._reads.get(id(operand), 0) + 1
        self.operators.append(Operator(code, tuple(inputs), outputs, options or {}, version))
        return outputs

    def reshaped_from(self, tensor: Tensor) -> Tensor:
        """The tensor of which this one is only another shape; itself if it is computed otherwise."""
        while (place := self._producers.get(id(tensor))) is not None and self.operators[place].code == "RESHAPE":
            source = self.operators[place].inputs[0]
            assert source is not None
            tensor = source
        return tensor

    def fuse(self, tensor: Tensor, activation: int, held: Container[int]) -> bool:
        """Let the operator that computes `tensor`, which nobody reads yet, apply an activation; reshapes in between
        are seen through, but for tensors whose ids are in `held`, which others may read. False if it cannot."""
        reads = 0
        while id(tensor) in self._producers and self._reads.get(id(tensor), 0) == reads:
            place = self._producers[id(tensor)]
            operator = self.operators[place]
            if operator.code in opset.FUSES_ACTIVATION and tensor.dtype == "FLOAT32":
                if operator.options.get(opset.ACTIVATION):
                    return False
                self.operators[place] = operator._replace(options={**operator.options, opset.ACTIVATION: activation})
                return True
            if operator.code != "RESHAPE" or operator.inputs[0] is None:
                return False
            tensor, reads = operator.inputs[0], 1
            if id(tensor) in held:
                return False
        return False

    def is_nonnegative(self, tensor: Tensor) -> bool:
        """Whether no element can be below 0, as far as rectifiers and what moves or averages their results tell."""
        waiting, seen = [tensor], {id(tensor)}
        while waiting:
            place = self._producers.get(id(waiting.pop()))
            if place is None:
                return False
            operator = self.operators[place]
            if operator.code in opset.NONNEGATIVE or operator.options.get(opset.ACTIVATION) in (
                opset.RELU,
                opset.RELU6,
            ):
                continue
            if operator.code not in opset.KEEPS_SIGN:
                return False
            sources = [t for t in operator.inputs[: opset.KEEPS_SIGN[operator.code]] if t is not None]
            waiting.extend(t for t in sources if id(t) not in seen)
            seen.update(map(id, sources))
        return True

    def drop_unread(self) -> None:
        """Remove operators whose results nobody reads."""
        needed = {id(t) for _, t in self.outputs}
        kept = []
        for o in reversed(self.operators):
            writes_state = any(t is not None and t.variable for t in o.inputs)
            if writes_state or any(id(t) in needed for t in o.outputs):
                kept.append(o)
                needed.update(id(t) for t in o.inputs if t is not None)
        self.operators = kept[::-1]

    def counts(self) -> dict[str, int]:
        """How many operators there are of each kind."""
        found: dict[str, int] = {}
        for o in self.operators:
            found[o.code] = found.get(o.code, 0) + 1
        return dict(sorted(found.items()))

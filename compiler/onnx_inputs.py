"""The inputs of an ONNX model: their types, numbers for their dynamic dimensions, and the values of frozen ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from compiler.errors import OnnxError, UsageError
from compiler.onnx_proto import element_type, quote
from compiler.tensor import Array, Dim, DType, TensorType, dtype_of

if TYPE_CHECKING:
    from compiler.onnx_proto import ValueInfoProto

Shapes = Mapping[str, Sequence[int]]
LARGEST = 2**63 - 1  # what ONNX stores of a dimension
MAX_FILLED = 1 << 28  # bytes


class InputBinder:
    """Static types of a model's inputs, which are tensors.

    types   by name
    notes   sentences on what was assumed
    frozen  the values of frozen inputs, of their types

    `shapes` binds dynamic dimensions; a name bound in one input, or by the shape of a frozen array, is bound in all.
    An unbound first dimension (the batch) becomes 1, as do those of an input frozen to one number. Raises OnnxError
    listing all other unbound dimensions, and UsageError for shapes and values that contradict the model.
    """

    def __init__(self, infos: Sequence[ValueInfoProto], shapes: Shapes, freeze: Mapping[str, Array]) -> None:
        self.infos = {info.name: info for info in infos}
        self.symbols: dict[str, int] = {}
        self.types: dict[str, TensorType] = {}
        self.notes: list[str] = []
        self.frozen: dict[str, Array] = {}
        self._unbound: list[str] = []
        for name in (*shapes, *freeze):
            if name not in self.infos:
                names = ", ".join(map(quote, self.infos)) or "none"
                raise UsageError(f"the model has no input {quote(name)}", hint=f"its inputs are {names}")
        arrays = {name: np.asarray(value) for name, value in freeze.items()}
        given = {**{name: a.shape for name, a in arrays.items() if a.ndim}, **shapes}
        for name, shape in given.items():
            self._collect(name, shape)
        for name, info in self.infos.items():
            dtype = element_type(info.type.tensor_type.elem_type, f"input {quote(name)}")
            self.types[name] = TensorType(dtype, self._shape(name, given.get(name), name in freeze))
        if self._unbound:
            raise OnnxError(
                f"dimensions must be numbers, but {'; '.join(self._unbound)}",
                hint="give the whole shape, e.g. --input NAME=1x3x224x224",
            )
        self.frozen = {name: _filled(name, a, self.types[name]) for name, a in arrays.items()}

    def _collect(self, name: str, shape: Sequence[int]) -> None:
        """Learn names of dimensions from the shape given for an input."""
        if any(not 0 <= n <= LARGEST for n in shape):
            raise UsageError(f"the shape {list(shape)} given for input {quote(name)} is not one of a tensor")
        dims = _declared_shape(self.infos[name])
        if dims is None:
            return
        if len(dims) != len(shape):
            what = f"has {len(dims)} dimensions {_shown(dims)}"
            raise UsageError(f"input {quote(name)} {what}, but {list(shape)} was given")
        for d, n in zip(dims, shape, strict=True):
            if d != "" and (d if isinstance(d, int) else self.symbols.setdefault(d, int(n))) != n:
                what = f"has shape {_shown(dims)}" + (f" with {d} = {self.symbols[d]}" if isinstance(d, str) else "")
                raise UsageError(f"input {quote(name)} {what}, which {list(shape)} contradicts")

    def _shape(self, name: str, given: Sequence[int] | None, is_frozen: bool) -> tuple[int, ...]:
        if given is not None:
            return tuple(map(int, given))
        dims = _declared_shape(self.infos[name])
        if dims is None:
            if not is_frozen:
                self._unbound.append(f"{quote(name)} has no shape")
            return ()
        return tuple(self._bound(name, dims, i, is_frozen) for i in range(len(dims)))

    def _bound(self, name: str, dims: tuple[Dim, ...], i: int, is_frozen: bool) -> int:
        d = dims[i]
        if isinstance(d, int):
            return d
        if d in self.symbols:
            return self.symbols[d]
        label = f"dimension {i} ({quote(d) if d else 'unnamed'}) of"
        if i == 0 and len(dims) > 1 and not is_frozen:
            self.notes.append(f"{label} input {quote(name)} is taken as 1, the batch")
            if d:
                self.symbols[d] = 1
        elif not is_frozen:
            self._unbound.append(f"{label} {quote(name)} is not bound")
        return 1


def _declared_shape(info: ValueInfoProto) -> tuple[Dim, ...] | None:
    """Numbers, names, and "" for dimensions that have neither; None if the rank is unknown."""
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param for d in tensor.shape.dim)


def _shown(dims: Sequence[Dim]) -> str:
    return f"[{', '.join('?' if d == '' else str(d) for d in dims)}]"


def _filled(name: str, array: Array, t: TensorType) -> Array:
    """The value of a frozen input: of its type, where no number changes; one number fills the shape."""
    if array.ndim and array.shape != t.shape:
        raise UsageError(f"input {quote(name)} is {t}, its frozen value has shape {list(array.shape)}")
    if t.nbytes > MAX_FILLED and not array.ndim:
        raise UsageError(f"input {quote(name)} is {t}, too large to be filled with one number")
    return np.asarray(np.broadcast_to(_converted(name, array, t.dtype), t.dims), order="C")


def _converted(name: str, array: Array, wanted: DType) -> Array:
    if dtype_of(array) is wanted:
        return array
    if "s" not in (dtype_of(array).kind, wanted.kind):
        converted = array.astype(wanted.numpy)
        if wanted.is_float or np.array_equal(converted, array):
            return converted
    raise UsageError(f"input {quote(name)} holds {wanted} elements, which its frozen value is not")

"""The inputs of an ONNX model: their types, and numbers for their dynamic dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from compiler.errors import OnnxError, UsageError
from compiler.onnx_proto import element_type, quote
from compiler.tensor import Dim, TensorType

if TYPE_CHECKING:
    from compiler.onnx_proto import ValueInfoProto

Shapes = Mapping[str, Sequence[int]]


def bind_inputs(infos: Iterable[ValueInfoProto], shapes: Shapes) -> tuple[dict[str, TensorType], list[str]]:
    """Static types of the model's inputs by name, and sentences on what was assumed.

    `shapes` binds dynamic dimensions; a name bound in one input is bound in all. An unbound first dimension (the
    batch) becomes 1. Raises OnnxError listing all other unbound dimensions or non-tensor inputs, and UsageError for
    shapes that contradict the model.
    """
    declared = {info.name: info for info in infos}
    for name in shapes:
        if name not in declared:
            raise UsageError(
                f"the model has no input {name!r}", hint=f"its inputs are {', '.join(map(repr, declared)) or 'none'}"
            )
    not_tensors = [
        f"{quote(n)} is a {i.type.WhichOneof('value') or 'value without type'}"
        for n, i in declared.items()
        if i.type.WhichOneof("value") != "tensor_type"
    ]
    if not_tensors:
        raise OnnxError(f"only tensors can be inputs: {'; '.join(not_tensors)}")
    symbols: dict[str, int] = {}
    for name, shape in shapes.items():
        _collect(name, _declared_shape(declared[name]), shape, symbols)
    types: dict[str, TensorType] = {}
    notes: list[str] = []
    unbound: list[str] = []
    for name, info in declared.items():
        dtype = element_type(info.type.tensor_type.elem_type, f"input {quote(name)}")
        dims = _declared_shape(info)
        if name in shapes:
            types[name] = TensorType(dtype, tuple(int(d) for d in shapes[name]))
        elif dims is None:
            unbound.append(f"{quote(name)} has no shape")
        else:
            types[name] = TensorType(dtype, _bound(name, dims, symbols, notes, unbound))
    if unbound:
        raise OnnxError(
            f"dimensions must be numbers, but {'; '.join(unbound)}",
            hint="give the whole shape, e.g. --input NAME=1x3x224x224",
        )
    return types, notes


def _declared_shape(info: ValueInfoProto) -> tuple[Dim, ...] | None:
    """Numbers, names, and "" for dimensions that have neither; None if the rank is unknown."""
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param for d in tensor.shape.dim)


def _collect(name: str, dims: tuple[Dim, ...] | None, shape: Sequence[int], symbols: dict[str, int]) -> None:
    if any(int(n) < 0 for n in shape):
        raise UsageError(f"the shape {list(shape)} given for input {name!r} has a negative dimension")
    if dims is None:
        return
    if len(dims) != len(shape):
        raise UsageError(f"input {name!r} has {len(dims)} dimensions {list(dims)}, but {list(shape)} was given")
    for d, n in zip(dims, shape, strict=True):
        if d not in ("", n) and (isinstance(d, int) or symbols.setdefault(d, int(n)) != n):
            raise UsageError(f"input {name!r} has shape {list(dims)}, which {list(shape)} contradicts at {d!r}")


def _bound(
    name: str, dims: tuple[Dim, ...], symbols: dict[str, int], notes: list[str], unbound: list[str]
) -> tuple[int, ...]:
    result = []
    for i, d in enumerate(dims):
        if isinstance(d, int):
            result.append(d)
        elif d and d in symbols:
            result.append(symbols[d])
        elif i == 0 and len(dims) > 1:
            notes.append(
                f"dimension {i} ({quote(d) if d else 'unnamed'}) of input {quote(name)} is taken as 1, the batch"
            )
            if d:
                symbols[d] = 1
            result.append(1)
        else:
            unbound.append(f"dimension {i} ({quote(d) if d else 'unnamed'}) of {quote(name)} is not bound")
            result.append(1)
    return tuple(result)

"""Constants in the two forms an ML Program has for them: written into the program itself, or a reference into the
weight file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from compiler.errors import EmitError
from compiler.tensor import Array
from targets.coreml.blob import BlobReader
from targets.coreml.dtypes import BY_PROTO, TYPES, cast, pack_bits, unpack_bits

Message = Any  # a protobuf message of Apple's schema: classes are made at run time

ANY_RANK = (-2,)
WEIGHT_FILE = "@model_path/weights/weight.bin"


def set_tensor_type(message: Message, dtype: str, shape: tuple[int, ...]) -> None:
    """Make the ValueType `message` a tensor of `dtype` and `shape`; scalars are tensors of rank 0."""
    tensor = message.tensorType
    tensor.dataType = TYPES[dtype].proto
    if shape:
        tensor.rank = len(shape)
        dimensions = tensor.dimensions
        for size in shape:
            dimensions.add().constant.size = size
    else:
        message.tensorType.SetInParent()


def tensor_type(message: Message) -> tuple[str, tuple[int, ...]]:
    """Element type and shape of a ValueType; a dimension that is not fixed reads as -1, an unknown rank as ANY_RANK."""
    kind = message.WhichOneof("type")
    if kind != "tensorType":
        raise EmitError(f"the program has a value of kind {kind!r}, which is not a tensor")
    tensor = message.tensorType
    if any(d.unknown.variadic for d in tensor.dimensions):
        return BY_PROTO[tensor.dataType].name, ANY_RANK
    shape = tuple(d.constant.size if d.WhichOneof("dimension") == "constant" else -1 for d in tensor.dimensions)
    return BY_PROTO[tensor.dataType].name, shape


def set_immediate(message: Message, value: Array | str, dtype: str) -> bool:
    """Make the Value `message` hold `value` itself; returns whether finite elements became infinite."""
    shape = () if isinstance(value, str) else value.shape
    set_tensor_type(message.type, dtype, shape)
    element = TYPES[dtype]
    content = getattr(message.immediateValue.tensor, element.field)
    overflow = False
    if isinstance(value, str):
        content.values.append(value)
    elif element.field == "bytes":
        stored, overflow = cast(value, element.numpy)
        content.values = pack_bits(stored, element.bits) if element.packed else stored.tobytes()
    elif value.size:
        content.values.extend(value.reshape(-1).tolist())
    if not isinstance(value, str) and not value.size:
        content.SetInParent()
    return overflow


def set_reference(message: Message, offset: int, dtype: str, shape: tuple[int, ...]) -> None:
    """Make the Value `message` refer to the entry of the weight file at `offset`."""
    set_tensor_type(message.type, dtype, shape)
    message.blobFileValue.fileName = WEIGHT_FILE
    message.blobFileValue.offset = offset


def read_value(message: Message, weights: BlobReader | None) -> Array | str | list[Any]:
    """What a Value holds: an array of its declared type and shape, a string, or a list of scalars (class labels)."""
    if message.type.WhichOneof("type") == "listType":
        return [_scalar(item) for item in message.immediateValue.list.values]
    dtype, shape = tensor_type(message.type)
    element, size = TYPES[dtype], int(np.prod(shape, dtype=np.int64))
    if message.WhichOneof("value") == "blobFileValue":
        return _from_file(message.blobFileValue, weights, dtype, shape)
    tensor = message.immediateValue.tensor
    content = getattr(tensor, tensor.WhichOneof("value") or element.field)
    if dtype == "string":
        return str(content.values[0]) if not shape else np.array(list(content.values)).reshape(shape)
    if element.field != "bytes":
        values = np.array(list(content.values), element.numpy)
    elif element.packed:
        values = unpack_bits(content.values, element, size)
    else:
        values = np.frombuffer(content.values, element.numpy)
    if values.size != size:
        raise EmitError(f"a constant of {size} elements holds {values.size}")
    return values.reshape(shape)


def _scalar(message: Message) -> str | int:
    value = read_value(message, None)
    return value if isinstance(value, str) else int(np.asarray(value).item())


def _from_file(reference: Message, weights: BlobReader | None, dtype: str, shape: tuple[int, ...]) -> Array:
    if weights is None or reference.fileName != WEIGHT_FILE:
        raise EmitError(
            f"the program refers to the weight file {reference.fileName!r}, which the package does not have"
        )
    stored, values = weights.read(reference.offset)
    if stored != dtype or values.size != int(np.prod(shape, dtype=np.int64)):
        raise EmitError(
            f"the program expects {dtype} of shape {shape} at offset {reference.offset} of the weight file, "
            f"which holds {values.size} of {stored}"
        )
    return values.reshape(shape)

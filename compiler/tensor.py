"""Element types, shapes, layouts and quantization: what is known about a tensor before it has data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Dim = int | str  # a number, or the name of a dimension that is not bound yet
Shape = tuple[Dim, ...]


class DType:
    """An element type: its short name, its width in bits and its numpy twin.

    `kind` is one of: f float, i signed integer, u unsigned integer, b boolean, s string, c complex.
    """

    __slots__ = ("_numpy", "bits", "kind", "name")

    def __init__(self, name: str, kind: str, bits: int, numpy_name: str | None) -> None:
        self.name = name
        self.kind = kind
        self.bits = bits
        self._numpy: np.dtype[Any] | None = np.dtype(numpy_name) if numpy_name else None

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype; element types that numpy lacks come from ml_dtypes."""
        if self._numpy is None:
            import ml_dtypes  # loaded only for models that use these types

            self._numpy = np.dtype(getattr(ml_dtypes, ML_DTYPES[self.name]))
            BY_NUMPY[self._numpy] = self
        return self._numpy

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def is_real(self) -> bool:
        return self.kind in "fiu"

    def __repr__(self) -> str:
        return self.name

    def __copy__(self) -> DType:
        return self

    def __deepcopy__(self, memo: object) -> DType:
        return self


ML_DTYPES = {
    "bf16": "bfloat16",
    "f8e4m3fn": "float8_e4m3fn",
    "f8e4m3fnuz": "float8_e4m3fnuz",
    "f8e5m2": "float8_e5m2",
    "f8e5m2fnuz": "float8_e5m2fnuz",
    "f8e8m0": "float8_e8m0fnu",
    "f4e2m1": "float4_e2m1fn",
    "i4": "int4",
    "u4": "uint4",
    "i2": "int2",
    "u2": "uint2",
}

F16 = DType("f16", "f", 16, "float16")
F32 = DType("f32", "f", 32, "float32")
F64 = DType("f64", "f", 64, "float64")
I8, I16, I32, I64 = (DType(f"i{bits}", "i", bits, f"int{bits}") for bits in (8, 16, 32, 64))
U8, U16, U32, U64 = (DType(f"u{bits}", "u", bits, f"uint{bits}") for bits in (8, 16, 32, 64))
BOOL = DType("bool", "b", 8, "bool")
STRING = DType("str", "s", 64, "object")
C64 = DType("c64", "c", 64, "complex64")
C128 = DType("c128", "c", 128, "complex128")
BF16 = DType("bf16", "f", 16, None)
I4, U4, I2, U2 = (DType(k + str(bits), k, bits, None) for bits in (4, 2) for k in "iu")
FLOAT8 = tuple(DType(name, "f", 8, None) for name in ML_DTYPES if name.startswith("f8"))
F4 = DType("f4e2m1", "f", 4, None)

DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        F16,
        F32,
        F64,
        I8,
        I16,
        I32,
        I64,
        U8,
        U16,
        U32,
        U64,
        BOOL,
        STRING,
        C64,
        C128,
        BF16,
        I4,
        U4,
        I2,
        U2,
        *FLOAT8,
        F4,
    )
}
BY_NUMPY: dict[np.dtype[Any], DType] = {d._numpy: d for d in DTYPES.values() if d._numpy}


def dtype_of(array: Array) -> DType:
    """The element type of a numpy array; strings of any numpy kind are `str`."""
    found = BY_NUMPY.get(array.dtype)
    if found is None:
        for name, numpy_name in ML_DTYPES.items():
            if array.dtype.name == numpy_name:
                return BY_NUMPY.setdefault(array.dtype, DTYPES[name])
        if array.dtype.kind in "OUS":
            return STRING
        raise TypeError(f"numpy type {array.dtype} has no element type here")
    return found


class Block(NamedTuple):
    """`size` neighbours along `axis`, which has a whole number of blocks."""

    axis: int
    size: int


class QuantParams(NamedTuple):
    """real = scale * (stored - zero_point), per tensor (axis None) or along `axis`; tuples so that it hashes.

    With `block` there is one scale and zero point for each block too, all in row-major order: of [4,64] with axis 0 and
    blocks of 32 along axis 1, the third scale is that of row 1 and columns 0 to 31.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None
    dtype: DType
    block: Block | None = None


class Palette(NamedTuple):
    """Each number is stored as its place in a table of 2^bits numbers, which ascend: one table for the tensor (axis
    None), or one for each of as many equal groups of neighbours along `axis` as there are tables."""

    tables: tuple[tuple[float, ...], ...]
    axis: int | None = None

    @property
    def bits(self) -> int:
        """Of a place."""
        return (len(self.tables[0]) - 1).bit_length()


class Layout(NamedTuple):
    """The order of bytes of a logical shape: `order` permutes it, `block` splits the channel axis (0: not blocked)."""

    order: tuple[int, ...]
    block: int = 0


_BOUND = frozenset((int,))  # the type of dimensions that are numbers


class TensorType(NamedTuple):
    """What a value is: element type, shape in the operation's logical order, and annotations for targets; of a constant
    that is stored in fewer bits, either `quant` or `palette`."""

    dtype: DType
    shape: Shape
    quant: QuantParams | None = None
    layout: Layout | None = None
    palette: Palette | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        return _BOUND.issuperset(map(type, self.shape))

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape as numbers; raises ValueError while a dimension is still a name."""
        for d in self.shape:
            if type(d) is not int:
                raise ValueError(f"dimension {d!r} is not bound")
        return self.shape  # type: ignore[return-value]  # just checked

    @property
    def size(self) -> int:
        """Number of elements; an unbound dimension counts as one."""
        n = 1
        for d in self.shape:
            if type(d) is int:
                n *= d
        return n

    @property
    def nbytes(self) -> int:
        return (self.size * self.dtype.bits + 7) // 8

    def with_shape(self, shape: Shape) -> TensorType:
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


def type_of(array: Array) -> TensorType:
    """The type of a numpy array."""
    return TensorType(dtype_of(array), array.shape)

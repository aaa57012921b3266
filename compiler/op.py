"""Operations: one class holds an operation's attributes, shape rule, meaning, cost and its way from and to ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from compiler.errors import OnnxError, ShapeError
from compiler.record import Record
from compiler.tensor import Array, Dim, Shape, TensorType

if TYPE_CHECKING:
    from numpy.random import Generator

Types = TensorType | tuple[TensorType, ...]
Arrays = Array | tuple[Array, ...]


class Operand(Protocol):
    """What an operation may know of a value when it is read from ONNX: its type, and its data if it is constant."""

    type: TensorType
    data: Array | None


def expect(condition: object, message: str) -> None:
    """Raise ShapeError(message) unless the condition holds; the graph adds the layer's printed form."""
    if not condition:
        raise ShapeError(message)


def expect_opset(e: Emitter, version: int, what: str) -> None:
    """Raise OnnxError unless the opset being written has `what`, which there is since `version`."""
    if e.opset < version:
        raise OnnxError(f"{what} needs ONNX opset {version}", hint="raise --opset")


class Emitter(Protocol):
    """Where an operation writes itself as ONNX nodes.

    opset    version of the default domain that is being written
    types    types of the operands of the layer being written (None for an absent one)
    outputs  types of its results
    """

    opset: int
    types: tuple[TensorType | None, ...]
    outputs: tuple[TensorType, ...]

    def node(
        self, op_type: str, *inputs: str | None, outputs: int = 1, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node; attributes that are None are left out. Returns the names of its outputs."""

    def const(self, value: Any, like: TensorType | None = None) -> str:
        """A constant's name; python ints become i64; `like` gives the element type."""


class Op(Record):
    """Base of all operations.

    A subclass writes `infer(self, x, w, b=None) -> type(s)` on TensorTypes and `evaluate(self, x, w, b=None)
    -> array(s)` on numpy arrays with the same operand names (None: an absent optional operand); a result
    of several outputs is a tuple. Operands that only shape the result (axes, target shapes) are attributes.
    """

    name: ClassVar[str] = ""
    onnx: ClassVar[str] = ""  # the ONNX operator with the same attributes and operands, if there is one
    since: ClassVar[int] = 1  # first default-domain opset that has `onnx` in the form written by to_onnx
    commutative: ClassVar[bool] = False  # the first two operands may be swapped
    elementwise: ClassVar[bool] = False  # out[i] depends on (broadcast) in[i] alone
    pure: ClassVar[bool] = True  # equal operands give equal results

    infer: ClassVar[Callable[..., Types]]
    evaluate: ClassVar[Callable[..., Arrays]]

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        """Multiply-accumulates of one execution; 0 for operations that are bound by memory."""
        return 0

    def bytes_moved(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        """Bytes read and written by one execution, every operand and result once."""
        return sum(t.nbytes for t in outputs) + sum(t.nbytes for t in inputs if t is not None)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        """The operation for an ONNX node; operands asked for with `node.const` leave the operand list."""
        return cls(**{name: node.attr(name, default) for name, default in cls.fields.items()})

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        """Write this operation as ONNX nodes and return the names of its results."""
        if not self.onnx:
            raise OnnxError(f"operation {self.name} has no ONNX form")
        expect_opset(e, self.since, self.onnx)
        return e.node(self.onnx, *inputs, outputs=len(e.outputs), **self.values())

    @classmethod
    def sample(cls, rng: Generator, x: TensorType) -> tuple[Op, tuple[TensorType | Array | None, ...]] | None:
        """A random instance that accepts `x` first, and its other operands (types, or data where it must be
        constant); None if no instance accepts `x`."""
        return None


OPS: dict[str, type[Op]] = {}
FROM_ONNX: dict[str, type[Op]] = {}
C = TypeVar("C", bound=type[Op])


def op(name: str, *, onnx: str = "", since: int = 1) -> Callable[[C], C]:
    """Register an operation class under its text name, and under the ONNX operator that it stands for."""

    def register(cls: C) -> C:
        infer, evaluate = (f.__code__ for f in (cls.infer, cls.evaluate))
        if infer.co_varnames[: infer.co_argcount] != evaluate.co_varnames[: evaluate.co_argcount]:
            raise TypeError(f"{cls.__name__}: infer and evaluate take different operands")
        if name in OPS:
            raise TypeError(f"operation {name!r} is defined twice")
        cls.name, cls.onnx, cls.since = name, onnx, since
        OPS[name] = cls
        if onnx:
            FROM_ONNX[onnx] = cls
        return cls

    return register


MISSING = object()


class OnnxNode:
    """A neutral view of one ONNX node being imported.

    op_type     operator name (default domain)
    version     opset of the default domain in the model
    inputs      operands, None where omitted
    attributes  decoded attributes (numbers, strings, tuples, arrays)
    n_outputs   number of declared outputs, trailing omitted ones excluded
    name        for messages
    """

    __slots__ = ("attributes", "consumed", "inputs", "n_outputs", "name", "op_type", "version")

    def __init__(
        self,
        op_type: str,
        version: int,
        inputs: Sequence[Operand | None],
        attributes: dict[str, Any],
        n_outputs: int = 1,
        name: str = "",
    ) -> None:
        self.op_type = op_type
        self.version = version
        self.inputs = inputs
        self.attributes = attributes
        self.n_outputs = n_outputs
        self.name = name
        self.consumed: set[int] = set()

    def attr(self, name: str, default: Any = MISSING) -> Any:
        """An attribute, or its default; OnnxError if it is required and missing."""
        value = self.attributes.get(name, default)
        if value is MISSING or type(value) is object:
            raise OnnxError(f"attribute {name!r} is missing")
        return value

    def has(self, index: int) -> bool:
        """Whether operand `index` is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def type(self, index: int) -> TensorType:
        """Type of operand `index`; OnnxError if it is omitted."""
        if not self.has(index):
            raise OnnxError(f"operand {index} is missing")
        operand = self.inputs[index]
        assert operand is not None
        return operand.type

    def peek(self, index: int) -> Array | None:
        """Data of operand `index` if it is given and constant; it stays an operand."""
        operand = self.inputs[index] if index < len(self.inputs) else None
        return None if operand is None else operand.data

    def const(self, index: int, default: Any = MISSING) -> Any:
        """Data of operand `index`, which must be constant and becomes an attribute; `default` if it is omitted."""
        if not self.has(index):
            if default is MISSING:
                raise OnnxError(f"operand {index} is missing")
            return default
        data = self.peek(index)
        if data is None:
            name = getattr(self.inputs[index], "name", "") or f"operand {index}"
            raise OnnxError(
                f"operand {index} ({name!r}) must be a constant, but it is computed at run time",
                hint="if it comes from a model input, give its value with --freeze NAME=VALUE",
            )
        self.consumed.add(index)
        return data

    def ints(self, name: str, index: int | None = None, default: Any = MISSING) -> Any:
        """A tuple of ints given as attribute `name` (older opsets) or as constant operand `index`."""
        if name in self.attributes:
            value = self.attributes[name]
            return tuple(value) if isinstance(value, tuple | list) else (value,)
        if index is None or not self.has(index):
            if default is MISSING:
                raise OnnxError(f"{name!r} is missing")
            return default
        return tuple(int(v) for v in self.const(index).reshape(-1))

    def scalar(self, name: str, index: int | None = None, default: Any = MISSING) -> Any:
        """A number given as attribute `name` or as constant operand `index` of one element."""
        if name in self.attributes:
            return self.attributes[name]
        if index is None or not self.has(index):
            if default is MISSING:
                raise OnnxError(f"{name!r} is missing")
            return default
        data = self.const(index)
        if data.size != 1:
            raise OnnxError(f"{name!r} must have one element, it has shape {list(data.shape)}")
        return data.reshape(-1)[0].item()

    def operands(self) -> list[Operand | None]:
        """The operands that did not become attributes, without trailing omitted ones."""
        kept = [v for i, v in enumerate(self.inputs) if i not in self.consumed]
        while kept and kept[-1] is None:
            kept.pop()
        return kept


def normalize_axis(axis: int, rank: int) -> int:
    """Axis counted from the front; ShapeError if it is out of range."""
    if not -rank <= axis < max(rank, 1):
        raise ShapeError(f"axis {axis} is out of range for rank {rank}")
    return axis % rank if rank else 0


def broadcast(*shapes: Shape) -> Shape:
    """The shape numpy and ONNX broadcasting gives; two different names, or a name and a number over 1, do not meet."""
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    rank = max(map(len, shapes))
    out: list[Dim] = [1] * rank
    for shape in shapes:
        for i, d in enumerate(shape, rank - len(shape)):
            if out[i] == 1:
                out[i] = d
            elif d not in (1, out[i]):
                raise ShapeError(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast")
    return tuple(out)

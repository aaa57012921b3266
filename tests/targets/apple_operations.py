"""Operations as the prediction of places takes them, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from targets.apple.placement.operation import Operation, Program, Tensor


def tensor(name: str, *shape: int, dtype: str = "fp16", constant: bool = False, **more: Any) -> Tensor:  # Any: fields
    """A value; a constant is stored as it is."""
    made = Tensor(name, dtype, shape, constant, **more)
    return made._replace(stored=made.nbytes) if constant else made


def operation(
    kind: str,
    result: Tensor,
    *operands: Tensor,
    number: int = 0,
    read_by: Sequence[str] = ("output",),
    made_by: Sequence[str] = (),
    **given: Any,
) -> Operation:
    """An operation whose first operands are x and y; `given` are attributes, or operands where they are values."""
    inputs = {name: (t,) for name, t in zip(("x", "y"), operands, strict=False)}
    inputs |= {name: (t,) for name, t in given.items() if isinstance(t, Tensor)}
    attributes = {name: value for name, value in given.items() if not isinstance(value, Tensor)}
    return Operation(number, kind, inputs, [result], attributes=attributes, read_by=read_by, made_by=made_by)


def conv(
    kernel: tuple[int, ...], *, number: int = 0, x: str = "x", channels: int = 64, side: int = 32, **given: Any
) -> Operation:
    """A convolution over (1, channels, side, side) that keeps the shape."""
    weight = tensor("w", channels, channels, *kernel, constant=True)
    image = (1, channels, *(side for _ in kernel))
    strides = {"strides": [1 for _ in kernel], "dilations": [1 for _ in kernel]}
    return operation("conv", tensor(f"y{number}", *image), tensor(x, *image), weight=given.pop("weight", weight),
                     number=number, **(strides | given))  # fmt: skip


def chain(*kinds: str, shape: tuple[int, ...] = (1, 64, 32, 32), dtype: str = "fp16") -> Program:
    """Operations of one operand, each of which reads the one before; "conv" is one of 3x3."""
    made: list[Operation] = []
    for number, kind in enumerate(kinds):
        x = tensor(f"y{number - 1}" if number else "x", *shape, dtype=dtype)
        if kind == "conv":
            made.append(conv((3, 3), number=number, x=x.name))
        else:
            made.append(operation(kind, tensor(f"y{number}", *shape, dtype=dtype), x, number=number))
    return Program(tuple(made), (tensor("x", *shape, dtype=dtype),), made[-1].outputs, "iOS17")

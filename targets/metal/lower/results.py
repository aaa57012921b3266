"""Where products and convolutions write their results: rows of channels, maybe right into a wider value."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from codegen.program import Pointer
from compiler.graph import Value
from compiler.ops.layout import order_of
from targets.metal.homes import Home, home_of
from targets.metal.program import MetalProgram


class Result(NamedTuple):
    """The first element, and how far it is from row to row if rows do not lie one behind the other."""

    at: Pointer
    pitch: int = 0

    @property
    def fields(self) -> dict[str, Any]:  # Any: of fields of several types
        """Of the kernel."""
        return {"is_spread": True} if self.pitch else {}

    @property
    def numbers(self) -> Sequence[int]:
        """What the kernel is told in the end."""
        return [self.pitch] if self.pitch else []


def result_of(p: MetalProgram, v: Value) -> Result:
    """Of a layer whose innermost axis are channels. What a Concat would move lies right there, if the channels of a
    pixel lie side by side and pixels at equal distances."""
    home = home_of(v)
    pitch = None if home is None else _pitch(v, home)
    if home is None or pitch is None:
        return Result(p.result(v))
    return Result(p.written(v, home), 0 if pitch == v.type.dims[order_of(v.type)[-1]] else pitch)


def _pitch(v: Value, home: Home) -> int | None:
    """The distance from row to row; None if there is no such."""
    *outer, inner = order_of(v.type)
    if home.strides[inner] != 1:
        return None
    axes = [(v.type.dims[a], home.strides[a]) for a in outer if v.type.dims[a] != 1]
    for (_, far), (size, near) in pairwise(axes):
        if far != size * near:
            return None
    return axes[-1][1] if axes else v.type.dims[inner]

"""Which weights of a model are stored in 16 bits.

Rounding a kernel to float16 costs about the same relative accuracy whatever its size, and the first layers of most
networks, where an error goes through all others, have the smallest kernels. So the smallest ones stay in 32 bits: a
share that the file hardly grows by, and more of them where a measurement asks for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler.filemap import release
from compiler.tensor import Array
from targets.tflite.model import Constant, Model, Tensor

WIDE_SHARE = 0.02  # of the elements that could be stored in 16 bits, how many stay in 32 from the outset


def fits_half(data: Array) -> bool:
    """Whether no finite element becomes infinite in float16, and the largest keeps nine of its ten binary places."""
    half = np.finfo(np.float16)
    peak = max(-data.min(), data.max())
    if not np.isfinite(peak):
        peak = np.abs(data[np.isfinite(data)]).max(initial=half.smallest_normal)
    release(data)
    return bool(half.smallest_normal / 2 <= peak <= half.max) or not peak


class HalfWeights:
    """The choice among the float16 constants of a finished model that were wider before, smallest first. `wide` of
    them stay in float32."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._operators = model.operators
        widened = [o for o in model.operators if o.code == "DEQUANTIZE" and _narrowed(o.inputs[0]) is not None]
        self._kernels = sorted(widened, key=lambda o: _elements(o.outputs[0]))
        self.wide = 0
        self.keep(self._within(WIDE_SHARE))

    def __len__(self) -> int:
        return len(self._kernels)

    def keep(self, count: int) -> None:
        """Store the `count` smallest in float32, without the operator that widens them, and the others in float16."""
        for i, o in enumerate(self._kernels):
            stored = _narrowed(o.inputs[0])
            assert stored is not None and o.inputs[0] is not None
            o.outputs[0].constant = stored._replace(dtype=np.dtype(np.float32)) if i < count else None
            o.outputs[0].name = o.inputs[0].name
        self.wide = count
        self._model.operators = [o for o in self._operators if o.outputs[0].constant is None]

    def search(self, good: Callable[[], bool]) -> bool:
        """Keep as few more as `good`, asked after each change, is content with, which it is not now. False, with
        nothing changed, if it would not be if all of them were kept."""
        start, low, high = self.wide, self.wide, len(self)
        self.keep(high)
        if start == high or not good():
            self.keep(start)
            return False
        while high - low > 1:
            middle = (low + high) // 2
            self.keep(middle)
            low, high = (low, middle) if good() else (middle, high)
        self.keep(high)
        return good()

    def account(self) -> str:
        """What stays in 32 bits, and what that costs."""
        kept = self._kernels[: self.wide]
        cost = 2 * sum(_elements(o.outputs[0]) for o in kept)
        largest = ", ".join(repr(o.outputs[0].name) for o in kept[-3:])
        return (
            f"{len(kept)} of {len(self)} weights stay in 32 bits for accuracy, {cost:,} bytes more;"
            f" the largest of them: {largest}"
        )

    def _within(self, share: float) -> int:
        """How many of the smallest make up at most a share of all elements."""
        sizes = np.cumsum([_elements(o.outputs[0]) for o in self._kernels])
        return int(np.searchsorted(sizes, sizes[-1] * share, "right")) if len(sizes) else 0


def _elements(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))


def _narrowed(tensor: Tensor | None) -> Constant | None:
    """The data of a float16 constant that is wider in the model."""
    constant = None if tensor is None else tensor.constant
    return constant if constant is not None and constant.dtype == np.float16 != constant.array.dtype else None

"""Which weights are stored as a mask and the numbers that are left, what Core ML and Core AI share of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from compiler.errors import UsageError
from compiler.graph import Value
from passes._sparse import is_sparse
from passes._zeros import MANY
from targets.apple.weights import annotation_of

OFF = "off"


class Saving(NamedTuple):
    """Bytes of a weight with all of its numbers, and with a mask and those that are left."""

    dense: int
    sparse: int


class Sparse(NamedTuple):
    """When weights are: from a share of zeros (None: never), those in fewer bits (`joint`) too."""

    share: float | None = None
    joint: bool = False

    def takes(self, v: Value) -> bool:
        """Whether a constant is to be, if that takes fewer bytes."""
        return (self.joint or annotation_of(v.type) is None) and is_sparse(v, self.share)


def checked_share(asked: str | float | None) -> float | None:
    """The share that --sparse asks for, None for off. UsageError for what is neither."""
    if asked is None:
        return MANY
    if asked == OFF:
        return None
    try:
        share = float(asked)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise UsageError(
            f"--sparse {asked!r} is not a share of zeros above 0 and up to 1", hint=f"for example {MANY}, or {OFF}"
        )
    return share


def told(savings: Sequence[Saving]) -> list[str]:
    """What came of it, in a sentence, if anything did."""
    dense, sparse = (sum(column) for column in zip(*savings, strict=True)) if savings else (0, 0)
    return [f"{len(savings)} weights are stored sparse: {dense:,} -> {sparse:,} bytes"] if savings else []

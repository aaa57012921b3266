"""Hide scores from a softmax by a sum with a constant mask, for accelerators that do not choose between values.

0 leaves the scores that are shown as they are. -1000 takes a hidden one so far below them that its exponential is 0 in
float32, unless it is by 896 or more above all scores that its row shows: exp(-104) is 0.
"""

from __future__ import annotations

import numpy as np

from compiler.graph import Value
from compiler.ops.elementwise import Add, Where
from compiler.ops.softmax import Softmax
from compiler.pass_base import RewritePass
from compiler.rewrite import Rule
from passes._decompose import Layers
from passes._substitute import instead_of

HIDDEN = -1e3
ENOUGH = -1e4  # from here on down a number hides a score


def parts(add: Layers, op: Where, shown: Value, x: Value, other: Value) -> Value | None:
    """x where it is shown, else a number that hides it; all readers are softmaxes that see some of each row."""
    readers = add.node.output.users
    if shown.data is None or other.data is None or add.node.output.n_out or not readers:
        return None
    if (other.data > ENOUGH).any() or x.type.shape != add.node.output.type.shape:
        return None
    axes = {user.op.axis - x.type.rank if isinstance(user.op, Softmax) else 0 for user in readers}
    mask = np.asarray(shown.data)
    if 0 in axes or any(-axis > mask.ndim or not mask.any(axis).all() for axis in axes):
        return None
    return add(Add(), x, add.const(np.where(mask, 0.0, HIDDEN), x.type.dtype))


class SubstituteWhere(RewritePass):
    """Where a constant mask hides scores from a softmax, a sum does."""

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (instead_of(Where, parts),)

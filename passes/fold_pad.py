"""Move padding with zeros (minus infinity for a maximum) into the convolution or pool that reads it.

conv(pad(x, p), pads=q) = conv(x, pads=p + q), since a convolution pads with zeros itself. An average pool does so if
it counts its padding; a maximum pool pads with the least value there is. Nothing may be padded but spatial axes.
"""

from __future__ import annotations

from math import inf

from compiler.graph import Value
from compiler.ops.conv import Conv
from compiler.ops.parts import Pad
from compiler.ops.pool import AveragePool, MaxPool
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, Maybe, Wild
from compiler.rewrite import Builder, Rule, Skip

X = Wild()
PAD = Layer(Pad, X, where=lambda op: op.mode == "constant")
CONV = Layer(Conv, PAD, Wild(), Maybe(Wild()))
POOL = Layer((AveragePool, MaxPool), PAD)


def joined(m: Match, own: tuple[int, ...]) -> tuple[int, ...] | None:
    """The spatial pads of both layers; None if the batch or the channels are padded."""
    rank = m.value(X).type.rank
    pads = m.op(PAD).pads
    outside = pads[:2] + pads[rank : rank + 2]
    return None if any(outside) else tuple(a + b for a, b in zip(pads[2:rank] + pads[rank + 2 :], own, strict=True))


def conv(m: Match, g: Builder) -> Value | None:
    """Zeros before a convolution."""
    op = m.op(CONV)
    pads = joined(m, op.pads) if m.op(PAD).value == 0 else None
    return None if pads is None else g.add(op.with_(pads=pads), m.value(X), *m.root.inputs[1:])


def pool(m: Match, g: Builder) -> Value | Skip | None:
    """Zeros before an average that counts them, minus infinity before a maximum."""
    op = m.op(POOL)
    pads, average = joined(m, op.pads), isinstance(op, AveragePool)
    if pads is None or len(m.root.outputs) > 1 or op.ceil_mode or m.op(PAD).value != (0 if average else -inf):
        return None
    if average and any(op.pads) and not op.count_include_pad:
        return Skip("the pool does not count its own padding")
    if any(p > (k - 1) * d for p, k, d in zip(pads, op.kernel * 2, op.dilations * 2, strict=True)):
        return Skip("a window would lie in the padding alone")
    return g.add(op.with_(pads=pads, **({"count_include_pad": True} if average else {})), m.value(X))


class FoldPad(RewritePass):
    """Pad before Conv, AveragePool and MaxPool."""

    def rules(self) -> tuple[Rule, ...]:
        return Rule(CONV, conv), Rule(POOL, pool)

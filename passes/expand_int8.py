"""Compute layers that have no kernel of integers by layers that have one, before ranges are observed.

Attention becomes products of matrices around a softmax, local response normalisation a convolution of squares, and a
division by a root a product. A normalisation becomes the product of each row with itself, whose inverse root scales it:
sums of squares are computed exactly in 32 bits and rounded once (as in S. Kim et al., I-BERT: Integer-only BERT
Quantization, 2021).
"""

from __future__ import annotations

from collections.abc import Callable

from compiler.graph import Value
from compiler.op import Op
from compiler.ops.attention import Attention
from compiler.ops.elementwise import Div, Mul, Pow, Sqrt
from compiler.ops.norm import LayerNorm, LocalResponseNorm, RmsNorm
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Result, Rule
from compiler.tensor import F32
from passes._decompose import Layers
from passes._int8_parts import attention, layer_norm, local_response_norm, rms_norm

PARTS: dict[type[Op], Callable[..., Result]] = {
    Attention: attention,
    LayerNorm: layer_norm,
    LocalResponseNorm: local_response_norm,
    RmsNorm: rms_norm,
}
X, T = Wild(), Wild()
OVER_ROOT = Layer(Div, X, Layer(Sqrt, T, shared=True))


class ExpandInt8(RewritePass):
    """`keep` names operations that stay. `adds_work`: sums of squares and scales are counted in the parts alone."""

    adds_work = True
    keep: tuple[str, ...] = ()

    def rules(self) -> tuple[Rule, ...]:
        wholes = tuple(Rule(Layer(op, rest=True), _parts, op.name) for op in PARTS if op.name not in self.keep)
        return wholes if "div" in self.keep else (*wholes, Rule(OVER_ROOT, _over_root, "div"))


def _parts(m: Match, b: Builder) -> Result:
    node = m.root
    types = [v.type for v in (*node.inputs, *node.outputs) if v is not None]
    if node.output.type.dtype is not F32 or not all(t.is_static and 0 not in t.shape for t in types):
        return None
    return PARTS[type(node.op)](Layers(b, node), node.op, *node.inputs)


def _over_root(m: Match, b: Builder) -> Value | None:
    """x / sqrt(t) by the inverse root."""
    if m.root.output.type.dtype is not F32:
        return None
    return b.add(Mul(), m.value(X), b.add(Pow(), m.value(T), b.const(-0.5, like=m.value(T).type)))

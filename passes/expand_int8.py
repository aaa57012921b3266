"""Compute layers that have no kernel of integers by layers that have one, before ranges are observed.

Attention becomes products of matrices around a softmax, local response normalisation a convolution of squares, and a
division by a root or by what is positive a product; recurrent layers take their steps one by one. A normalisation
becomes the product of each row with itself, whose inverse root scales it: sums of squares are computed exactly in 32
bits and rounded once (as in S. Kim et al., I-BERT: Integer-only BERT Quantization, 2021).
"""

from __future__ import annotations

from collections.abc import Callable

from compiler.op import Op
from compiler.ops.attention import Attention
from compiler.ops.elementwise import Cast, Div, Reciprocal, Sqrt
from compiler.ops.norm import LayerNorm, LocalResponseNorm, RmsNorm
from compiler.ops.recurrent import LSTM, RNN
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Result, Rule
from compiler.tensor import F32
from passes._decompose import Layers
from passes._decompose_recurrent import unrolled
from passes._int8_parts import attention, choice, layer_norm, local_response_norm, quotient, reciprocal, rms_norm

PARTS: dict[type[Op], Callable[..., Result]] = {
    Attention: attention,
    Cast: choice,
    Div: quotient,
    LSTM: unrolled,
    LayerNorm: layer_norm,
    LocalResponseNorm: local_response_norm,
    Reciprocal: reciprocal,
    RNN: unrolled,
    RmsNorm: rms_norm,
}
FORMS: dict[type[Op], Layer] = {Reciprocal: Layer(Reciprocal, Layer(Sqrt, Wild(), shared=True))}


class ExpandInt8(RewritePass):
    """`keep` names operations that stay. `adds_work`: sums of squares and scales are counted in the parts alone."""

    adds_work = True
    keep: tuple[str, ...] = ()

    def rules(self) -> tuple[Rule, ...]:
        kept = {op: parts for op, parts in PARTS.items() if op.name not in self.keep}
        return tuple(Rule(FORMS.get(op, Layer(op, rest=True)), _parts, op.name) for op in kept)


def _parts(m: Match, b: Builder) -> Result:
    node = m.root
    types = [v.type for v in (*node.inputs, *node.outputs) if v is not None]
    if node.outputs[0].type.dtype is not F32 or not all(t.is_static and 0 not in t.shape for t in types):
        return None
    return PARTS[type(node.op)](Layers(b, node), node.op, *node.inputs)

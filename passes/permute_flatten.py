"""Let a dense layer read a flattened image in channels-last order, with the rows of its weights permuted to match.

flatten(x) @ W = flatten(transpose(x)) @ W[p], where p lists the elements of x [C,*S] as they follow in [*S,C]. Where
images lie channels-last the transpose is free (choose-layout), and flattening in logical order would move every byte.
For targets of that kind alone: elsewhere the transpose costs what it saves here.
"""

from __future__ import annotations

from math import prod

import numpy as np

from compiler.graph import Value
from compiler.ops.activation import Clip, Elu, HardSwish, LeakyRelu, Relu, Sigmoid, Silu
from compiler.ops.conv import Conv, ConvTranspose
from compiler.ops.elementwise import Tanh
from compiler.ops.layout import channels_last
from compiler.ops.matmul import Dense
from compiler.ops.pool import AveragePool, MaxPool
from compiler.ops.shape import Reshape, Transpose
from compiler.pass_base import RewritePass
from compiler.pattern import Const, Layer, Match, Maybe, OneOf, Wild
from compiler.rewrite import Builder, Rule

MADE = Layer((AveragePool, Conv, ConvTranspose, MaxPool), Wild(), rest=True, shared=True)
ACTIVATED = Layer((Clip, Elu, HardSwish, LeakyRelu, Relu, Sigmoid, Silu, Tanh), MADE, shared=True)
IMAGE, W, B = OneOf(MADE, ACTIVATED), Const(), Maybe(Wild())
FLAT = Layer(Reshape, IMAGE)
DENSE = Layer(Dense, FLAT, W, B)


def permute(m: Match, g: Builder) -> Value | None:
    """A dense layer that reads all channels and pixels of an image as one row."""
    x, flat, op = m.value(IMAGE), m.value(FLAT), m.op(DENSE)
    shape = x.type.with_shape(x.type.shape[1:])
    if not shape.is_static or flat.type.shape != (x.type.shape[0], shape.size):
        return None
    if shape.dims[0] == 1 or prod(shape.dims[1:]) == 1:
        return None
    order = np.moveaxis(np.arange(shape.size).reshape(shape.dims), 0, -1).reshape(-1)
    w = g.const(m[W].take(order, axis=1 if op.transposed else 0), like=m.value(W))
    image = g.add(Transpose(perm=channels_last(x.type.rank)), x)
    return g.add(op, g.add(Reshape(shape=flat.type.shape), image), w, m.maybe(B))


class PermuteFlatten(RewritePass):
    """Dense of a flattened image as Dense of its channels-last order."""

    def rules(self) -> tuple[Rule, ...]:
        return (Rule(DENSE, permute),)

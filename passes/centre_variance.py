"""Write variances as mean squares of what is centred: mean(x^2) - mean(x)^2 = mean((x - mean(x))^2).

The difference of two large numbers loses the digits that they share, all of them in integers of 8 bits (T. Chan et al.,
Algorithms for Computing the Sample Variance, 1983), and the centred form is what layers of normalisation are recognised
by. Means whose axes are dropped and put back, as JAX and TensorFlow write them, keep them.
"""

from __future__ import annotations

from compiler.graph import Value
from compiler.ops.activation import Relu
from compiler.ops.elementwise import Mul, Sub
from compiler.ops.reduce import ReduceMean
from compiler.ops.shape import Reshape
from compiler.pass_base import RewritePass
from compiler.pattern import Layer, Match, Wild
from compiler.rewrite import Builder, Rule
from passes._idioms import square

X = Wild(lambda v: v.type.dtype.is_float)
MEAN = Layer(ReduceMean, X, shared=True)
MEAN_SQUARE = Layer(ReduceMean, square(X))
DIFFERENCE = Layer(Sub, MEAN_SQUARE, square(MEAN))
ALONE = Layer(ReduceMean, X)


class CentreVariance(RewritePass):
    """The variance, and the rectifier that keeps rounding from making it negative, become a mean of squares.

    `adds_work`: the mean that is subtracted is often the one that is there, and is merged with it afterwards.
    """

    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return (
            Rule(Layer(Relu, DIFFERENCE), _centred, "rectified"),
            Rule(DIFFERENCE, _centred, "difference"),
            Rule(Layer(Reshape, ALONE), _kept, "kept"),
        )


def _centred(m: Match, g: Builder) -> Value | None:
    x, op = m.value(X), m.op(MEAN)
    if m.op(MEAN_SQUARE) != op:
        return None
    centred = g.add(Sub(), x, g.add(ReduceMean(axes=op.axes), x))
    return g.add(op, g.add(Mul(), centred, centred))


def _kept(m: Match, g: Builder) -> Value | None:
    x, op = m.value(X), m.op(ALONE)
    kept = tuple(1 if axis in op.axes else d for axis, d in enumerate(x.type.shape))
    return None if op.keepdims or m.root.output.type.shape != kept else g.add(ReduceMean(axes=op.axes), x)

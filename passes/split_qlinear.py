"""Bring a quantized model into one form: layers of floats between Q and DQ layers, constants that know how they are
stored.

QLinearConv and QLinearMatMul become DQ -> layer -> Q. DQ layers move up past layers that only move numbers, and Q
layers down to the results of the model, so that they meet. A dequantized constant becomes floats with an annotation:
int8 with its zero point lower by 128 for uint8, int32 for biases.
"""

from __future__ import annotations

from compiler import ops
from compiler.pass_base import ErrorClass, RewritePass
from compiler.pattern import Const, Layer
from compiler.rewrite import Rule
from passes._qdq import MOVES
from passes._qdq_split import DEQUANTIZED, QUANTIZED, constant, convolution, lifted, product, sunk

RULES = (
    Rule(Layer(ops.DequantizeLinear, Const(), rest=True), constant),
    Rule(DEQUANTIZED, lifted),
    Rule(Layer(MOVES, QUANTIZED, rest=True), sunk),
    Rule(Layer(ops.QLinearConv, rest=True), convolution),
    Rule(Layer(ops.QLinearMatMul, rest=True), product),
)


class SplitQlinear(RewritePass):
    """A QLinear layer adds up integers, its parts floats: a result that lies between two integers may round to the
    other. `adds_work`: zero points are no work."""

    error_class = ErrorClass.LOSSY
    adds_work = True

    def rules(self) -> tuple[Rule, ...]:
        return RULES

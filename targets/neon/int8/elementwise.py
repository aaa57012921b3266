"""Functions of single elements, as tables or as loops, and of two or three that broadcast."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from codegen.neon.int8_lookup import Lookup
from codegen.neon.int8_nest import Nest, Operand
from codegen.neon.int8_sum import Sum
from codegen.program import Pointer, Split
from codegen.rendering import literal
from compiler.tensor import Array
from targets.neon.int8.program import CTYPES, IntegerProgram
from targets.neon.int8.table import lowers
from targets.source.lower.moving import dense
from targets.tflite.integer.arithmetic import ADD_BITS, COMPARED_BITS, DIFFERENCE_BITS
from targets.tflite.integer.fixed import Factor, factor
from targets.tflite.integer.kernel import Node, NoReferenceError
from targets.tflite.integer.lookup import operand_factor, sigmoid_table
from targets.tflite.integer.model import KERNELS
from targets.tflite.reader import STORED, Tensor

LANES = 16  # bytes of a vector
COMPARISONS = {"EQUAL": "==", "NOT_EQUAL": "!=", "LESS": "<", "LESS_EQUAL": "<=", "GREATER": ">", "GREATER_EQUAL": ">="}
BINARY = (
    "ADD",
    "SUB",
    "MUL",
    "SQUARED_DIFFERENCE",
    "MAXIMUM",
    "MINIMUM",
    "PRELU",
    "FLOOR_DIV",
    "FLOOR_MOD",
    *COMPARISONS,
)
UNARY = (
    "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "HARD_SWISH", "LOGISTIC", "TANH", "EXP", "LOG", "ELU",
    "GELU", "SQRT", "RSQRT", "ABS", "NEG", "DEQUANTIZE",
)  # fmt: skip


@lowers(*UNARY)
def _function(p: IntegerProgram, node: Node) -> None:
    if node.tensor(0).dtype in ("INT8", "UINT8"):
        tabulated(p, node, node.tensor(0))
    else:
        wide_function(p, node)


@lowers("QUANTIZE")
def _quantize(p: IntegerProgram, node: Node) -> None:
    if node.tensor(0).dtype in ("INT8", "UINT8"):
        tabulated(p, node, node.tensor(0))
        return
    if node.tensor(0).dtype == "INT16":
        f = factor(np.float64(node.scale()) / np.float64(node.result_scale()))
        nest(p, node, "quantize", [node.tensor(0)], clamp(node, by(less("a", node.zero_point()), f)))
        return
    least, most = node.limits()
    zero = node.result_zero_point()
    scaled = f"roundf(a / {literal(float(node.result_scale()))}) + {literal(float(zero))}"
    text = f"fminf(fmaxf({scaled}, {literal(float(least))}), {literal(float(most))})"
    nest(p, node, "quantize", [node.tensor(0)], text)


def tabulated(p: IntegerProgram, node: Node, x: Tensor, values: dict[int, Array] | None = None) -> None:
    """Look up what the operator makes of each of the 256 numbers."""
    codes = np.arange(256).astype(np.uint8).view(STORED[x.dtype])
    made = evaluated(p, node, x, codes, values or {})
    y = node.result()
    kernel = Lookup(ctype=CTYPES[y.dtype])
    table = p.constant(made.astype(STORED[y.dtype]), "table")
    source = p.at(x)
    over = x if STORED[y.dtype].itemsize == 1 else None
    unit = STORED[y.dtype].itemsize
    shared = Split(y.size, count="count", steps={"x": 1, "y": unit}, grain=64)
    title = f"{node.operator.code.lower()} by a table"
    p.call(node, kernel, source, table, p.result(y, over), y.size, title=title, split=shared)


def evaluated(p: IntegerProgram, node: Node, x: Tensor, codes: Array, values: dict[int, Array]) -> Array:
    """The results of the reference for each number; 0 for those that it refuses, which the runtime does not compute
    either."""
    evaluate = KERNELS[node.operator.code].evaluate

    def of(array: Array) -> Array:
        found = evaluate(Node(node.operator, p.tensors, {**p.constants, **values, x.number: array}, {}))
        return np.asarray(found).reshape(-1)

    try:
        return of(codes)
    except NoReferenceError:
        made = np.zeros(len(codes), STORED[node.result().dtype])
        for i in range(len(codes)):
            try:
                made[i] = of(codes[i : i + 1])[0]
            except NoReferenceError:
                continue
        if not made.any():
            raise
        return made


@lowers(*BINARY)
def _binary(p: IntegerProgram, node: Node) -> None:
    operands = [node.tensor(0), node.tensor(1)]
    known = [t.number in p.constants and t.size == 1 for t in operands]
    if any(known) and operands[0].dtype in ("INT8", "UINT8"):
        tabulated(p, node, operands[known.index(False)])
        return
    same = all(t.dtype == "INT8" and t.shape == node.result().shape for t in operands)
    if node.operator.code in ("ADD", "SUB") and same and node.result().size >= LANES:
        _vector_sum(p, node)
        return
    nest(p, node, node.operator.code.lower(), operands, EXPRESSIONS[node.operator.code](node))


def _vector_sum(p: IntegerProgram, node: Node) -> None:
    """Of operands that do not broadcast."""
    is_difference = node.operator.code == "SUB"
    order = [0, 1] if is_difference or node.scale(0) >= node.scale(1) else [1, 0]
    scales = [float(node.scale(i)) for i in order]
    common = 2 * max(scales)
    f = [factor(s / common) for s in scales]
    f.append(factor(common / ((1 << ADD_BITS["INT8"]) * float(node.result_scale()))))
    times, shifts = [int(g.mantissa) for g in f], [int(g.shift) for g in f]
    if shifts[2] > 0:
        raise node.refused("has a result of so small a scale that the runtime shifts by a negative number of bits")
    kernel = Sum(
        is_difference=is_difference,
        is_half=(scales[0] == max(scales), scales[1] == max(scales)),
        is_rounded_once=shifts[2] == 0,
    )
    zeros = (*(node.zero_point(i) for i in order), node.result_zero_point())
    numbers = p.constant(np.array([*zeros, *times, *shifts, *node.limits()], np.int32), "factors")
    size = node.result().size
    places = [*(p.at(node.tensor(i)) for i in order), numbers, p.result(node.result())]
    shared = Split(size // LANES, count="steps", steps=dict.fromkeys("aby", LANES), last=("rest",))
    title = f"{node.operator.code.lower()}, {size} elements"
    p.call(node, kernel, *places, size // LANES, size % LANES, title=title, split=shared)


@lowers("SELECT", "SELECT_V2")
def _select(p: IntegerProgram, node: Node) -> None:
    nest(p, node, "select", [node.tensor(i) for i in range(3)], "a ? b : c")


@lowers("CAST")
def _cast(p: IntegerProgram, node: Node) -> None:
    nest(p, node, "cast", [node.tensor(0)], "a")


# -- 16 bits -------------------------------------------------------------------------------------------------

SAMPLED = ("EXP", "LOG", "GELU", "RSQRT")  # that the runtime interpolates
SIGMOIDS = {"LOGISTIC": 0, "TANH": 1}  # and the greatest shift of their operands
RECTIFIERS: dict[str, tuple[float, float | None]] = {"RELU": (0.0, None), "RELU6": (0.0, 6.0)}


def wide_function(p: IntegerProgram, node: Node) -> None:
    """A function of 16-bit elements."""
    code = node.operator.code
    if code in SAMPLED:
        codes = np.arange(-(2**15), 2**15, 2**7).astype(np.int16)
        table = sampled_values(p, node, codes)
        nest(p, node, code.lower(), [node.tensor(0)], "interpolated(a, xb)", [(table, "int16_t")])
    elif code in SIGMOIDS:
        multiplier, right = operand_factor(node, SIGMOIDS[code])
        table = p.constant(sigmoid_table().astype(np.uint16), "samples")
        half = f" + {(1 << right) >> 1}) >> {right}" if right else ")"
        text = f"sampled_{code.lower()}((a * {multiplier}{half}, xb)"
        nest(p, node, code.lower(), [node.tensor(0)], text, [(table, "uint16_t")])
    elif code in WIDE:
        nest(p, node, code.lower(), [node.tensor(0)], WIDE[code](node))
    else:
        raise node.refused("has 16-bit elements")


def sampled_values(p: IntegerProgram, node: Node, codes: Array) -> Pointer:
    """The samples of the runtime's table: at each of 512 numbers, where nothing is interpolated, and behind the last
    one, which is told by the last number."""
    x = node.tensor(0)
    made = evaluated(p, node, x, np.append(codes, np.int16(2**15 - 1)), {}).astype(np.int64)
    last, end = int(made[-2]), int(made[-1])
    slopes = np.arange(-(2**15), 2**15)
    found = slopes[last + ((slopes * 127 + 64) >> 7) == end]
    if not len(found):
        raise node.refused("has samples that do not tell the last one")
    wrapped = np.asarray(last + found).astype(np.int16)
    return p.constant(np.append(made[:-1], wrapped[0]).astype(np.int16), "samples")


def _rectified(node: Node) -> str:
    low, high = RECTIFIERS[node.operator.code]
    least, most = node.limits_between(low, high)
    return _within(node, _scaled(node), least, most)


def _scaled(node: Node) -> str:
    return by(less("a", node.zero_point()), factor(node.scale() / node.result_scale()))


def _within(node: Node, value: str, least: int, most: int) -> str:
    zero = node.result_zero_point()
    return f"clamped({value}, {least - zero}, {most - zero}) + {zero}"


def _leaky(node: Node) -> str:
    x, scale = less("a", node.zero_point()), node.scale()
    negative = by(x, factor(scale * np.float32(node.option("Alpha", 0.0)) / node.result_scale()))
    return clamp(node, f"({x} >= 0 ? {_scaled(node)} : {negative})")


def _absolute(node: Node) -> str:
    x = less("a", node.zero_point())
    size = f"({x} < 0 ? -{x} : {x})"
    same = node.scale() == node.result_scale()
    return clamp(node, size if same else by(size, factor(node.scale() / node.result_scale())))


def _root(node: Node) -> str:
    x = less("a", node.zero_point())
    root = f"sqrtf({literal(float(node.scale()))} * (float){x}) / {literal(float(node.result_scale()))}"
    return f"({x} < 0 ? 0 : {clamp(node, f'(int32_t)fminf({root}, 65535.0f)')})"


def _negative(node: Node) -> str:
    if node.zero_point() or not node.same_parameters(node.tensor(0)):
        raise node.refused("has a zero point, or a result of another scale")
    return "-a"


WIDE: dict[str, Callable[[Node], str]] = {
    **dict.fromkeys(RECTIFIERS, _rectified),
    "LEAKY_RELU": _leaky,
    "ABS": _absolute,
    "NEG": _negative,
    "SQRT": _root,
    "DEQUANTIZE": lambda node: f"{float(node.scale())!r} * {less('a', node.zero_point())}",
}


# -- expressions ---------------------------------------------------------------------------------------------


def by(value: str, f: Factor) -> str:
    """A value times a factor."""
    return f"times({value}, {int(f.mantissa)}, {int(f.shift)})"


def less(name: str, zero: int) -> str:
    """An element without its zero point."""
    return f"({name} - {zero})" if zero > 0 else f"({name} + {-zero})" if zero else name


def clamp(node: Node, value: str) -> str:
    """A value plus the zero point of the result, within its limits."""
    least, most = node.limits()
    zero = node.result_zero_point()
    more = f" + {zero}" if zero > 0 else f" - {-zero}" if zero else ""
    return f"clamped({value}, {least - zero}, {most - zero}){more}"


def _aligned(node: Node, bits: int) -> tuple[str, str, float]:
    scales = float(node.scale(0)), float(node.scale(1))
    common = 2 * max(scales)
    left, right = (
        by(f"{less(n, node.zero_point(i))} * {1 << bits}", factor(scales[i] / common)) for i, n in enumerate("ab")
    )
    return left, right, common


def _wrapping(sign: str, node: Node) -> str:
    """Of whole numbers, which wrap around."""
    unsigned = f"u{CTYPES[node.tensor(0).dtype]}"
    return f"({unsigned})a {sign} ({unsigned})b"


def _sum(sign: str) -> Callable[[Node], str]:
    def expression(node: Node) -> str:
        if node.tensor(0).dtype in ("INT32", "INT64"):
            return _wrapping(sign, node)
        if node.is_wide and node.option("PotScaleInt16", True):
            raise node.refused("adds in 16 bits by scales that are powers of two")
        bits = ADD_BITS[node.tensor(0).dtype]
        left, right, common = _aligned(node, bits)
        f = factor(common / ((1 << bits) * float(node.result_scale())))
        if f.shift > 0:
            raise node.refused("has a result of so small a scale that the runtime shifts by a negative number of bits")
        return clamp(node, by(f"{left} {sign} {right}", f))

    return expression


def _mul(node: Node) -> str:
    if node.tensor(0).dtype in ("INT32", "INT64"):
        return _wrapping("*", node)
    f = factor(node.scale(0) * node.scale(1) / node.result_scale())
    return clamp(node, by(f"{less('a', node.zero_point(0))} * {less('b', node.zero_point(1))}", f))


def _squared_difference(node: Node) -> str:
    left, right, common = _aligned(node, DIFFERENCE_BITS)
    f = factor(common * common / ((1 << 2 * DIFFERENCE_BITS) * float(node.result_scale())))
    return clamp(node, by(f"squared({left} - {right})", f))


def _prelu(node: Node) -> str:
    x = less("a", node.zero_point(0))
    positive = by(x, factor(node.scale() / node.result_scale()))
    slope = f"{x} * {less('b', node.zero_point(1))}"
    negative = by(slope, factor(node.scale() * node.scale(1) / node.result_scale()))
    return clamp(node, f"({x} >= 0 ? {positive} : {negative})")


def _comparison(sign: str) -> Callable[[Node], str]:
    def expression(node: Node) -> str:
        if node.tensor(0).dtype != "INT8":
            return f"a {sign} b"
        sides = (
            by(f"{less(n, node.zero_point(i))} * {1 << COMPARED_BITS}", factor(node.scale(i)))
            for i, n in enumerate("ab")
        )
        return f" {sign} ".join(sides)

    return expression


EXPRESSIONS: dict[str, Callable[[Node], str]] = {
    "ADD": _sum("+"),
    "SUB": _sum("-"),
    "MUL": _mul,
    "SQUARED_DIFFERENCE": _squared_difference,
    "MAXIMUM": lambda _: "a > b ? a : b",
    "MINIMUM": lambda _: "a < b ? a : b",
    "PRELU": _prelu,
    "FLOOR_DIV": lambda _: "(a - floor_mod(a, b)) / b",
    "FLOOR_MOD": lambda _: "floor_mod(a, b)",
    **{code: _comparison(sign) for code, sign in COMPARISONS.items()},
}


def nest(
    p: IntegerProgram,
    node: Node,
    word: str,
    operands: Sequence[Tensor],
    text: str,
    tables: Sequence[tuple[Pointer, str]] = (),
) -> None:
    """Loops over the elements of the result, with operands broadcast, and tables of a type of C."""
    y = node.result()
    sizes, strides = collapsed(y.shape, [t.shape for t in operands])
    given = tuple(Operand(ctype=CTYPES[t.dtype], strides=s) for t, s in zip(operands, strides, strict=True))
    given += tuple(Operand(ctype=ctype, strides=(), is_table=True) for _, ctype in tables)
    kernel = Nest(word=word, sizes=sizes, operands=given, result=text, ctype=CTYPES[y.dtype])
    sources = [*(p.at(t) for t in operands), *(table for table, _ in tables)]
    p.call(node, kernel, *sources, p.result(y), title=f"{node.operator.code.lower()} of {y.size} elements")


def collapsed(shape: Sequence[int], operands: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Axes of a result, those made one along which all operands go on alike, and the strides of the operands."""
    rank = len(shape)
    steps = []
    for given in operands:
        own = (1,) * (rank - len(given)) + tuple(given)
        steps.append([0 if n == 1 else s for n, s in zip(own, dense(own), strict=True)])
    axes: list[tuple[int, tuple[int, ...]]] = []
    for size, *distances in zip(shape, *steps, strict=True):
        if size == 1:
            continue
        if axes and all(a == size * b for a, b in zip(axes[-1][1], distances, strict=True)):
            axes[-1] = (axes[-1][0] * size, tuple(distances))
        else:
            axes.append((size, tuple(distances)))
    axes = axes or [(1, (1,) * len(operands))]
    return tuple(n for n, _ in axes), [tuple(d[i] for _, d in axes) for i in range(len(operands))]

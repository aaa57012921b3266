"""The tests that the conditions of a device's operators name. Each says whether an operator is in the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from targets.tflite.check.node import BYTES, FLOATS, Node, is_per_axis, numbers, scale, scales, zero_point
from targets.tflite.reader import Tensor

Test = Callable[..., bool]
ACTIVATION = "FusedActivationFunction"
BATCH, INNER = 0, 3
TESTS: dict[str, Test] = {}


def holds(condition: Mapping[str, Any], node: Node) -> bool:
    """Whether the test of a condition applies to an operator."""
    operands = {k: v for k, v in condition.items() if k not in ("test", "says", "level", "rewrite")}
    return TESTS[condition["test"]](node, **operands)


def _test(f: Test) -> Test:
    TESTS[f.__name__[1:]] = f
    return f


def _tensor(node: Node, of: str, at: int) -> Tensor | None:
    return node.output(at) if of == "output" else node.input(at)


def _rank(tensor: Tensor | None) -> int | None:
    return None if tensor is None else len(tensor.shape)


# -- options ------------------------------------------------------------------------------------------------


@_test
def _fused(node: Node) -> bool:
    return bool(node.operator.options.get(ACTIVATION))


@_test
def _int32_fused(node: Node) -> bool:
    first = node.input(0)
    return first is not None and first.dtype == "INT32" and _fused(node)


@_test
def _option_set(node: Node, options: Sequence[str]) -> bool:
    return any(node.operator.options.get(o) for o in options)


@_test
def _option_unset(node: Node, option: str) -> bool:
    return not node.operator.options.get(option)


@_test
def _window_above(node: Node, most: int) -> bool:
    first, o = node.input(0), node.operator.options
    quantized = first is not None and first.dtype in BYTES
    return quantized and o.get("FilterWidth", 1) * o.get("FilterHeight", 1) > most


@_test
def _dilated(node: Node) -> bool:
    return any(node.operator.options.get(f"Dilation{axis}Factor", 1) != 1 for axis in "WH")


@_test
def _dilations_differ(node: Node) -> bool:
    o = node.operator.options
    return bool(o.get("DilationWFactor", 1) != o.get("DilationHFactor", 1))


@_test
def _axis_is_last(node: Node) -> bool:
    parts = node.inputs if node.operator.code == "PACK" else node.outputs
    axis, rank = node.operator.options.get("Axis", 0), (_rank(parts[0]) or 0) if parts else 0
    return bool(axis in (-1, rank))


@_test
def _axis_is_batch(node: Node) -> bool:
    rank = (_rank(node.output()) or 0) if node.outputs else 0
    found = numbers(node.input(0)) if node.operator.code == "SPLIT" else None
    axis = found[0] if found else node.operator.options.get("Axis", 1)
    return bool(axis in (BATCH, -rank))


# -- operands -----------------------------------------------------------------------------------------------


@_test
def _inputs_other_than(node: Node, counts: Sequence[int]) -> bool:
    return len(node.inputs) not in counts


@_test
def _not_constant(node: Node, at: Sequence[int]) -> bool:
    return any(t.data is None and t.size for t in map(node.input, at) if t is not None)


@_test
def _constant_of(node: Node, at: int, types: Sequence[str]) -> bool:
    t = node.input(at)
    return t is not None and t.data is not None and t.dtype in types


@_test
def _dtype_is(node: Node, at: int, types: Sequence[str], of: str = "input") -> bool:
    t = _tensor(node, of, at)
    return t is not None and t.dtype in types


@_test
def _dtype_is_not(node: Node, at: int, types: Sequence[str], of: str = "input") -> bool:
    t = _tensor(node, of, at)
    return t is not None and t.dtype not in types


@_test
def _hybrid(node: Node) -> bool:
    first, weights = node.input(0), node.input(1)
    return first is not None and weights is not None and first.dtype in FLOATS and weights.dtype in BYTES


@_test
def _scalar_not_constant(node: Node) -> bool:
    return any(t is not None and not t.shape and t.data is None for t in node.inputs)


@_test
def _nonzero(node: Node, at: int) -> bool:
    found = numbers(node.input(at))
    return found is None or any(found)


# -- shapes -------------------------------------------------------------------------------------------------


@_test
def _grouped(node: Node) -> bool:
    first, weights = node.input(0), node.input(1)
    if first is None or weights is None or len(first.shape) != 4 or len(weights.shape) != 4:
        return False
    return first.shape[3] != weights.shape[3]


@_test
def _input_rank_below(node: Node, least: int, at: int = 0) -> bool:
    rank = _rank(node.input(at))
    return rank is not None and rank < least


@_test
def _input_rank_is_not(node: Node, ranks: Sequence[int]) -> bool:
    return _rank(node.input(0)) not in (*ranks, None)


@_test
def _output_rank_below(node: Node, least: int) -> bool:
    rank = _rank(node.output())
    return rank is not None and rank < least


@_test
def _zero_dim(node: Node) -> bool:
    first = node.input(0)
    return first is not None and 0 in first.shape


@_test
def _shapes_differ(node: Node, at: Sequence[int]) -> bool:
    return len({t.shape for t in map(node.input, at) if t is not None}) > 1


@_test
def _batches_differ(node: Node) -> bool:
    first, second = node.input(0), node.input(1)
    return first is not None and second is not None and first.shape[:-2] != second.shape[:-2]


@_test
def _not_one_row(node: Node, of: str, at: int = 0) -> bool:
    t = _tensor(node, of, at)
    return t is not None and any(n != 1 for n in t.shape[:-1])


@_test
def _not_three_inner(node: Node) -> bool:
    return any(t is not None and any(n != 1 for n in t.shape[:-INNER]) for t in (node.input(0), node.output()))


@_test
def _elements_above(node: Node, most: int) -> bool:
    first = node.input(0)
    return first is not None and prod(first.shape) > most


@_test
def _reduces(node: Node, axis: str, multiple: int = 1) -> bool:
    first, axes = node.input(0), numbers(node.input(1))
    if first is None or axes is None or not first.shape:
        return True
    rank = len(first.shape)
    last = {a % rank for a in axes}
    if axis == "channels":
        return rank - 1 in last and first.shape[-1] % multiple != 0
    return rank == INNER + 1 and BATCH in last


@_test
def _pads_batch(node: Node) -> bool:
    first, found = node.input(0), numbers(node.input(1))
    return first is None or found is None or (len(first.shape) == INNER + 1 and any(found[:2]))


@_test
def _strides_above_one(node: Node) -> bool:
    found = numbers(node.input(3))
    return found is None or any(n != 1 for n in found)


@_test
def _constant_concat(node: Node) -> bool:
    constants = [t for t in node.inputs if t is not None and t.data is not None]
    if not constants:
        return False
    constant = constants[0]
    if len(node.inputs) != 2 or not constant.is_readable:
        return True
    return bool((constant.array() != zero_point(constant)).any())


# -- quantization -------------------------------------------------------------------------------------------


@_test
def _per_axis(node: Node, at: int) -> bool:
    return is_per_axis(node.input(at))


@_test
def _scale_product_reaches_output(node: Node) -> bool:
    first, weights, result = scale(node.input(0)), scales(node.input(1)), scale(node.output())
    return first is not None and weights is not None and result is not None and first * float(weights.max()) >= result


@_test
def _unequal_scales(node: Node, types: Sequence[str]) -> bool:
    held = [t for t in (*node.inputs, *node.outputs) if t is not None and t.dtype in types]
    return len({(scale(t), zero_point(t)) for t in held}) > 1


@_test
def _zero_point_is_not(node: Node, at: int, value: int, types: Sequence[str]) -> bool:
    t = node.input(at)
    return t is not None and t.dtype in types and zero_point(t) != value

"""The tests that the conditions of the data files name. Each says whether it applies to an operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from targets.apple import engine
from targets.apple.placement.macs import reduction, summed_axes
from targets.apple.placement.operation import Operation

Test = Callable[..., bool]
Measure = Callable[[Operation], int]
TOLD = ("test", "says", "fix", "effect", "families", "source", "confidence")  # what is no parameter of the test
TESTS: dict[str, Test] = {}
MEASURES: dict[str, Measure] = {}


def holds(condition: Mapping[str, Any], op: Operation, family: str) -> bool:
    """Whether the test of a condition applies to an operation on a family of engines."""
    if family not in condition.get("families", (family,)):
        return False
    given = {k: v for k, v in condition.items() if k not in TOLD}
    return TESTS[condition["test"]](op, family, **given)


def _test(f: Test) -> Test:
    TESTS[f.__name__[1:]] = f
    return f


def _measure(f: Measure) -> Measure:
    MEASURES[f.__name__[1:]] = f
    return f


def _numbers(op: Operation, attribute: str) -> list[Any]:  # Any: numbers or texts
    value = op.attributes.get(attribute, [])
    return [value] if isinstance(value, (int, float, str)) else list(value)


# -- sizes --------------------------------------------------------------------------------------------------


@_test
def _above(op: Operation, family: str, measure: str, limit: str = "", most: int | None = None) -> bool:
    bound = engine.limit(limit, family) if limit else most
    return bound is not None and MEASURES[measure](op) > bound


@_measure
def _rank(op: Operation) -> int:
    return max((len(t.shape) for t in op.computed), default=0)


@_measure
def _spatial_extent(op: Operation) -> int:
    return max((n for t in op.computed for n in t.shape[-2:]), default=0)


@_measure
def _extent(op: Operation) -> int:
    return max((n for t in op.computed for n in t.shape[:-2]), default=0)


def _kernel(op: Operation) -> tuple[int, ...]:
    weight = op.operand("weight")
    return () if weight is None else weight.shape[2:]


@_measure
def _kernel_width(op: Operation) -> int:
    return (_kernel(op) or (0,))[-1]


@_measure
def _kernel_height(op: Operation) -> int:
    return max(_kernel(op)[:-1], default=0)


@_measure
def _kernel_square(op: Operation) -> int:
    return min(_kernel(op)[-2:], default=0) if len(_kernel(op)) > 1 else 0


@_measure
def _window_width(op: Operation) -> int:
    return _numbers(op, "kernel_sizes")[-1] if op.attributes.get("kernel_sizes") else 0


@_measure
def _window_extent(op: Operation) -> int:
    return max(_numbers(op, "kernel_sizes"), default=0)


@_measure
def _reduction(op: Operation) -> int:
    return reduction(op)


@_test
def _rank_is(op: Operation, family: str, operand: str, rank: int) -> bool:
    tensor = op.operand(operand)
    return tensor is not None and len(tensor.shape) == rank


@_test
def _first_axis_above_one(op: Operation, family: str, operand: str) -> bool:
    tensor = op.operand(operand)
    return tensor is not None and len(tensor.shape) > 3 and tensor.shape[0] > 1


@_test
def _kernel_is_one(op: Operation, family: str) -> bool:
    return all(n == 1 for n in _kernel(op))


# -- element types and constants ----------------------------------------------------------------------------


@_test
def _holds_type(op: Operation, family: str, types: Sequence[str]) -> bool:
    return any(t.dtype in types for t in op.computed)


@_test
def _type_beyond(op: Operation, family: str, types: Sequence[str]) -> bool:
    return any(t.dtype not in types for t in op.computed)


@_test
def _not_constant(op: Operation, family: str, operand: str) -> bool:
    tensor = op.operand(operand)
    return tensor is not None and not tensor.constant


@_test
def _scale_varies_along_sum(op: Operation, family: str) -> bool:
    """Of a weight that is stored in fewer bits."""
    for name in op.inputs:
        t = op.operand(name)
        if t is not None and t.scales and any(t.scales[i] > 1 for i in summed_axes(op, name, len(t.scales))):
            return True
    return False


@_test
def _fills_nonzero(op: Operation, family: str) -> bool:
    return op.attributes.get("mode", "constant") == "constant" and bool(op.attributes.get("constant_val", 0))


# -- attributes and neighbours ------------------------------------------------------------------------------


@_test
def _always(op: Operation, family: str) -> bool:
    return True


@_test
def _attribute_beyond(op: Operation, family: str, attribute: str, values: Sequence[int | str]) -> bool:
    return any(n not in values for n in _numbers(op, attribute))


@_test
def _attribute_from(op: Operation, family: str, attribute: str, least: int) -> bool:
    return any(n >= least for n in _numbers(op, attribute))


@_test
def _offset_on_last_axis(op: Operation, family: str) -> bool:
    begin, mask = _numbers(op, "begin"), op.attributes.get("begin_mask") or []
    return bool(begin) and begin[-1] != 0 and not (len(mask) == len(begin) and mask[-1])


@_test
def _not_read_by(op: Operation, family: str, kinds: Sequence[str]) -> bool:
    return any(kind not in kinds for kind in op.read_by)


@_test
def _between(op: Operation, family: str, makers: Sequence[str], readers: Sequence[str]) -> bool:
    """Something of these kinds makes an operand, and something of those reads a result."""
    return any(kind in makers for kind in op.made_by) and any(kind in readers for kind in op.read_by)

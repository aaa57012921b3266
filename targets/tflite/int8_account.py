"""What there is to say of a file that is not all integers, or holds integers twice."""

from __future__ import annotations

from collections.abc import Sequence

from targets.tflite.int8 import NO_RANGE, Island
from targets.tflite.model import Model

SHOWN = 8  # islands that a warning names
UNKNOWN = tuple(NO_RANGE.format(what) for what in ("its result", "an operand"))


def listed(islands: Sequence[Island]) -> list[str]:
    """One line for each operator that stays in floats."""
    return [f"{i.operator.code} {i.operator.outputs[0].name!r}: {i.reason}" for i in islands]


def account(islands: Sequence[Island], calibrated: bool = True) -> list[str]:
    """A warning about the operators that stay floats, if there are any; of a model that was not `calibrated`, how many
    do only because it has no scale for a value."""
    if not islands:
        return []
    shown = listed(islands)
    more = "" if len(shown) <= SHOWN else f"; and {len(shown) - SHOWN} more"
    count = f"{len(islands)} operators stay in float32, between DEQUANTIZE and QUANTIZE"
    without = 0 if calibrated else sum(i.reason in UNKNOWN for i in islands)
    which = f"all {without}" if without == len(islands) else f"{without} of them"
    why = f" ({which} because the model has no scale for a value: --calibrate DATA.npz finds one)" if without else ""
    return [f"NOT FULL INTEGER: {count}{why}; {'; '.join(shown[:SHOWN])}{more}"]


def copies(model: Model) -> list[str]:
    """A note about values of integers that are stored with other parameters too, if there are any."""
    count = sum(o.code == "QUANTIZE" and o.inputs[0] is not None and o.inputs[0].dtype == o.outputs[0].dtype
                for o in model.operators)  # fmt: skip
    return [f"{count} QUANTIZE copy values to the scales that other operators ask for"] if count else []

"""What the Metal target takes, and what of it depends on the GPU: many operands, large tensors, plans, chips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compiler import ops
from compiler.errors import EmitError, LegalityError
from compiler.graph import Graph
from compiler.op import Op
from compiler.tensor import F16, F32, U8, DType, TensorType
from targets.metal import TARGET
from targets.metal.emit import Form, lowered
from targets.metal.execute import Executor
from targets.metal.limits import check_launches, size_objections
from targets.metal.lower.elementwise import MOST
from tests.targets.metal_layers import agree, layer
from tests.targets.metal_source import folder

PLAIN = """
kernel void copy(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                 uint3 at [[thread_position_in_grid]]) {
    y[at.x] = x[at.x];
}
"""


@pytest.mark.parametrize("count", [MOST, MOST + 1, 60])
def test_operands_beyond_the_buffers_of_a_kernel(count: int) -> None:
    """A kernel has 31 buffers at most."""
    some: list[Op] = [ops.Sum(), ops.Mean(), ops.Max(), ops.Min()]
    made = agree([layer(op, *[TensorType(F32, (2, 3))] * count) for op in some], rtol=1e-5, atol=1e-5)
    assert (len(made.kernels) > len(some)) == (count > MOST)


@pytest.mark.parametrize(
    ("dtype", "size", "is_taken"),
    [
        (U8, 2**31 - 1, True),
        (U8, 2**31, False),
        (F16, 2**31 - 1, True),
        (F32, 2**30 - 1, True),
        (F32, 2**30, False),
    ],
)
def test_sizes_that_32_bits_count(dtype: DType, size: int, *, is_taken: bool) -> None:
    graph = Graph("large")
    graph.set_outputs(graph.add(ops.Identity(), graph.add_input(TensorType(dtype, (size,)), "x")), ["y"])
    assert (size_objections(graph) == []) == is_taken


def test_a_result_that_is_too_large_is_refused() -> None:
    graph = Graph("large")
    rows, columns = (graph.add_input(TensorType(F32, shape), f"x{shape}") for shape in ((100_000, 1), (1, 100_000)))
    graph.set_outputs(graph.add(ops.ReduceMax(axes=(0, 1)), *graph.add(ops.Add(), rows, columns)), ["y"])
    with pytest.raises(LegalityError, match=r"1 layer cannot run\n.*add.* -- needs tensors of fewer than"):
        TARGET(precision="fp32").prepare(graph)


@pytest.mark.parametrize(
    ("groups", "number", "what"),
    [
        ([1 << 24, 1, 1], {"name": "n", "type": "uint", "value": (1 << 32) - 1}, ""),
        ([1, (1 << 24) + 1, 1], {"name": "n", "type": "float", "value": 1e30}, "4,294,967,552 threads along an axis"),
        ([1, 1, 1], {"name": "n", "type": "uint", "value": 1 << 32}, "n as numbers"),
        ([1, 1, 1], {"name": "n", "type": "int", "value": 1 << 31}, "n as numbers"),
        ([1, 1, 1], {"name": "n", "type": "uint", "value": -1}, "n as numbers"),
    ],
)
def test_launches_that_32_bits_count(groups: list[int], number: dict[str, object], what: str) -> None:
    each = {"kernel": "k", "origin": "", "threadgroups": groups, "threads": [256, 256, 1], "numbers": [number]}
    if not what:
        check_launches([each])
        return
    with pytest.raises(EmitError, match=f"kernel k would take {what}, which 32 bits do not hold"):
        check_launches([each])


def test_a_plan_of_another_version(tmp_path: Path) -> None:
    made = folder(tmp_path, PLAIN, {"x": np.ones(64, np.float32)}, {"y": ("float", (64,))}, [])
    plan = json.loads((made / "plan.json").read_text(encoding="utf-8"))
    (made / "plan.json").write_text(json.dumps({**plan, "version": 2}), encoding="utf-8")
    with pytest.raises(EmitError, match="the plan is of version 2, this program reads 1"):
        Executor(made)


def test_launches_are_cut_for_the_chip_that_is_named() -> None:
    """An M1 Max has more cores than an M1, which larger tiles would leave without work."""
    graph = Graph("dense")
    w = graph.const(np.ones((256, 256), np.float32), "w")
    graph.set_outputs(graph.add(ops.Dense(), graph.add_input(TensorType(F32, (256, 256)), "x"), w), ["y"])
    names = [lowered(graph, Form("t", "fp32", gpu)).calls[0].kernel.name for gpu in ("apple7", "M1", "M1 Max")]
    assert names[0] == names[1] != names[2]

"""Products that threads share: the same bits for any number of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from compiler import ops
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.pass_manager import PassManager
from compiler.tensor import F32, TensorType
from targets.neon import TARGET
from targets.neon.build import native

RNG = np.random.default_rng(8)
THREADS = 5
PRODUCTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], bool]] = {  # operands; whether the second is constant
    "one row": ((1, 200), (200, 403), True),
    "one row, few columns": ((1, 3000), (3000, 50), True),
    "rows": ((37, 100), (100, 90), True),
    "batch": ((3, 4, 20, 40), (3, 4, 40, 25), False),
    "batch with one operand repeated": ((3, 4, 20, 30), (4, 30, 25), False),
    "batch with neighbours repeated": ((3, 4, 20, 30), (3, 1, 30, 25), False),
    "both computed": ((70, 100), (100, 90), False),
    "one row, both computed": ((1, 300), (300, 200), False),
}


def products() -> Graph:
    """Each with an addition behind it."""
    g, results = Graph("products"), []
    for i, (x, y, is_constant) in enumerate(PRODUCTS.values()):
        a = g.add_input(TensorType(F32, x), f"x{i}")
        b = (
            g.const(RNG.standard_normal(y).astype(np.float32))
            if is_constant
            else g.add_input(TensorType(F32, y), f"y{i}")
        )
        (z,) = g.add(ops.MatMul(), a, b, origin=frozenset((f"product{i}",)))
        r = g.add_input(z.type, f"r{i}")
        results.append(g.add(ops.Add(), z, r, origin=frozenset((f"sum{i}",)))[0])
    g.set_outputs(results, list(PRODUCTS))
    return g


def test_any_number_of_threads_gives_the_same_bits(tmp_path: Path) -> None:
    tools = native(("-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"))
    if tools is None:
        pytest.skip("no compiler")
    graph = products()
    x = {v.name: RNG.standard_normal(v.type.dims).astype(np.float32) for v in graph.inputs}
    found = {}
    for most in (1, THREADS):
        target = TARGET(threads=most)
        folder = tmp_path / str(most)
        artifact = target.emit(target.prepare(PassManager(target.pipeline()).run(graph.clone()).graph), folder)
        artifact.use(tools)
        for n in range(1, most + 1):
            found[most, n] = artifact.run_with(x, ("--threads", str(n)) if most > 1 else ())[0]
    divided = re.findall(r"_pool_run\(part_\d+", (folder / "model.c").read_text())
    assert len(divided) == len(PRODUCTS)
    for name, want in evaluate(graph, x).items():
        np.testing.assert_allclose(found[1, 1][name], want, rtol=1e-4, atol=1e-4, err_msg=name)
        assert {outputs[name].tobytes() for outputs in found.values()} == {found[1, 1][name].tobytes()}, name

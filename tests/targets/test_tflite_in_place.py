"""Views of tensors that operators write over: every reader sees what it reads, with and without a delegate."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.op import Op
from compiler.ops import Add, BitCast, Mod, Mul, Relu, Reshape, Sub
from compiler.tensor import F32, I32, Array, DType, TensorType
from targets.tflite.artifact import TfLiteArtifact
from tests.strategies import seeds
from tests.targets.tflite_harness import emitted

FLAT, SQUARE = (64,), (8, 8)


class Chain:
    """A graph of layers on 64 elements."""

    def __init__(self, dtype: DType) -> None:
        self.graph = Graph()
        self.dtype = dtype
        self.x = self.graph.add_input(TensorType(dtype, FLAT), "x")

    def add(self, op: Op, x: Value, operand: Value | float | None = None) -> Value:
        if isinstance(operand, float | int):
            operand = self.graph.const(np.array(operand, self.dtype.numpy))
        (y,) = self.graph.add(op, x, *([] if operand is None else [operand]))
        return y

    def view(self, x: Value) -> Value:
        return self.add(Reshape(shape=SQUARE if x.type.dims == FLAT else FLAT), x)

    def finish(self, *outputs: Value) -> Graph:
        self.graph.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])
        return self.graph


def by_its_own_kernels(artifact: TfLiteArtifact, x: Array) -> dict[str, Array]:
    """What the runtime gives without the delegate that floats go to."""
    litert = import_module("ai_edge_litert.interpreter")
    kind = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = litert.Interpreter(str(artifact.path), experimental_op_resolver_type=kind)
    return dict(interpreter.get_signature_runner()(x=x))


def assert_right(graph: Graph, path: Path) -> TfLiteArtifact:
    feeds = {"x": np.arange(64).astype(graph.inputs[0].type.dtype.numpy)}
    expected = evaluate(graph, feeds)
    artifact = emitted(graph, path)
    for results in (artifact.run(feeds), by_its_own_kernels(artifact, feeds["x"])):
        assert all(np.array_equal(results[name], a) for name, a in expected.items())
    return artifact


@pytest.mark.parametrize("dtype", [I32, F32])
@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("depends", [False, True])
def test_what_is_read_later_is_not_overwritten(dtype: DType, views: int, depends: bool, tmp_path: Path) -> None:
    """t = (x + 1) * 2 lies where x + 1 was; 5 is added to a view of it, and then t is read."""
    c = Chain(dtype)
    t = c.add(Mul(), c.add(Add(), c.x, 1.0), 2.0)
    view = c.view(t)
    for _ in range(views - 1):
        view = c.view(c.view(view))
    changed = c.add(Mul(), c.add(Add(), view, 5.0), 3.0)
    last = c.add(Sub(), t, c.view(changed) if depends else 3.0)
    artifact = assert_right(c.finish(changed, last), tmp_path / "m.tflite")
    assert artifact.operators["MUL"] == 3  # one of them again


def test_bits_read_as_another_type_are_not_overwritten(tmp_path: Path) -> None:
    c = Chain(F32)
    bits = c.add(BitCast(to="i32"), c.add(Mod(), c.x, 5.0))
    c.dtype = I32
    changed = c.add(Mul(), c.add(Add(), c.view(bits), 5.0), 3.0)
    assert_right(c.finish(changed, c.add(Sub(), bits, 3.0)), tmp_path / "m.tflite")


def test_nothing_is_computed_twice_without_need(tmp_path: Path) -> None:
    """Read before the view is written over; made by what writes over nothing; an input of the model."""
    c = Chain(I32)
    t = c.add(Mul(), c.add(Add(), c.x, 1.0), 2.0)
    early = c.add(Sub(), t, 3.0)
    changed = c.add(Add(), c.view(t), 5.0)
    own = c.add(Relu(), c.x)
    a = c.add(Add(), c.view(own), 4.0)
    b = c.add(Add(), c.view(c.x), 9.0)
    graph = c.finish(early, c.add(Relu(), changed), c.add(Relu(), a), c.add(Relu(), own), c.add(Relu(), b), c.x)
    artifact = assert_right(graph, tmp_path / "m.tflite")
    assert (artifact.operators["ADD"], artifact.operators["MUL"], artifact.operators["SUB"]) == (4, 1, 1)


@settings(max_examples=60)
@given(seed=seeds(), layers=st.integers(3, 14))
def test_random_chains(seed: int, layers: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = np.random.default_rng(seed)
    c = Chain(I32)
    pool = [c.x]
    for _ in range(layers):
        x = pool[-1 - int(min(rng.geometric(0.5) - 1, len(pool) - 1))]
        if rng.random() < 0.4:
            pool.append(c.view(x))
            continue
        same = [v for v in pool if v.type == x.type]
        operand = same[int(rng.integers(len(same)))] if rng.random() < 0.4 else float(rng.integers(1, 4))
        pool.append(c.add((Add(), Sub(), Mul())[int(rng.integers(3))], x, operand))
    unread = [v for v in pool if not v.is_read]
    assert_right(c.finish(*unread), tmp_path_factory.mktemp("chain") / "m.tflite")

"""Random well-formed layer graphs: grown from the registry of operations, or from a rule's own pattern."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

import compiler.ops  # noqa: F401  # registers the operations
from compiler.errors import CompileError, ShapeError
from compiler.graph import Graph, Origin, Value
from compiler.op import OPS, Op
from compiler.pattern import Const, Layer, Maybe, OneOf, Pattern, Wild
from compiler.tensor import BOOL, F16, F32, F64, I32, I64, U8, Array, TensorType

if TYPE_CHECKING:
    from numpy.random import Generator

SMALL: tuple[tuple[int, ...], ...] = ((), (1,), (5,), (2, 3), (4, 4), (3, 1), (1, 7, 3), (2, 3, 5))
SHAPES = (*SMALL, (1, 4, 6, 6), (2, 3, 5, 7), (1, 6, 4, 4), (1, 2, 3, 4, 5), (2, 0))
DTYPES = (F32, F32, F32, F32, F16, F64, I64, I32, U8, BOOL)
LARGEST = 4096  # elements of a value
TELLING = (0.0, 1.0, 2.0, 3.0, 6.0, 0.5, 1 / 6, 1e-5)  # numbers that formulas are recognised by
HOSTILE = ("", "none", "return", "a b", 'q"uo\\te', "new\nline", "%x", "é λ", "x:0", "/layer/Conv", "\u2028", "v", "0")


def seeds() -> st.SearchStrategy[int]:
    """Seeds of generators; shrink towards 0."""
    return st.integers(0, 2**32 - 1)


@st.composite
def graphs(draw: st.DrawFn, largest: int = 10, floats_only: bool = False) -> Graph:
    """A graph grown from the registry, of at most `largest` layers."""
    return random_graph(np.random.default_rng(draw(seeds())), draw(st.integers(1, largest)), floats_only)


def random_graph(rng: Generator, layers: int, floats_only: bool = False) -> Graph:
    """Layers of any registered operation on shared values, with outputs in the middle and several constants."""
    return _Garden(rng, floats_only).graph(layers)


def random_type(rng: Generator, floats_only: bool = False) -> TensorType:
    """A small static type."""
    dtype = F32 if floats_only else DTYPES[int(rng.integers(len(DTYPES)))]
    return TensorType(dtype, SHAPES[int(rng.integers(len(SHAPES) - floats_only))])


def random_array(rng: Generator, t: TensorType) -> Array:
    """Elements of a type: floats around 0, integers from 0 to 3, fair booleans."""
    if t.dtype.kind == "s":
        return np.array([*(HOSTILE[int(i)] for i in rng.integers(len(HOSTILE), size=t.size)), None], object)[
            :-1
        ].reshape(t.dims)
    if t.dtype is BOOL:
        return np.asarray(rng.random(t.dims) < 0.5)
    if t.dtype.is_float:
        return np.asarray(rng.standard_normal(t.dims) * rng.choice([0.5, 1.0, 2.0])).astype(t.dtype.numpy)
    return np.asarray(rng.integers(0, 4, t.dims)).astype(t.dtype.numpy)


def random_inputs(rng: Generator, graph: Graph) -> dict[str, Array]:
    """Arrays for the inputs of a graph."""
    return {v.name: random_array(rng, v.type) for v in graph.inputs}


class _Garden:
    """A graph that grows at its end."""

    def __init__(self, rng: Generator, floats_only: bool = False) -> None:
        self.rng = rng
        self.floats_only = floats_only
        self.graph_ = Graph("grown")
        self.pool: list[Value] = []
        self.operations = [op for op in OPS.values() if op.pure]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def input(self, t: TensorType) -> Value:
        v = self.graph_.add_input(t, f"x{len(self.graph_.inputs)}")
        self.pool.append(v)
        return v

    def origin(self) -> Origin:
        return frozenset((f"n{len(self.graph_)}",))

    def graph(self, layers: int) -> Graph:
        for _ in range(int(self.rng.integers(1, 4))):
            self.input(random_type(self.rng, self.floats_only))
        for _ in range(layers):
            self.grow()
        self.finish(0.2)
        return self.graph_

    def finish(self, tapped: float) -> None:
        """Make outputs of everything that nobody reads, and of a share of the rest; in every third graph, only of
        the last result of each layer."""
        first = -1 if len(self.graph_) % 3 == 0 else 0
        computed = [v for n in self.graph_.nodes for v in n.outputs[first:]]
        outputs = [v for v in computed if not v.is_read or self.chance(tapped)] or self.pool[:1]
        self.graph_.set_outputs(outputs, [f"y{i}" for i in range(len(outputs))])

    def grow(self) -> None:
        """One more layer, of an operation that accepts a value of the pool."""
        pool, rng = self.pool, self.rng
        x = (
            pool[-1 - int(min(rng.geometric(0.4) - 1, len(pool) - 1))]
            if self.chance(0.7)
            else pool[int(rng.integers(len(pool)))]
        )
        for i in rng.permutation(len(self.operations)):
            sample = self.operations[int(i)].sample(rng, x.type)
            if sample is None:
                continue
            op, others = sample
            if self.acceptable(op, x.type, others):
                operands = [self.operand(o) for o in others]
                self.pool.extend(self.graph_.add(op, x, *operands, origin=self.origin()))
                return

    def acceptable(self, op: Op, x: TensorType, others: tuple[TensorType | Array | None, ...]) -> bool:
        """Whether the results are of known and moderate size."""
        types = [None if o is None else o if isinstance(o, TensorType) else _type(o) for o in others]
        results = op.infer(x, *types)
        results = (results,) if isinstance(results, TensorType) else results
        real = not self.floats_only or all(t.dtype is F32 for t in results)
        return real and all(t.is_static and t.size <= LARGEST for t in results)

    def operand(self, wanted: TensorType | Array | None) -> Value | None:
        """A value of the pool if one fits, else a constant or a new input."""
        if wanted is None:
            return None
        if not isinstance(wanted, TensorType):
            return self.graph_.const(np.array(wanted))
        fitting = [v for v in self.pool if v.type == wanted]
        if fitting and self.chance(0.5):
            return fitting[int(self.rng.integers(len(fitting)))]
        if self.chance(0.6):
            return self.graph_.const(random_array(self.rng, wanted), origin=frozenset(("w",)))
        return self.input(wanted)


class BarrenError(Exception):
    """An attempt to grow a pattern came to types that do not fit; another one may succeed."""


def grown(rng: Generator, find: Layer, attempts: int = 200) -> Graph | None:
    """A graph in which the pattern of a rule occurs, sometimes with inner values shared or tapped; None if it could
    not be grown. Sharing is rare, so that most instances are ones on which the rule should fire."""
    for _ in range(attempts):
        try:
            return _Grower(rng).whole(find)
        except BarrenError:
            continue
    return None


class _Grower(_Garden):
    """Grows a pattern from its leaves to its root."""

    def __init__(self, rng: Generator) -> None:
        super().__init__(rng)
        self.bound: dict[Pattern, Value | None] = {}
        self.attempts = 40  # at attributes, for the whole graph
        self.usuals: dict[type[Op], Op] = {}
        self.dtype = (F32, F32, F16, DTYPES[int(rng.integers(len(DTYPES)))])[int(rng.integers(4))]

    def whole(self, find: Layer) -> Graph:
        hint = random_type(self.rng).with_dtype(self.dtype)
        root = self.layer(find, hint)
        taps = [v for n in self.graph_.nodes for v in n.outputs if v.node is not root.node]
        assert root.node is not None
        results = list(root.node.outputs)
        if taps and self.chance(0.25):
            results.append(taps[int(self.rng.integers(len(taps)))])
        results.extend(v for v in taps if not v.is_read)
        results = list(dict.fromkeys(results))
        self.graph_.set_outputs(results, [f"y{i}" for i in range(len(results))])
        return self.graph_

    def value(self, p: Pattern, hint: TensorType) -> Value | None:
        """A value that the pattern meets; of the type `hint` where the pattern leaves that open."""
        if p in self.bound:
            return self.bound[p]
        v = self.new(p, hint)
        self.bound[p] = v
        return v

    def new(self, p: Pattern, hint: TensorType) -> Value | None:
        if isinstance(p, Layer):
            return self.layer(p, hint)
        if isinstance(p, OneOf):
            return self.value(p.choices[int(self.rng.integers(len(p.choices)))], hint)
        if isinstance(p, Maybe):
            return None if self.chance(0.4) else self.value(p.inner, hint)
        if isinstance(p, Const):
            return self.const(p, hint)
        assert isinstance(p, Wild)
        return self.wild(p, hint)

    def wild(self, p: Wild, hint: TensorType) -> Value:
        for t in self.variants(hint):
            v = self.graph_.const(random_array(self.rng, t)) if self.chance(0.1) else self.input(t)
            if p.where is None or p.where(v):
                return v
            if v.data is None:
                self.graph_.inputs.remove(v)
                self.pool.remove(v)
        raise BarrenError

    def const(self, p: Const, hint: TensorType) -> Value:
        for t in self.variants(hint):
            if p.equal is not None:
                scalar = t if self.chance(0.2) else t.with_shape(() if self.chance(0.7) else (1,))
                v = self.graph_.const(np.full(scalar.dims, p.equal).astype(t.dtype.numpy))
            else:
                telling = t.dtype.is_float and self.chance(0.5 if t.size == 1 else 0.1)
                v = self.graph_.const(
                    np.full(t.dims, self.rng.choice(TELLING), t.dtype.numpy) if telling else random_array(self.rng, t)
                )
            if p.where is None or p.where(v):
                return v
        raise BarrenError

    def variants(self, hint: TensorType) -> Iterator[TensorType]:
        """The type and others that broadcast to it, along one axis or of one element, the likelier ones first."""
        rank = hint.rank
        for _ in range(4):
            axis = int(self.rng.integers(max(rank, 1)))
            kinds = [
                hint,
                hint.with_shape(tuple(d if i == axis else 1 for i, d in enumerate(hint.shape))),
                hint.with_shape(() if self.chance(0.5) else (1,) * rank),
                hint.with_shape(hint.shape[axis:]),
                random_type(self.rng),
            ]
            yield from (kinds[int(i)] for i in self.rng.choice(5, 5, False, [0.5, 0.15, 0.2, 0.1, 0.05]))

    def layer(self, p: Layer, hint: TensorType) -> Value:
        """The result of a new layer that the pattern meets."""
        if p.whole in self.bound:
            known = self.bound[p.whole]
            assert known is not None and known.node is not None
            return known.node.outputs[p.output]
        cls = p.ops[int(self.rng.integers(len(p.ops)))]
        main = next((i for i, o in enumerate(p.operands) if _holds_layer(o)), 0)
        first = self.value(p.operands[main], hint) if p.operands else self.free(cls, hint)
        x = hint if first is None else first.type
        op, others = self.instance(p, cls, x)
        operands = self.operands(p, main, first, x, others)
        results = self.added(op, operands)
        self.bound[p.whole] = results[0]
        if p.output >= len(results):
            raise BarrenError
        return results[p.output]

    def free(self, cls: type[Op], hint: TensorType) -> Value:
        """An operand that the pattern does not describe: an input, or the result of a layer of the same operation."""
        x = self.input(hint)
        if self.chance(0.5):
            return x
        op, others = self.instance(Layer(cls), cls, x.type)
        return self.added(op, [x, *map(self.operand, others)])[0]

    def instance(self, p: Layer, cls: type[Op], x: TensorType) -> tuple[Op, tuple[TensorType | Array | None, ...]]:
        """Attributes that the pattern accepts, and what the other operands should be."""
        while self.attempts:
            self.attempts -= 1
            sample = cls.sample(self.rng, x)
            if sample is None:
                continue
            op = self.usual(sample[0], x)
            if p.where is None or p.where(op):
                self.usuals[cls] = op
                return op, sample[1]
        raise BarrenError

    def usual(self, op: Op, x: TensorType) -> Op:
        """The operation as formulas use it: with the attributes of an earlier layer of its class, reductions that
        keep their axes, casts back, pads of spatial axes, and telling numbers."""
        earlier = self.usuals.get(type(op))
        if earlier is not None and self.chance(0.7):
            return earlier
        changes: dict[str, object] = {}
        for name, value in op.values().items():
            if name == "keepdims" and self.chance(0.7):
                changes[name] = True
            elif name == "to" and self.chance(0.5):
                changes[name] = self.dtype.name
            elif name == "pads" and len(value) == 2 * x.rank > 4 and self.chance(0.5):
                changes[name] = tuple(0 if i % x.rank < 2 else n for i, n in enumerate(value))
            elif isinstance(value, float) and self.chance(0.5):
                changes[name] = float(self.rng.choice(TELLING))
        try:
            return op.with_(**changes)
        except (ValueError, CompileError):
            return op

    def operands(
        self, p: Layer, main: int, first: Value | None, x: TensorType, others: tuple[TensorType | Array | None, ...]
    ) -> list[Value | None]:
        rest = iter(others)
        made: list[Value | None] = [] if p.operands else [first]
        for i, pattern in enumerate(p.operands):
            if i == main:
                made.append(first)
                continue
            wanted = next(rest, x)
            if isinstance(wanted, TensorType) or wanted is None:
                made.append(None if wanted is None and isinstance(pattern, Maybe) else self.value(pattern, wanted or x))
            else:
                made.append(self.fixed(pattern, wanted))
        if p.rest:
            made.extend(self.operand(o) for o in rest)
        while made and made[-1] is None:
            made.pop()
        if p.any_order and len(made) > 1 and self.chance(0.5):
            made[0], made[1] = made[1], made[0]
        return made

    def fixed(self, p: Pattern, data: Array) -> Value | None:
        """A constant that the operation dictates, where the pattern admits one."""
        while isinstance(p, Maybe):
            p = p.inner
        v = self.graph_.const(np.array(data))
        if p in self.bound or not isinstance(p, Const | Wild) or (p.where is not None and not p.where(v)):
            raise BarrenError
        self.bound[p] = v
        return v

    def added(self, op: Op, operands: list[Value | None]) -> tuple[Value, ...]:
        try:
            results = self.graph_.add(op, *operands, origin=self.origin())
        except ShapeError:
            raise BarrenError from None
        if any(not v.type.is_static or v.type.size > LARGEST for v in results):
            raise BarrenError
        return results


def _holds_layer(p: Pattern) -> bool:
    if isinstance(p, OneOf):
        return any(map(_holds_layer, p.choices))
    return isinstance(p, Layer) or (isinstance(p, Maybe) and _holds_layer(p.inner))


def _type(data: Array) -> TensorType:
    return Graph().const(np.array(data)).type

"""Recurrent layers over a sequence x [time, batch, features]: simple, gated and long short-term memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from compiler.errors import OnnxError
from compiler.op import Emitter, OnnxNode, Op, expect, op
from compiler.ops.elementwise import Sample
from compiler.ops.gate import BY_LOWER_NAME, GATE_FUNCTIONS, parameters_of
from compiler.ops.numeric import widen
from compiler.ops.window import bound
from compiler.tensor import I32, Array, TensorType

DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


class Direction(NamedTuple):
    """The operands and functions of one direction, in the element type that it computes in.

    seen       x times w, plus the biases that can be added first [time, batch, gates * hidden]
    alive      whether an element of the batch has not ended yet [time, batch, 1]
    functions  the activations, which clip their operand
    """

    seen: Array
    alive: Array
    r: Array
    b: Array
    p: Array | None
    functions: tuple[Callable[[Array], Array], ...]


class Recurrent(Op):
    """What recurrent layers share. Operands have one slice per direction: w [D,G*H,I], r [D,G*H,H], b [D,2*G*H]
    (of w, then of r), initial states [D,B,H]; `sequence_lens` [B] ends sequences early. Results are y [T,D,B,H], 0
    after the end, and the last states [D,B,H]. `functions` has one activation per gate function and direction, and
    `alpha` and `beta` one number for each of them, or are empty where none has parameters. `clip` bounds what the
    gates' activations are applied to (as in ONNX Runtime, not the cell of an LSTM)."""

    functions: tuple[str, ...]
    direction: str = "forward"
    alpha: tuple[float, ...] = ()
    beta: tuple[float, ...] = ()
    clip: float = inf

    gates: ClassVar[int]
    states: ClassVar[int] = 1
    default_functions: ClassVar[tuple[str, ...]]

    def results(
        self,
        x: TensorType,
        w: TensorType,
        r: TensorType,
        b: TensorType | None,
        sequence_lens: TensorType | None,
        initial: Sequence[TensorType | None],
    ) -> tuple[TensorType, ...]:
        """Types of the results; ShapeError if the operands do not fit."""
        expect(self.direction in DIRECTIONS, f"direction {self.direction!r} is not one of {', '.join(DIRECTIONS)}")
        d = DIRECTIONS[self.direction]
        count = len(self.default_functions) * d
        expect(len(self.functions) == count, f"needs {count} activations, got {len(self.functions)}")
        for values in (self.alpha, self.beta):
            expect(len(values) in (0, count), f"needs {count} parameters of activations, got {len(values)}")
        expect(x.rank == w.rank == r.rank == 3, f"needs operands of rank 3, got {x}, {w}, {r}")
        expect(x.dtype.is_float, f"does not take elements of type {x.dtype}")
        time, batch, features = x.shape
        (hidden,) = bound(r.shape[2:])
        wide = self.gates * hidden
        state = x.with_shape((d, batch, hidden))
        for name, given, wanted in (
            ("w", w, x.with_shape((d, wide, features))),
            ("r", r, x.with_shape((d, wide, hidden))),
            ("b", b, x.with_shape((d, 2 * wide))),
            ("sequence_lens", sequence_lens, TensorType(I32, (batch,))),
            *(("initial state", t, state) for t in initial),
        ):
            expect(given is None or given == wanted, f"{name} should be {wanted}, it is {given}")
        return (x.with_shape((time, d, batch, hidden)), *[state] * self.states)

    def run(
        self,
        x: Array,
        w: Array,
        r: Array,
        b: Array | None,
        sequence_lens: Array | None,
        initial: Sequence[Array | None],
        p: Array | None = None,
    ) -> tuple[Array, ...]:
        """All results, in the element type of x."""
        wide = widen(x)
        time, batch = x.shape[:2]
        lens = np.full(batch, time) if sequence_lens is None else sequence_lens
        alive = (np.arange(time)[:, None] < lens)[:, :, None]
        outputs, lasts = [], []
        for d in range(w.shape[0]):
            backwards = self.direction == "reverse" or d == 1
            order = np.where(
                alive[:, :, 0], (lens - 1 if backwards else 0) + np.arange(time)[:, None] * (1 - 2 * backwards), 0
            )
            biases = np.zeros(2 * w.shape[1], wide.dtype) if b is None else b[d].astype(wide.dtype)
            side = Direction(
                seen=np.take_along_axis(wide, order[:, :, None], 0) @ w[d].astype(wide.dtype).T + biases[: w.shape[1]],
                alive=alive,
                r=r[d].astype(wide.dtype).T,
                b=biases[w.shape[1] :],
                p=None if p is None else p[d].astype(wide.dtype),
                functions=self._callables(d),
            )
            zero: Array = np.zeros((batch, r.shape[2]), wide.dtype)
            states = [zero if s is None else s[d].astype(wide.dtype) for s in initial]
            y, *last = self._sweep(side, states)
            outputs.append(np.where(alive, np.take_along_axis(y, order[:, :, None], 0), 0) if backwards else y)
            lasts.append(last)
        results = (np.stack(outputs, 1), *(np.stack(s) for s in zip(*lasts, strict=True)))
        return tuple(v.astype(x.dtype, copy=False) for v in results)

    def _sweep(self, side: Direction, states: list[Array]) -> tuple[Array, ...]:
        y: Array = np.zeros((*side.seen.shape[:2], states[0].shape[1]), side.seen.dtype)
        for t in range(side.seen.shape[0]):
            new = self.step(side, t, *states)
            states = [np.where(side.alive[t], n, s) for n, s in zip(new, states, strict=True)]
            y[t] = np.where(side.alive[t], new[0], 0)
        return (y, *states)

    def step(self, side: Direction, t: int, *states: Array) -> tuple[Array, ...]:
        """The states after time step `t`; the first is also the result of that step."""
        raise NotImplementedError

    def _callables(self, d: int) -> tuple[Callable[[Array], Array], ...]:
        count = len(self.default_functions)
        return tuple(self._callable(d * count + i, inf if i == 2 else self.clip) for i in range(count))

    def _callable(self, i: int, clip: float) -> Callable[[Array], Array]:
        function = GATE_FUNCTIONS[self.functions[i]].formula
        alpha, beta = (v[i] if v else 0.0 for v in (self.alpha, self.beta))
        return lambda x: function(np.clip(x, -clip, clip), alpha, beta).astype(x.dtype, copy=False)

    def macs(self, outputs: Sequence[TensorType], *inputs: TensorType | None) -> int:
        x, w, r = inputs[:3]
        assert x is not None
        assert w is not None
        assert r is not None
        return x.with_shape(x.shape[:2]).size * (w.size + r.size)

    @classmethod
    def read(cls, node: OnnxNode) -> dict[str, Any]:
        """The attributes that all recurrent operators have."""
        direction = node.attr("direction", "forward")
        if direction not in DIRECTIONS:
            raise OnnxError(f"direction {direction!r} is not one of {', '.join(DIRECTIONS)}")
        given = node.attr("activations", cls.default_functions * DIRECTIONS[direction])
        unknown = [name for name in given if name.lower() not in BY_LOWER_NAME]
        if unknown:
            raise OnnxError(f"activation {unknown[0]!r} is not one of {', '.join(GATE_FUNCTIONS)}")
        functions = tuple(BY_LOWER_NAME[name.lower()] for name in given)
        clip = float(node.attr("clip", 0.0))
        return {
            "direction": direction,
            "functions": functions,
            "alpha": parameters_of(functions, "alpha", node.attr("activation_alpha", ())),
            "beta": parameters_of(functions, "beta", node.attr("activation_beta", ())),
            "clip": clip if clip > 0 else inf,
        }

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        return cls(**cls.read(node))

    def attributes(self, e: Emitter) -> dict[str, Any]:
        """The ONNX attributes that all recurrent operators have."""
        r = e.types[2]
        assert r is not None
        used: dict[str, Any] = {}
        for name, values in (("alpha", self.alpha), ("beta", self.beta)):
            has = [getattr(GATE_FUNCTIONS[f], name) is not None for f in self.functions]
            used[f"activation_{name}"] = tuple(v for v, h in zip(values, has, strict=True) if h) if values else None
        default = self.functions == self.default_functions * DIRECTIONS[self.direction]
        return {
            "hidden_size": r.dims[2],
            "direction": self.direction,
            "activations": None if default else self.functions,
            "clip": self.clip if self.clip < inf else None,
            **used,
        }

    def to_onnx(self, e: Emitter, *inputs: str | None) -> Sequence[str]:
        return e.node(self.onnx, *inputs, outputs=len(e.outputs), **self.attributes(e))

    @classmethod
    def sample_operands(
        cls, rng: np.random.Generator, x: TensorType
    ) -> tuple[dict[str, Any], list[TensorType | Array | None]] | None:
        """Random attributes, and w, r, b, sequence_lens and the initial states."""
        if x.rank != 3 or not x.dtype.is_float or not x.is_static or not all(x.shape):
            return None
        direction = str(rng.choice(list(DIRECTIONS)))
        d, hidden = DIRECTIONS[direction], int(rng.integers(1, 4))
        time, batch, features = x.dims
        wide = cls.gates * hidden
        lens = rng.integers(1, time + 1, batch).astype(np.int32) if rng.random() < 0.5 else None
        state = x.with_shape((d, batch, hidden))
        initial = [state if rng.random() < 0.5 else None for _ in range(cls.states)]
        operands = [x.with_shape(s) for s in ((d, wide, features), (d, wide, hidden), (d, 2 * wide))]
        bounded = ("Sigmoid", "Tanh", "Softsign", "HardSigmoid", "ScaledTanh")
        functions = tuple(str(f) for f in rng.choice(bounded, len(cls.default_functions) * d))
        functions = functions if rng.random() < 0.5 else cls.default_functions * d
        attributes = {
            "direction": direction,
            "functions": functions,
            "alpha": parameters_of(functions, "alpha", rng.uniform(0.1, 0.9, 2).tolist()),
            "beta": parameters_of(functions, "beta", rng.uniform(0.1, 0.9, 2).tolist()),
            "clip": 1.5 if rng.random() < 0.3 else inf,
        }
        return attributes, [*operands, lens, *initial]


@op("rnn", onnx="RNN", since=7)
class RNN(Recurrent):
    """H = f(x w + H r + b)."""

    gates = 1
    default_functions: ClassVar[tuple[str, ...]] = ("Tanh",)

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        r: TensorType,
        b: TensorType | None = None,
        sequence_lens: TensorType | None = None,
        initial_h: TensorType | None = None,
    ) -> tuple[TensorType, ...]:
        return self.results(x, w, r, b, sequence_lens, [initial_h])

    def evaluate(
        self,
        x: Array,
        w: Array,
        r: Array,
        b: Array | None = None,
        sequence_lens: Array | None = None,
        initial_h: Array | None = None,
    ) -> tuple[Array, ...]:
        return self.run(x, w, r, b, sequence_lens, [initial_h])

    def step(self, side: Direction, t: int, *states: Array) -> tuple[Array, ...]:
        (f,) = side.functions
        return (f(side.seen[t] + states[0] @ side.r + side.b),)

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        found = cls.sample_operands(rng, x)
        return found and (cls(**found[0]), tuple(found[1]))


@op("gru", onnx="GRU", since=7)
class GRU(RNN):
    """Gates z, r, h: H = (1 - z) h + z H; Cho et al., arXiv:1406.1078. With `linear_before_reset`, h resets the
    product of H and its weight, with the bias, rather than H."""

    linear_before_reset: bool = False

    gates = 3
    default_functions = ("Sigmoid", "Tanh")

    def step(self, side: Direction, t: int, *states: Array) -> tuple[Array, ...]:
        (h,), (f, g) = states, side.functions
        n = h.shape[1]
        seen, rest = side.seen[t], h @ side.r + side.b
        z, reset = (f(seen[:, i * n : (i + 1) * n] + rest[:, i * n : (i + 1) * n]) for i in range(2))
        if self.linear_before_reset:
            candidate = reset * rest[:, 2 * n :]
        else:
            candidate = (reset * h) @ side.r[:, 2 * n :] + side.b[2 * n :]
        return ((1 - z) * g(seen[:, 2 * n :] + candidate) + z * h,)

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        return cls(linear_before_reset=bool(node.attr("linear_before_reset", 0)), **cls.read(node))

    def attributes(self, e: Emitter) -> dict[str, Any]:
        return {"linear_before_reset": int(self.linear_before_reset) or None, **super().attributes(e)}

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        found = cls.sample_operands(rng, x)
        return found and (cls(linear_before_reset=bool(rng.random() < 0.5), **found[0]), tuple(found[1]))


@op("lstm", onnx="LSTM", since=7)
class LSTM(Recurrent):
    """Gates i, o, f, c: C = f C + i c, H = o h(C); Hochreiter & Schmidhuber 1997. `p` [D,3*H] are peepholes from C to
    i, o and f; with `input_forget` f = 1 - i."""

    input_forget: bool = False

    gates = 4
    states = 2
    default_functions = ("Sigmoid", "Tanh", "Tanh")

    def infer(
        self,
        x: TensorType,
        w: TensorType,
        r: TensorType,
        b: TensorType | None = None,
        sequence_lens: TensorType | None = None,
        initial_h: TensorType | None = None,
        initial_c: TensorType | None = None,
        p: TensorType | None = None,
    ) -> tuple[TensorType, ...]:
        results = self.results(x, w, r, b, sequence_lens, [initial_h, initial_c])
        peepholes = x.with_shape((results[1].shape[0], 3 * bound(r.shape[2:])[0]))
        expect(p is None or p == peepholes, f"p should be {peepholes}, it is {p}")
        return results

    def evaluate(
        self,
        x: Array,
        w: Array,
        r: Array,
        b: Array | None = None,
        sequence_lens: Array | None = None,
        initial_h: Array | None = None,
        initial_c: Array | None = None,
        p: Array | None = None,
    ) -> tuple[Array, ...]:
        return self.run(x, w, r, b, sequence_lens, [initial_h, initial_c], p)

    def step(self, side: Direction, t: int, *states: Array) -> tuple[Array, ...]:
        (hidden, cell), (f, g, h) = states, side.functions
        n = hidden.shape[1]
        total = side.seen[t] + hidden @ side.r + side.b
        i, o, forget, c = (total[:, k * n : (k + 1) * n] for k in range(4))
        peep_i, peep_o, peep_f = (0, 0, 0) if side.p is None else (side.p[k * n : (k + 1) * n] for k in range(3))
        i = f(i + peep_i * cell)
        forget = 1 - i if self.input_forget else f(forget + peep_f * cell)
        cell = forget * cell + i * g(c)
        return f(o + peep_o * cell) * h(cell), cell

    @classmethod
    def from_onnx(cls, node: OnnxNode) -> Self:
        return cls(input_forget=bool(node.attr("input_forget", 0)), **cls.read(node))

    def attributes(self, e: Emitter) -> dict[str, Any]:
        return {"input_forget": int(self.input_forget) or None, **super().attributes(e)}

    @classmethod
    def sample(cls, rng: np.random.Generator, x: TensorType) -> Sample | None:
        found = cls.sample_operands(rng, x)
        if found is None:
            return None
        attributes, operands = found
        r = operands[1]
        assert isinstance(r, TensorType)
        p = x.with_shape((r.dims[0], 3 * r.dims[2])) if rng.random() < 0.3 else None
        return cls(input_forget=bool(rng.random() < 0.2), **attributes), (*operands, p)


__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]

"""What every pass must keep, checked on one graph; and comparison of graphs and of numbers for other tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from compiler.compare import compare
from compiler.evaluate import evaluate
from compiler.graph import Graph
from compiler.pass_base import ErrorClass, Pass, check_conditions
from compiler.pass_manager import PassManager
from compiler.tensor import Array
from compiler.text import constants_of, digest, print_graph
from compiler.text_parse import parse_graph
from tests.strategies import random_inputs

if TYPE_CHECKING:
    from numpy.random import Generator

NUDGE = 1e-6  # relative size of the disturbances that show how far an error spreads
AMPLIFIED = 100.0  # how many times what they cause a rewrite that only rounds may cause


class Checked(NamedTuple):
    """How often a pass fired, and the graph before and after it."""

    fired: int
    before: Graph
    after: Graph


def check(p: Pass, graph: Graph, rng: Generator, nan: bool = True) -> Checked:
    """Run a pass on a copy of a graph and assert all it promises; a graph that does not meet `requires` is refused.

    The graph is sound before and after, and prints and parses; inputs, outputs and constants are untouched; no layer
    loses its provenance; work does not grow; numbers stay within the class of the pass; a second run changes nothing.
    Without `nan`, a pass that only rounds is not tried on NaN.
    """
    graph.verify()
    assert_text_is_exact(graph)
    check_conditions(p.requires, graph, p.pass_name(), "requires")
    before, after = graph, graph.clone()
    data = [digest(c.data) for c in graph.constants if c.data is not None]
    fired = run_pass(p, after)
    assert_text_is_exact(after)
    check_conditions(p.ensures, after, p.pass_name(), "ensures")
    assert interface(after) == interface(before), "the inputs or outputs have changed"
    assert [digest(c.data) for c in before.constants if c.data is not None] == data, "a shared constant was changed"
    if all(n.origin for n in before.nodes):
        lost = [repr(n) for n in after.nodes if not n.origin]
        assert not lost, f"layers without provenance: {lost}"
    if not p.adds_work:
        assert work(after) <= work(before), "the work has grown"
    if not fired:
        assert print_graph(after) == print_graph(before), "the pass changed the graph without saying so"
    else:
        assert_equivalent(before, after, p.error_class, rng, nan)
    settled = print_graph(after)
    again = run_pass(p, after)
    assert again == 0 and print_graph(after) == settled, f"a second run fired {again} times"
    return Checked(fired, before, after)


def run_pass(p: Pass, graph: Graph) -> int:
    """Apply a pass in place, verify the graph, and return how often it fired."""
    outcome = PassManager([p]).run(graph, debug=True)
    assert outcome.graph is graph
    return sum(record.fired for record in outcome.ledger.passes)


def work(graph: Graph) -> int:
    """Multiply-accumulates of all layers."""
    return sum(n.macs for n in graph.nodes)


def interface(graph: Graph) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Names and types of inputs and outputs."""
    inputs = [(v.name, str(v.type)) for v in graph.inputs]
    return inputs, [(n, str(v.type)) for v, n in zip(graph.outputs, graph.output_names, strict=True)]


def assert_text_is_exact(graph: Graph) -> None:
    """The graph prints, and parses back to a sound graph that prints the same."""
    text = print_graph(graph)
    parsed = parse_graph(text, constants_of(graph))
    parsed.verify()
    assert print_graph(parsed) == text
    assert interface(parsed) == interface(graph)


def assert_equivalent(before: Graph, after: Graph, error_class: ErrorClass, rng: Generator, nan: bool = True) -> None:
    """The outputs agree on random inputs: special values first, then numbers, as closely as the class promises.

    EXACT: the same elements in the declared types (signs of zeros and payloads of NaN aside), on special inputs too.
    ROUNDING: special values in the same places, also with NaN among the inputs (unless `nan` is false); computed in
    float64, closer than what the rounding of the declared types spreads to.
    """
    inputs = random_inputs(rng, before)
    if error_class is ErrorClass.LOSSY:
        evaluate(after, inputs)
        return
    if error_class is ErrorClass.EXACT:
        for feeds in (inputs, specials(rng, inputs, extreme=True)):
            for name, (a, b) in _outputs(before, after, feeds).items():
                assert compare(name, a, b).max_abs == 0.0, f"{name} is not the same: {a} became {b}"
        return
    for feeds in (inputs, specials(rng, inputs, extreme=False)) if nan else (inputs,):
        for name, (a, b) in _outputs(before, after, feeds).items():
            assert_same_specials(name, a, b, before, feeds, rng)
    assert_close(before, after, inputs, rng)


def specials(rng: Generator, inputs: dict[str, Array], extreme: bool) -> dict[str, Array]:
    """The inputs with NaN and zeros of both signs among their floats; with `extreme`, infinities and the largest and
    smallest numbers too."""
    changed = {}
    for name, array in inputs.items():
        changed[name] = array
        if array.dtype.kind == "f" and array.size:
            limits = np.finfo(array.dtype)
            rare = (np.inf, -np.inf, limits.max, limits.tiny) if extreme else ()
            chosen = rng.choice(np.array([np.nan, 0.0, -0.0, *rare], array.dtype), array.shape)
            changed[name] = np.where(rng.random(array.shape) < 0.3, chosen, array).astype(array.dtype)
    return changed


def _outputs(before: Graph, after: Graph, feeds: dict[str, Array]) -> dict[str, tuple[Array, Array]]:
    a, b = evaluate(before, feeds, each=_contiguous), evaluate(after, feeds, each=_contiguous)
    return {name: (a[name], b[name]) for name in a}


def _contiguous(array: Array) -> Array:
    """In one order of memory, because numpy's sums depend on it."""
    return np.asarray(array, order="C")


def spread(
    graph: Graph, inputs: dict[str, Array], rng: Generator, nudge: float = NUDGE
) -> dict[str, tuple[Array, Array]]:
    """For each output, computed in float64: its elements, and how far they move when every result of every layer is
    disturbed by about `nudge` of itself (infinite where an element jumps to or from a special value)."""

    def disturbed(array: Array) -> Array:
        if array.dtype.kind != "f":
            return np.asarray(array)
        return np.asarray(array * (1 + nudge * rng.choice([-1.0, 1.0], array.shape)))

    with np.errstate(all="ignore"):
        exact = evaluate(graph, inputs, wide=True)
        moved = {name: np.zeros(a.shape) for name, a in exact.items()}
        for _ in range(4):
            feeds = {name: disturbed(a.astype(np.float64) if a.dtype.kind == "f" else a) for name, a in inputs.items()}
            for name, a in evaluate(graph, feeds, wide=True, each=disturbed).items():
                a64, e64 = a.astype(np.float64), exact[name].astype(np.float64)
                step = np.where((a64 == e64) | (np.isnan(a64) & np.isnan(e64)), 0.0, np.abs(a64 - e64))
                moved[name] = np.maximum(moved[name], np.where(np.isnan(step), np.inf, step))
    return {name: (exact[name], moved[name]) for name in exact}


def assert_same_specials(
    name: str, a: Array, b: Array, before: Graph, inputs: dict[str, Array], rng: Generator
) -> None:
    """NaN and infinities sit in the same places, but for elements that small disturbances make or unmake."""
    if a.dtype.kind != "f":
        return
    firm = np.isfinite(spread(before, inputs, rng)[name][1]) | ~np.isfinite(a)
    for kind in (np.isnan, np.isposinf, np.isneginf):
        assert np.array_equal(kind(a) & firm, kind(b) & firm), f"{name} has special values elsewhere: {a} became {b}"


def assert_close(before: Graph, after: Graph, inputs: dict[str, Array], rng: Generator) -> None:
    """In float64, outputs are as near to each other as disturbances of NUDGE (constants are rounded to their types)
    allow; the largest element of the output sets the scale of what counts as small."""
    halves = any(v.type.dtype.bits == 16 for n in before.nodes for v in (*n.inputs, *n.outputs) if v is not None)
    nudge = 1e-3 if halves else NUDGE
    result = evaluate(after, inputs, wide=True)
    for name, (exact, moved) in spread(before, inputs, rng, nudge).items():
        a, b = exact.astype(np.float64), result[name].astype(np.float64)
        assert a.shape == b.shape, f"{name} changed its shape"
        finite = np.isfinite(a) & np.isfinite(b)
        firm = np.isfinite(moved)
        same = (a == b) | (np.isnan(a) & np.isnan(b)) | finite | ~firm
        assert bool(np.all(same)), f"{name} has special values elsewhere: {a} became {b}"
        scale = np.abs(a[np.isfinite(a)]).max(initial=0.0)
        allowed = AMPLIFIED * (moved + nudge * scale * 0.01)
        with np.errstate(all="ignore"):
            off = finite & firm & (np.abs(a - b) > allowed)
        assert not off.any(), f"{name} is off by {np.abs(a - b)[off].max()}: {a[off]} became {b[off]}"

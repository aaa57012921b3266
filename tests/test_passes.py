"""Every pass keeps its promises: each rule on graphs grown from its own pattern, each pass on random graphs."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings

import passes
from compiler.graph import Graph
from compiler.pass_base import PASSES, Pass, RewritePass
from compiler.rewrite import Rule
from passes.decompose import DECOMPOSED
from tests.harness import check
from tests.strategies import graphs, grown, seeds

for module in pkgutil.iter_modules(passes.__path__):
    import_module(f"passes.{module.name}")

# Rules whose pattern says too little for an instance to be grown from it, and where they are tried instead.
HARD_TO_GROW = {
    ("fold-pad", "pool"): "needs a pool whose mode and count_include_pad suit the value: tests/passes/test_fold_pad.py",
    (
        "fuse-pixel-shuffle",
        "shuffle",
    ): "needs two reshapes that undo each other: tests/passes/test_fuse_pixel_shuffle.py",
    ("raise-epsilons", "layer"): "needs an epsilon that halves lack: tests/passes/test_raise_epsilons.py",
    ("raise-epsilons", "root"): "needs an epsilon that halves lack: tests/passes/test_raise_epsilons.py",
    ("scale-probabilities", "rows"): "needs a thousand keys: tests/passes/test_scale_probabilities.py",
    ("scale-probabilities", "columns"): "needs a thousand keys: tests/passes/test_scale_probabilities.py",
    ("substitute-average-pool", "average_pool"): "needs a large window: tests/passes/test_substitute_average_pool.py",
    (
        "substitute-grouped-conv",
        "to_parts",
    ): "needs a concatenation of convolutions: tests/passes/test_substitute_grouped_conv.py",
    ("substitute-embedding", "gather"): "needs a constant table: tests/passes/test_substitute_embedding.py",
    **{
        (f"substitute-{name}", rule): f"needs sizes over a limit: tests of substitute-{name}"
        for name, rule in (
            ("large-dilation", "conv"),
            ("large-kernel", "conv"),
            ("large-matmul", "matmul"),
            ("large-matmul", "dense"),
            ("large-max-pool", "max_pool"),
            ("large-stride", "conv"),
            ("large-transposed-conv", "conv_transpose"),
            ("wide-kernel", "conv"),
        )
    },
    ("substitute-mod", "mod"): "has another sign in ONNX: tests/passes/test_substitute_mod.py",
    ("substitute-matmul", "matmul"): "needs several constant matrices: tests/passes/test_substitute_matmul.py",
    ("substitute-max-pool", "max_pool"): "needs a rectifier in front: tests/passes/test_substitute_max_pool.py",
    ("substitute-where", "where"): "needs a mask in front of a softmax: tests/passes/test_substitute_where.py",
    **{
        ("decompose", cls.name): "needs shapes, types or data that suit it: tests/passes/test_decompose.py"
        for cls in DECOMPOSED
    },
}
# Passes whose layers treat NaN of the inputs otherwise, and why that is meant.
HIDES_NAN = {
    "decompose": "products with constant matrices spread NaN, comparisons drop it: see tests/passes/test_decompose.py",
    "expand-int8": "a convolution with a band spreads NaN, and the inverse root of -0 is +inf, 1 / sqrt(-0) is -inf",
    "substitute-depth-to-space": "a kernel of zeros and ones spreads NaN over channels",
    "substitute-dilated-conv": "zeros in a kernel spread NaN",
    "substitute-cumsum": "zeros in a triangle spread NaN",
    "substitute-embedding": "zeros beside the one spread NaN",
    "substitute-large-stride": "zeros around a kernel spread NaN",
    "substitute-recurrent": "the zeros between two directions that step together spread NaN",
    "substitute-scatter": "zeros in a selection spread NaN",
    "substitute-where": "a sum does not hide NaN",
    "substitute-wide-kernel": "zeros around a kernel spread NaN",
    "fuse-attention": "the guard that turns rows without any key into zeros also hides NaN, the fused layer does not",
}
ENOUGH = 3  # firings that show a rule at work
ATTEMPTS = 800  # graphs that may be grown for them


class Case(NamedTuple):
    """One rule of one pass."""

    owner: RewritePass
    rule: Rule


def all_passes() -> list[Pass]:
    """An instance of each pass of the project, with its default options."""
    return [cls() for cls in PASSES.values() if cls.__module__.startswith("passes.")]


def cases() -> list[Case]:
    """All rules of all passes."""
    return [Case(p, rule) for p in all_passes() if isinstance(p, RewritePass) for rule in p.rules()]


def label(case: Case) -> str:
    return f"{case.owner.pass_name()}-{case.rule.label}"


@pytest.mark.parametrize("case", cases(), ids=label)
def test_each_rule_keeps_its_promises_on_graphs_grown_from_its_pattern(case: Case) -> None:
    fired = tried = 0
    hard = (case.owner.pass_name(), case.rule.label) in HARD_TO_GROW
    for seed in range(10 if hard else ATTEMPTS):
        rng = np.random.default_rng(seed)
        graph = grown(rng, case.rule.find)
        if graph is not None:
            tried += 1
            fired += bool(check(case.owner, graph, rng, case.owner.pass_name() not in HIDES_NAN).fired)
        if tried >= 25 and fired >= ENOUGH:
            break
    assert hard or fired >= ENOUGH, f"of {tried} graphs grown from the pattern the rule fired on {fired}"


def test_rules_that_are_hard_to_grow_exist() -> None:
    assert set(HARD_TO_GROW) <= {(c.owner.pass_name(), c.rule.label) for c in cases()}
    assert set(HIDES_NAN) <= {p.pass_name() for p in all_passes()}


@pytest.mark.parametrize("p", all_passes(), ids=str)
@settings(max_examples=20)
@given(graph=graphs(8), seed=seeds())
def test_each_pass_keeps_its_promises_on_random_graphs(p: Pass, graph: Graph, seed: int) -> None:
    assume(all(condition.holds(graph) for condition in p.requires))
    check(p, graph, np.random.default_rng(seed), p.pass_name() not in HIDES_NAN)

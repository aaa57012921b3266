"""Graphs compiled for Core AI, executed by Apple's runtime, and compared with what their operations mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.evaluate import evaluate
from compiler.graph import Graph
from targets.coreai.artifact import CoreAIArtifact
from targets.coreai.target import CoreAITarget
from tests.targets.coreml_layers import Feeds, difference

pytest.importorskip("coreai")


def compiled(graph: Graph, path: Path, precision: str = "fp32", weights: str | None = None) -> CoreAIArtifact:
    """The asset of a graph. LegalityError if a need is not met."""
    chosen = CoreAITarget(precision=precision, weights=weights)
    path.mkdir(exist_ok=True)
    return chosen.emit(chosen.prepare(graph), path / "m.aimodel")


def fault(graph: Graph, feeds: Feeds, path: Path, precision: str = "fp32", slack: int = 0) -> str | None:
    """How the executed asset is wrong; None if it is right. LegalityError if a need is not met.

    slack  by how much integers may be off, for layers that round numbers which fp16 has rounded before
    """
    artifact = compiled(graph.clone(), path, precision)
    with np.errstate(all="ignore"):
        expected = evaluate(graph, feeds)
    results = artifact.run(feeds)
    for v, name in zip(graph.outputs, graph.output_names, strict=True):
        wrong = difference(results[name], np.asarray(expected[name]), v.type, precision, slack)
        if wrong:
            return f"{v.node!r}: {name} {wrong}"
    return None

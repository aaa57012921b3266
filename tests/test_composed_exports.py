"""Networks as torch's exporters write them: the recognising passes leave one layer, and the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.compare import compare_all, rounding_limit
from compiler.evaluate import evaluate
from compiler.onnx_import import import_model
from passes.fuse_attention import FuseAttention
from passes.fuse_gelu import FuseGelu
from passes.fuse_group_norm import FuseGroupNorm
from passes.fuse_hard_swish import FuseHardSwish
from passes.fuse_l2_normalize import FuseL2Normalize
from passes.fuse_layer_norm import FuseLayerNorm
from passes.fuse_log_softmax import FuseLogSoftmax
from passes.fuse_mish import FuseMish
from passes.fuse_pixel_shuffle import FusePixelShuffle
from passes.fuse_rms_norm import FuseRmsNorm
from passes.fuse_silu import FuseSilu
from tests.passes.composed import Record, inputs_of

FILES = sorted((Path(__file__).parent / "data" / "composed").glob("*.onnx"))
RECOGNISE = (
    FuseHardSwish(),
    FuseGelu(),
    FuseSilu(),
    FuseMish(),
    FuseLogSoftmax(),
    FuseLayerNorm(),
    FuseRmsNorm(),
    FuseGroupNorm(),
    FuseL2Normalize(),
    FuseAttention(),
    FusePixelShuffle(),
)
ONE_LAYER = {
    "gelu_tanh": "gelu",
    "hardswish": "hard_swish",
    "normalize": "lp_normalize",
    "pixel_unshuffle": "space_to_depth",
    "rms_norm_f16": "rms_norm",
}
OTHERS = {
    "attention_bool_dynamo18": {"attention": 1, "where": 1},  # hides with the lowest number, so it stays a term
    "attention_heads_dynamo18": {"add": 1, "attention": 1, "mul": 1, "reshape": 4, "transpose": 4},
    "attention_heads_script17": {"add": 1, "attention": 1, "mul": 1, "reshape": 4, "transpose": 4},
}


def expected(stem: str) -> dict[str, int]:
    """The layers that are left of a file."""
    formula = stem.rpartition("_")[0]
    single = "attention" if formula.startswith("attention") else ONE_LAYER.get(formula, formula)
    return OTHERS.get(stem, {single: 1})


def test_there_are_files() -> None:
    assert len(FILES) == 35


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_one_layer_is_left(path: Path) -> None:
    graph = import_model(path).graph
    inputs = inputs_of(graph, 1.0)
    with np.errstate(invalid="ignore"):
        before = evaluate(graph, inputs)
    for p in RECOGNISE:
        p.run(graph, Record())
    graph.verify()
    assert graph.op_counts == expected(path.stem)
    for comparison, array in zip(compare_all(before, evaluate(graph, inputs)), before.values(), strict=True):
        assert comparison.psnr_db >= rounding_limit(array)

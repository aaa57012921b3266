"""Whole regions moved to (B, C, 1, S), for a chip."""

from __future__ import annotations

from typing import Any

from compiler.pass_base import Step
from passes.bound_masks import BoundMasks
from passes.channels_first import ChannelsFirst
from passes.eliminate_common import EliminateCommon
from passes.merge_reshapes import MergeReshapes
from passes.merge_splits import MergeSplits
from passes.merge_transposes import MergeTransposes
from targets.apple.engine import Chip, Facts, load, older

MEASURED = "H16"  # the family that the published estimates are of
LOWEST = -(2.0**126)  # hides in 32 bits what masks of -1e9 do not, and leaves room for scores


def steps(chip: Chip, half: bool = True) -> tuple[Step, ...]:
    """The passes, with the chip's limits. What hides scores keeps its size unless floats are stored in 16 bits
    (`half`): a query that sees nothing then gives what it gives in the model."""
    rules = load("rules")["layout"]
    written = ChannelsFirst(
        **rates(chip),
        row_bytes=rules["last_axis_alignment"]["bytes"],
        mask_value=rules["mask_value"]["value"] if half else LOWEST,
        query_chunk=rules["attention_query_chunk"]["value"],
        working_set=_roofline("M1")["working_set_bytes"],
    )
    hides = (BoundMasks(largest=-written.mask_value, hidden=written.mask_value),) if half else ()
    return (*hides, written, MergeTransposes(), MergeReshapes(), MergeSplits(), EliminateCommon())


def rates(chip: Chip) -> dict[str, Any]:  # Any: fields of the pass
    """What the chip's engine does in a microsecond, from the published estimates of single layers: those of products go
    with the estimate of the chip's family for a 3x3 convolution. That one is bound by its products, the 1x1 convolution
    of few channels by the bytes that it reads and gives."""
    segmenter = load("costs")["segmenter"]
    estimates = {entry["op"]: entry["ane"] for entry in segmenter["estimate_us"]}
    by_family = segmenter["conv3x3_ane_us_by_family"]
    slower = by_family[older(by_family, chip.family) or MEASURED] / by_family[MEASURED]
    macs = (
        9 * 64 * 64 * 32 * 32 / estimates["conv 3x3 64->64 32x32"] / slower,
        128 * 256 * 512 / estimates["linear 128x256->512"] / slower,
        128 * 256 * 128 / estimates["matmul 128x256x128"] / slower,
    )
    image = 2 * 64 * 32 * 32  # bytes
    given = (
        image / estimates["relu 64x32x32"],
        image / estimates["softmax / layer_norm 64x32x32"],
        image / estimates["transpose HW 64x32x32"],
        2 * image / estimates["concat C 2x64x32x32"],
        _roofline("M1")["weight_stream_gb_per_s"] * 1e3,
        2 * image / estimates["conv 1x1 64->64 32x32"],
    )
    return {"macs": macs, "bytes": given}


def _roofline(name: str) -> Facts:
    found: Facts = next(entry for entry in load("costs")["rooflines"] if entry["chip"] == name)
    return found

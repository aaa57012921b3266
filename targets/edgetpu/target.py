"""The Edge TPU target: the TensorFlow Lite target in 8-bit integers, with the rules of that device."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from compiler.graph import Graph
from compiler.pass_base import Step
from compiler.target import refuse
from passes.choose_layout import ChooseLayout
from passes.pad_channels import PadChannels
from targets.edgetpu.account import on_cpu, outlook
from targets.tflite.artifact import TfLiteArtifact
from targets.tflite.check import check
from targets.tflite.check.rules import device_rules
from targets.tflite.target import TfLiteTarget

# All there is are 8-bit integers.
NOT_HERE = ("precision", "weights", "block_size", "max_drop", "min_psnr", "feature_level")


class EdgeTpuTarget(TfLiteTarget):
    """A .tflite file of 8-bit integers for the Edge TPU compiler. Options are those of `nnapi` for int8. With
    `strict`, a model of which anything would run on the CPU is refused."""

    name = "edgetpu"
    accepts = TfLiteTarget.accepts - {*NOT_HERE}

    def __init__(self, **options: Any) -> None:  # Any: each option of the TensorFlow Lite target has its type there
        super().__init__(precision="int8", **options)

    @property
    def multiple(self) -> int:
        return int(device_rules("edgetpu")["array"]["width"])

    def pipeline(self) -> tuple[Step, ...]:
        """That of TensorFlow Lite, with channels padded before layouts are chosen."""
        steps = super().pipeline()
        place = next(i for i, step in enumerate(steps) if isinstance(step, ChooseLayout))
        return (*steps[:place], _padding(), *steps[place:])

    def emit(self, graph: Graph, path: Path) -> TfLiteArtifact:
        """Write the file, and check it as the compiler of the device would; nothing stays of one that is refused."""
        draft = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            artifact = super().emit(graph, draft)
            report = check(draft, self.name)
            if self.strict:
                refuse(
                    self.name, [text for p in report.placements if (text := on_cpu(p))], "see docs/targets/edgetpu.md"
                )
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        artifact.path = path
        notes, warnings = outlook(report, graph, artifact.parameter_bytes)
        artifact.notes = notes
        artifact.warnings += warnings
        return artifact


def _padding() -> PadChannels:
    """What the rules of the device say about its array."""
    rules = device_rules("edgetpu")
    return PadChannels(
        array=rules["array"]["width"],
        unaligned=rules["array"]["unaligned"],
        macs=rules["peak"]["macs_per_second"],
        bandwidth=rules["memory"]["bytes_per_second"],
    )

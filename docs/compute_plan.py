"""Writes what Core ML plans for a package as JSON, for `compile --explain --compute-plan`. Runs on a Mac.

    python compute_plan.py MODEL.mlpackage PLAN.json [all | cpu-and-ne | cpu-and-gpu | cpu-only]

Needs macOS 14.4 and coremltools 8.1 or later. Core ML compiles the package for its processors to make the plan, which
can take minutes. docs/placement.md says what is in the file.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

UNITS = {"all": "ALL", "cpu-and-ne": "CPU_AND_NE", "cpu-and-gpu": "CPU_AND_GPU", "cpu-only": "CPU_ONLY"}
DEVICES = {"MLNeuralEngineComputeDevice": "ane", "MLGPUComputeDevice": "gpu", "MLCPUComputeDevice": "cpu"}


def device(found: object) -> str:
    """The word for a processor."""
    return DEVICES[type(found).__name__]


def operations(plan: Any, block: Any) -> Iterator[dict[str, Any]]:  # Any: objects of coremltools
    """Every operation of a block and of the blocks inside, with what is planned for it."""
    for op in block.operations:
        for inner in op.blocks:
            yield from operations(plan, inner)
        usage = plan.get_compute_device_usage_for_mlprogram_operation(op)
        cost = plan.get_estimated_cost_for_mlprogram_operation(op)
        yield {
            "operator": op.operator_name,
            "outputs": [output.name for output in op.outputs],
            "preferred": None if usage is None else device(usage.preferred_compute_device),
            "supported": [] if usage is None else [device(d) for d in usage.supported_compute_devices],
            "cost": None if cost is None else cost.weight,
        }


def chip() -> str:
    """What a Mac calls its chip, as "Apple M4"."""
    command = ("sysctl", "-n", "machdep.cpu.brand_string")
    return subprocess.check_output(command, text=True).strip()  # noqa: S603  # the command is fixed


def described(plan: Any, units: str, machine: str = "") -> dict[str, Any]:  # Any: objects of coremltools
    """The content of the file."""
    main = plan.model_structure.program.functions["main"]
    return {
        "format": "compute-plan",
        "version": 1,
        "device": machine,
        "system": f"macOS {platform.mac_ver()[0]}",
        "units": units,
        "operations": list(operations(plan, main.block)),
    }


def main() -> None:
    """Load the plan and write it."""
    parser = argparse.ArgumentParser(description="Writes what Core ML plans for a package as JSON. Runs on a Mac.")
    parser.add_argument("model", metavar="MODEL.mlpackage")
    parser.add_argument("output", metavar="PLAN.json", type=Path)
    parser.add_argument("units", nargs="?", choices=UNITS, default="all")
    given = parser.parse_args()
    import coremltools as ct  # on a Mac alone
    from coremltools.models.compute_plan import MLComputePlan

    compiled = ct.models.utils.compile_model(given.model)
    plan = MLComputePlan.load_from_path(compiled, compute_units=ct.ComputeUnit[UNITS[given.units]])
    given.output.write_text(json.dumps(described(plan, given.units, chip()), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

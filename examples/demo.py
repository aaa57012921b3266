"""Execute a saved Core ML package on labelled images, next to ONNX Runtime on the model that it was compiled from.

Usage: python examples/demo.py PACKAGE.mlpackage MODEL.onnx ROWS.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

from compiler.tensor import Array
from targets.coreml.evaluate import evaluate_package


def main(package: Path, model: Path, rows: Path) -> None:
    """Print how often the package and the model are right, and how often they agree."""
    with np.load(rows) as file:
        labels = file["labels"]
        inputs = {name: file[name] for name in file.files if name != "labels"}
    program = evaluate_package(package)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores: list[Array] = []
    expected: list[Array] = []
    for i in range(len(labels)):
        row = {name: array[i : i + 1] for name, array in inputs.items()}
        (score,) = program.run(row).values()
        (reference,) = session.run(None, row)
        scores.append(score)
        expected.append(reference)
    ours, theirs = np.concatenate(scores).argmax(1), np.concatenate(expected).argmax(1)
    distance = np.abs(np.concatenate(scores) - np.concatenate(expected)).max()

    table = Table(title=f"{len(labels)} labelled rows of {rows.name}", title_justify="left")
    table.add_column("executed by")
    table.add_column("top-1 accuracy", justify="right")
    table.add_row(f"ONNX Runtime, {model.name}", f"{(theirs == labels).mean():.1%}")
    table.add_row("Cincel, the saved package", f"{(ours == labels).mean():.1%}")
    Console().print(table)
    Console().print(
        f"same answer on {(ours == theirs).mean():.1%} of the rows; largest difference of a score {distance:.2g}"
    )


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))

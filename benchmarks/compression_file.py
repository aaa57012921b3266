"""What an ONNX file of one batch consists of: `python -m benchmarks.compression_file FILE.onnx [--dense OUT.onnx]`.

Prints a `results.Counts` as JSON, and writes the dense layers, with what lies between and behind them, to a file.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import onnx
from onnx import shape_inference, utils

from benchmarks.results import Counts
from compiler.api import load
from compiler.graph import Node
from passes._compression import work_of

DENSE = ("dense", "matmul")


def counts(path: Path) -> Counts:
    """Of the layers with weights; multiply-accumulates of the others count too."""
    nodes = list(load(path).nodes)
    dense = [n for n in nodes if n.op.name in DENSE]
    return Counts(_weights(nodes), _weights(dense), work_of(nodes).macs)


def _weights(nodes: list[Node]) -> int:
    """Constants of floats, each once; shapes and indices are none."""
    held = {
        id(v.data): v.data.size
        for n in nodes
        for v in n.inputs
        if v is not None and v.data is not None and v.data.dtype.kind == "f"
    }
    return sum(held.values())


def cut_dense(path: Path, out: Path) -> None:
    """Write what reads the input of the first dense layer, to the outputs. ValueError if there is no dense layer or
    something else is read too."""
    model = shape_inference.infer_shapes(onnx.load(path))
    first = next(_dense_inputs(model.graph), None)
    if first is None:
        raise ValueError(f"{path.name} has no dense layer")
    part = utils.Extractor(model).extract_model([first], [o.name for o in model.graph.output])
    onnx.save(part, out)


def _dense_inputs(graph: onnx.GraphProto) -> Iterator[str]:
    weights = {t.name for t in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Gemm", "MatMul") and node.input[1] in weights and node.input[0] not in weights:
            yield node.input[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--dense", type=Path)
    options = parser.parse_args()
    if options.dense:
        cut_dense(options.path, options.dense)
    print(json.dumps(asdict(counts(options.path))))


if __name__ == "__main__":
    main()

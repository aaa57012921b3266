r"""A table of layers from a phone: `python -m benchmarks.layers_profile model.tflite profile.csv -o table.json`.

`profile.csv` is what TFLite's benchmark_model writes on the device:

  benchmark_model --graph=model.tflite --num_threads=1 --use_xnnpack=false --enable_op_profiling=true \
                  --profiling_output_csv_file=profile.csv

Operators are known by their number in the file, which the profile names behind the last colon; those that a delegate
runs are not, because it numbers and fuses its own.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from compiler.layer_table import NOTHING, Dims, Row, Shape, Table
from targets.tflite.reader import IDENTIFIER
from targets.tflite.schema import schema

# node type, [start,] first, avg_ms, share, sum of shares, memory in KB, times called, name
NUMBER = r"\s*[-+0-9.e]+\s*"
LINE = re.compile(
    rf"(?P<type>.*?)[,\t](?:{NUMBER},)?{NUMBER},(?P<ms>{NUMBER}),{NUMBER}%,{NUMBER}%,{NUMBER},(?P<times>{NUMBER}),(?P<name>.*)"
)
ORDER = "run order"  # the section in which every operator has a line
DTYPES = {0: "fp32", 1: "fp16", 9: "int8", 3: "int8"}  # by number of the schema's types
PLAIN = {
    "ADD": "add", "MUL": "mul", "SUB": "sub", "MAX_POOL_2D": "max_pool", "AVERAGE_POOL_2D": "average_pool",
    "RELU": "relu", "RELU6": "clip", "LOGISTIC": "sigmoid", "SOFTMAX": "softmax", "TANH": "tanh", "RESHAPE": "reshape",
    "TRANSPOSE": "transpose", "CONCATENATION": "concat", "GELU": "gelu", "HARD_SWISH": "hard_swish",
}  # fmt: skip
FUSED = {1: "relu", 3: "clip"}  # by number of the schema's activations


class Timed(NamedTuple):
    """An operator of a file by its number, and the seconds of one run."""

    operator: int
    seconds: float


def profile_of(text: str) -> list[Timed]:
    """The operators of a profile. ValueError if it has none that are known by their number."""
    found: dict[int, float] = {}
    delegated = 0
    wanted = ORDER not in text.lower()
    for line in text.splitlines():
        if line.startswith("="):
            wanted = ORDER in line.lower()
        m = LINE.fullmatch(line.strip()) if wanted else None
        number = m["name"].rpartition(":")[2].strip() if m is not None else ""
        if m is None or not number.isdecimal():
            continue
        if m["name"].strip().startswith("Delegate/"):
            delegated += 1
        else:
            found.setdefault(int(number), float(m["ms"]) / 1e3)
    if not found:
        why = f"its {delegated} operators were run by a delegate: give --use_xnnpack=false" if delegated else "no lines"
        raise ValueError(f"the profile names no operator of the file: {why}")
    return [Timed(*item) for item in found.items()]


def rows_of(model: bytes, timed: Sequence[Timed]) -> Iterator[Row]:
    """A row for each operator of the first subgraph whose layer has a name in a table."""
    opened = schema().Model.GetRootAs(bytearray(model), 0)
    names = {number: name for name, number in vars(schema().BuiltinOperator).items() if isinstance(number, int)}
    graph = opened.Subgraphs(0)
    for operator, seconds in timed:
        if operator >= graph.OperatorsLength():
            continue
        op = graph.Operators(operator)
        code = opened.OperatorCodes(op.OpcodeIndex())
        name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = [graph.Tensors(op.Inputs(i)) for i in range(op.InputsLength()) if op.Inputs(i) >= 0]
        outputs = [graph.Tensors(op.Outputs(i)) for i in range(op.OutputsLength())]
        dtype = DTYPES.get(outputs[0].Type())
        if dtype is None or not inputs:
            continue
        shape = _shape(name, dtype, op, [_dims(t) for t in inputs], [_dims(t) for t in outputs])
        if shape is not None and seconds > 0:
            yield Row(shape, seconds)
        fused = _fused(name, op)
        if fused is not None:
            results = (_first(_dims(outputs[0])),)
            yield Row(Shape(fused, dtype, results, results), NOTHING)


def _shape(name: str, dtype: str, op: Any, inputs: list[Dims], outputs: list[Dims]) -> Shape | None:
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        options = _options(name, op)
        out, kh, kw, each = inputs[1]
        weight, groups = ((each, 1, kh, kw), each) if name[0] == "D" else ((out, each, kh, kw), 1)
        strides, dilations = (
            () if set(s) == {1} else s
            for s in (
                (options.StrideH(), options.StrideW()),
                (options.DilationHFactor(), options.DilationWFactor()),
            )
        )
        groups = inputs[0][3] // each if name[0] == "C" else groups
        return Shape("conv", dtype, (_first(inputs[0]), weight), (_first(outputs[0]),), strides, dilations, groups)
    if name == "FULLY_CONNECTED":
        return Shape("dense", dtype, (inputs[0], inputs[1]), (outputs[0],))
    if name in PLAIN:
        kept = inputs[:1] if name in ("RESHAPE", "TRANSPOSE") else inputs
        return Shape(PLAIN[name], dtype, tuple(map(_first, kept)), tuple(map(_first, outputs)))
    return None


def _options(name: str, op: Any) -> Any:
    kind = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions"}.get(
        name, "FullyConnectedOptions"
    )
    options = getattr(schema(), kind)()
    table = op.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options


def _fused(name: str, op: Any) -> str | None:
    if name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return None
    return FUSED.get(_options(name, op).FusedActivationFunction())


def _dims(tensor: Any) -> Dims:
    return tuple(tensor.Shape(i) for i in range(tensor.ShapeLength()))


def _first(dims: Dims) -> Dims:
    """Channels first, as tables have images."""
    return (dims[0], dims[3], dims[1], dims[2]) if len(dims) == 4 else dims


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL.tflite")
    parser.add_argument("profile", type=Path, metavar="PROFILE.csv")
    parser.add_argument("-o", "--output", type=Path, default=Path("table.json"))
    parser.add_argument("--device", default="the profiled device")
    options: Any = parser.parse_args(argv)
    try:
        timed = profile_of(options.profile.read_text())
        model = options.model.read_bytes()
        if model[4:8] != IDENTIFIER:
            raise ValueError(f"{options.model} is no TFLite file")
    except (OSError, ValueError) as e:
        parser.error(str(e))
    rows = {row.shape: row for row in rows_of(model, timed)}
    options.output.write_text(Table(options.device, rows.values()).text())
    print(f"{len(rows)} layers in {options.output}, of {len(timed)} operators in the profile")


if __name__ == "__main__":
    main()

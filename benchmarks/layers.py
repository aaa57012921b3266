"""How long single layers take on this machine: `python -m benchmarks.layers model.onnx -o table.json`.

Measures the layers of a model, and those that low-rank splits and pruned channels would make of them, each alone, in
ONNX Runtime or LiteRT, one thread; the table is for `compile --latency table.json=5ms` (docs/latency.md). Layers take
turns, in an order that changes each round, and the median over the rounds counts.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tflite_file import invoker
from compiler.api import PassManager, compile_model, load
from compiler.errors import CompileError
from compiler.graph import Graph, Node, Value
from compiler.layer_table import DTYPES, NOTHING, Row, Shape, Table, shape_of
from compiler.onnx_export import export_bytes
from compiler.ops.activation import Sigmoid
from compiler.ops.conv import Conv
from compiler.pass_base import PIPELINES
from compiler.tensor import F32, Array, TensorType
from passes._compression import layer_names, macs_of
from passes._low_rank import LEAST
from passes._low_rank_forms import Form, forms_of
from passes._low_rank_layers import Layer, is_linear, layer_of, refusal
from passes._low_rank_split import work_after
from passes._prune_technique import PrunedChannels

TARGETS = {"onnxruntime": "onnx", "litert": "nnapi"}
FORMS = ("matrix", "tucker", "spatial")
ABSORBED = ("relu", "clip")
LEAST_S = 0.004  # a layer runs at least this long each time that it is its turn
ROUNDS = 7
CHAIN = 33  # of layers of one number each, for what a layer costs that computes nothing
TOGETHER = 64  # layers that are loaded at a time
MOVED = ("ReorderInput", "ReorderOutput", "QuantizeLinear", "DequantizeLinear")  # at the borders of a layer alone

Layers = dict[Shape, Node]
Turn = Callable[[int], None]  # runs a layer so many times


def layers_of(graph: Graph, dtype: str, candidates: bool = True) -> Layers:
    """The layers of a graph, and with `candidates` those that could take their place, one of each shape."""
    found: Layers = {}

    def record(node: Node) -> float:
        if any(v is not None and not v.is_const for v in node.inputs) and all(v.type.is_static for v in node.outputs):
            found.setdefault(shape_of(node, dtype), node)
        return float(node.macs)

    for node in graph.nodes:
        record(node)
    if candidates:
        for layer, form in splittable(graph):
            most = min(layer.matrix.shape)
            for rank in ranks(most):
                both = (rank,) * (1 + (form.name == "tucker"))
                if work_after(layer, form, both, macs_of, True).macs <= layer.node.macs:
                    work_after(layer, form, both, record, True)
        for _ in PrunedChannels(cost=record).candidates(graph, None):
            pass  # to make one, it asks for the cost of its layers
    return found


def splittable(graph: Graph) -> Iterator[tuple[Layer, Form]]:
    """Linear layers, and the forms in which they can be split."""
    for name, node in layer_names(graph).items():
        if is_linear(node) and refusal(node, LEAST) is None:
            layer = layer_of(name, node)
            yield from ((layer, form) for form in forms_of(layer) if form.name in FORMS)


def ranks(most: int) -> list[int]:
    """From 4 on, four in each octave, but for the small ones that are no multiples of 4."""
    steps = (round(4 * 2 ** (i / 4)) for i in range(64))
    return list(dict.fromkeys(min(r // 4 * 4, most) for r in steps if r < 2 * most)) or [1]


def is_absorbed(node: Node) -> bool:
    """Whether the runtimes compute a layer within the convolution before it."""
    data = node.inputs[0] if node.inputs else None
    if data is None or data.node is None or node.op.name not in ABSORBED:
        return False
    return isinstance(data.node.op, Conv) and len(data.users) == 1 and not data.n_out


def alone(node: Node) -> Graph:
    """A graph of this layer and no other, with random floats for its constants and its own integers."""
    graph = Graph("layer")
    rng = np.random.default_rng(0)
    operands: list[Value | None] = []
    for i, v in enumerate(node.inputs):
        if v is None:
            operands.append(None)
        elif v.data is None:
            operands.append(graph.add_input(v.type, f"x{i}"))
        elif v.type.dtype.is_float:
            scale = 1.0 / max(v.type.size, 1) ** 0.5
            operands.append(graph.const((scale * rng.random(v.type.dims)).astype(v.type.dtype.numpy)))
        else:
            operands.append(graph.const(v.data))
    results = graph.add(node.op, *operands)
    graph.set_outputs(results, [f"y{i}" for i in range(len(results))])
    return graph


def chain(count: int) -> Graph:
    """So many layers of one number."""
    graph = Graph("chain")
    value = graph.add_input(TensorType(F32, (1, 1)), "x0")
    for _ in range(count):
        (value,) = graph.add(Sigmoid(), value)
    graph.set_outputs([value], ["y0"])
    return graph


class OnnxRuntime:
    """A layer in ONNX Runtime with all of its optimizations, one thread. `kernels` takes the time within the layer's
    own kernels, without what moves numbers in and out of the layout in which the whole model would be; they are noted
    in a folder, where one is given."""

    def __init__(self, model: bytes, folder: Path | None = None) -> None:
        import onnxruntime as ort  # heavy

        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_profiling = folder is not None
        if folder is not None:
            options.profile_file_prefix = str(folder / f"{id(self)}")  # the rest of the name is the second
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(1)
        self._feeds = {i.name: _random(rng, i.shape, i.type) for i in self._session.get_inputs()}

    def run(self, times: int) -> None:
        for _ in range(times):
            self._session.run(None, self._feeds)

    def kernels(self) -> list[float]:
        """Seconds of each run so far; it cannot run again."""
        path = Path(self._session.end_profiling())
        events = json.loads(path.read_text())
        path.unlink()
        runs: list[float] = []
        for event in sorted((e for e in events if e.get("cat") in ("Node", "Session")), key=lambda e: e["ts"]):
            if event["name"] == "model_run":
                runs.append(0.0)
            elif event["name"].endswith("_kernel_time") and event["args"]["op_name"] not in MOVED:
                runs[-1] += event["dur"] * 1e-6
        return runs


def _random(rng: np.random.Generator, shape: Sequence[int], type_: str) -> Array:
    if "float" in type_:
        return rng.random(shape, np.float32).astype(np.float16 if "16" in type_ else np.float32)
    return np.zeros(shape, {"tensor(bool)": bool}.get(type_, np.dtype(type_[7:-1])))


def model_of(graph: Graph, dtype: str) -> bytes:
    """As ONNX, quantized if the numbers are to be."""
    plain = export_bytes(graph)
    if dtype != "int8":
        return plain
    with tempfile.TemporaryDirectory(prefix="cincel-") as folder:
        path = Path(folder) / "layer.onnx"
        compile_model(plain, "onnx", path, precision=dtype, verify="off", calibrate="synthetic")
        return path.read_bytes()


def in_onnxruntime(graphs: Sequence[Graph], dtype: str, rounds: int) -> list[float]:
    """Seconds of the kernels of each graph."""
    with tempfile.TemporaryDirectory(prefix="cincel-") as folder:
        loaded = [OnnxRuntime(model_of(graph, dtype), Path(folder)) for graph in graphs]
        counts = alternate([each.run for each in loaded], rounds)
        found = []
        for each, (first, batches) in zip(loaded, counts, strict=True):
            runs, at = each.kernels(), first
            means = []
            for n in batches:
                means.append(middle(runs[at : at + n]))
                at += n
            found.append(statistics.median(means))
        return found


def middle(runs: Sequence[float]) -> float:
    """The mean of those between the quartiles: times are in whole microseconds, and some were interrupted."""
    ordered = sorted(runs)
    cut = len(ordered) // 4
    return statistics.fmean(ordered[cut : len(ordered) - cut])


def alternate(turns: Sequence[Turn], rounds: int) -> list[tuple[int, list[int]]]:
    """Run layers in turn; of each, how often it ran to warm up, and how often in every round."""
    counts: list[tuple[int, list[int]]] = []
    for turn in turns:
        turn(2)
        start = time.perf_counter()
        turn(3)
        taken = (time.perf_counter() - start) / 3
        counts.append((5, [max(3, min(500, round(LEAST_S / max(taken, 1e-7))))] * rounds))
    for i in range(rounds):
        for k in range(len(turns)) if i % 2 else reversed(range(len(turns))):
            turns[k](counts[k][1][i])
    return counts


def walls(turns: Sequence[Turn], rounds: int) -> list[float]:
    """Seconds of a run of each, medians over rounds in which they take turns."""
    taken: list[list[float]] = [[] for _ in turns]
    repeats = []
    for turn in turns:
        turn(2)
        start = time.perf_counter()
        turn(3)
        repeats.append(max(3, min(2000, round(3 * LEAST_S / max(time.perf_counter() - start, 1e-7)))))
    for i in range(rounds):
        for k in range(len(turns)) if i % 2 else reversed(range(len(turns))):
            start = time.perf_counter()
            turns[k](repeats[k])
            taken[k].append((time.perf_counter() - start) / repeats[k])
    return [statistics.median(t) for t in taken]


def overheads(runtime: str, rounds: int) -> tuple[float, float]:
    """Seconds of a call, and of a layer beside what it computes."""
    with tempfile.TemporaryDirectory(prefix="cincel-") as folder:
        if runtime == "onnxruntime":
            turns: list[Turn] = [OnnxRuntime(export_bytes(chain(n))).run for n in (1, CHAIN)]
        else:
            turns = [_lite(chain(n), "fp32", Path(folder) / f"{n}.tflite") for n in (1, CHAIN)]
        one, many = walls(turns, rounds)
    each = max((many - one) / (CHAIN - 1), 0.0)
    return max(one - each, 0.0), each


def _lite(graph: Graph, dtype: str, path: Path) -> Turn:
    data = "synthetic" if dtype == "int8" else None
    compile_model(export_bytes(graph), "nnapi", path, precision=dtype, verify="off", calibrate=data)
    invoke = invoker(str(path))

    def run(times: int) -> None:
        for _ in range(times):
            invoke()

    return run


def in_litert(graphs: Sequence[Graph], dtype: str, rounds: int) -> list[float]:
    """Seconds of a call with each graph."""
    with tempfile.TemporaryDirectory(prefix="cincel-") as folder:
        return walls([_lite(g, dtype, Path(folder) / f"{i}.tflite") for i, g in enumerate(graphs)], rounds)


def measured(
    layers: Mapping[Shape, Node], runtime: str, dtype: str, rounds: int, overhead: tuple[float, float]
) -> Iterator[Row]:
    """A row for each layer that the runtime takes alone."""
    call, each = overhead
    yield from (Row(shape, NOTHING) for shape, node in layers.items() if is_absorbed(node))
    items = [(shape, node) for shape, node in layers.items() if not is_absorbed(node)]
    for start in range(0, len(items), TOGETHER):
        part = items[start : start + TOGETHER]
        graphs = [alone(node) for _, node in part]
        if runtime == "onnxruntime":
            seconds = [s + each for s in in_onnxruntime(graphs, dtype, rounds)]
        else:
            seconds = [s - call for s in in_litert(graphs, dtype, rounds)]
        yield from (Row(shape, max(s, 1e-8)) for (shape, _), s in zip(part, seconds, strict=True))


def usable(layers: Layers, runtime: str, dtype: str) -> Iterator[tuple[Shape, Node]]:
    """Those that the runtime takes alone."""
    for shape, node in layers.items():
        try:
            if runtime == "litert":
                with tempfile.TemporaryDirectory(prefix="cincel-") as folder:
                    _lite(alone(node), dtype, Path(folder) / "layer.tflite")
            else:
                export_bytes(alone(node))
        except CompileError as e:
            print(f"left out: {node!r:.100}: {e}")
        else:
            yield shape, node


def table_of(graph: Graph, runtime: str, dtype: str, *, candidates: bool = True, rounds: int = ROUNDS) -> Table:
    """The table of a model on this machine."""
    layers = dict(usable(layers_of(graph, dtype, candidates), runtime, dtype))
    found = overheads(runtime, rounds)
    return Table(_device(runtime), measured(layers, runtime, dtype, rounds, found), found[0])


def _device(runtime: str) -> str:
    from importlib.metadata import version

    name = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert"}[runtime]
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "this machine")
    return f"{name} {version(name)}, one thread, {cpu}"


def imported(path: str, shapes: Iterable[str]) -> Graph:
    """A model as compression sees it."""
    from compiler.arguments import parse_shapes

    graph = load(path, inputs=parse_shapes(list(shapes)))
    return PassManager(PIPELINES["default"]).run(graph)[0]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument("-o", "--output", type=Path, default=Path("table.json"))
    parser.add_argument("--runtime", choices=tuple(TARGETS), default="onnxruntime")
    parser.add_argument("--precision", choices=tuple(DTYPES), default="fp32")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=SHAPE", help="of a dynamic input")
    parser.add_argument(
        "--candidates", action=argparse.BooleanOptionalAction, default=True, help="what may take their place"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options: Any = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error("--rounds is a number from 1 on")
    if not options.output.parent.is_dir():
        parser.error(f"the folder of {options.output} does not exist")
    try:
        graph = imported(options.model, options.input)
    except CompileError as e:
        parser.error(str(e))
    table = table_of(graph, options.runtime, options.precision, candidates=options.candidates, rounds=options.rounds)
    options.output.write_text(table.text())
    whole = sum(table.seconds(shape_of(n, options.precision))[0] for n in graph.nodes) + table.call
    print(
        f"{len(table.rows)} layers in {options.output}; the model: {whole * 1e3:.4g} ms by their sum, the call included"
    )


if __name__ == "__main__":
    main()

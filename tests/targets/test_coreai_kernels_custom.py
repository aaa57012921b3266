"""Layers that Core AI lacks as Metal kernels in its asset: read back from there, executed, and compared with what the
asset says that they compute."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.metal.handles import plain
from compiler import ops
from compiler.errors import EmitError, LegalityError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.op import Op
from compiler.options import build_parser
from compiler.tensor import BOOL, F32, F64, I32, I64, Array, TensorType
from compiler.text import constants_of
from compiler.text_parse import parse_graph
from targets.coreai.artifact import CoreAIArtifact
from targets.coreai.target import CoreAITarget
from tests.targets.coreml_layers import difference

pytest.importorskip("coreai")

from targets.coreai import custom
from targets.coreai.kernel_ops import KernelOp, kernels_in
from targets.coreai.lower.table import _Table

RNG = np.random.default_rng(7)
Made = Callable[[Graph, Value], Sequence[Value]]


def layer(op: Op, *operands: TensorType | Array) -> Graph:
    """A graph of one layer; arrays are constants."""
    graph = Graph("g")
    given = [
        graph.add_input(t, f"x{i}") if isinstance(t, TensorType) else graph.const(t, f"c{i}")
        for i, t in enumerate(operands)
    ]
    results = graph.add(op, *given, origin=frozenset(("node",)))
    graph.set_outputs(results, [f"y{i}" for i in range(len(results))])
    return graph


def t(dtype: Any, *shape: int) -> TensorType:  # Any: an element type
    return TensorType(dtype, shape)


LARGE_WINDOW = ops.MaxPool(kernel=(1, 90), strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), indices=True)
FOUR_AXES = ops.Conv(strides=(1,) * 4, pads=(0,) * 8, dilations=(1,) * 4, groups=1)
REFUSED = {
    "bitcast": lambda: layer(ops.BitCast(to="i32"), t(F32, 70)),
    "cast": lambda: layer(ops.Cast(to="u32"), t(F32, 3, 5)),
    "scalar": lambda: layer(ops.Cast(to="u32"), t(F32)),
    "scatter_elements": lambda: layer(
        ops.ScatterElements(axis=0, reduction="max"), t(BOOL, 4, 3), t(I64, 2, 3), t(BOOL, 2, 3)
    ),
    "scatter_nd": lambda: layer(ops.ScatterND(reduction="min"), t(BOOL, 40, 30), t(I64, 2, 1), t(BOOL, 2, 30)),
    "max_pool": lambda: layer(LARGE_WINDOW, t(F32, 1, 2, 2, 130)),
    "conv": lambda: layer(
        FOUR_AXES, t(F32, 1, 2, 4, 3, 4, 4), RNG.standard_normal((3, 2, 2, 2, 2, 2)).astype(np.float32)
    ),
    "resize": lambda: layer(
        ops.Resize(sizes=(1, 1, 6, 6), scales=(1.0, 1.0, 2.0, 2.0), mode="linear"), t(I32, 1, 1, 3, 3)
    ),
}


OPERATIONS = {"scalar": "cast"}


def feeds_of(graph: Graph) -> dict[str, Array]:
    """Numbers for the inputs: floats of either sign, integers that are also indices, booleans."""
    made = {}
    for v in graph.inputs:
        d, shape = v.type.dtype, v.type.dims
        numbers = RNG.standard_normal(shape) * 3 if d.is_float else RNG.integers(0, 2, shape)
        made[v.name] = numbers.astype(d.numpy)
    return made


def compiled(
    graph: Graph, folder: Path, precision: str = "fp32", **options: Any
) -> CoreAIArtifact:  # Any: of several types
    folder.mkdir(exist_ok=True)
    target = CoreAITarget(precision=precision, custom_kernels=True, **options)
    return target.emit(target.prepare(graph.clone()), folder / "m.aimodel")


def records(path: Path) -> list[dict[str, Any]]:
    """What an asset says of its kernels."""
    facts = json.loads((path / "metadata.json").read_text())
    found: list[dict[str, Any]] = facts["creatorDefinedMetadata"]["cincel.kernels"]
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_without_the_option_which_the_hint_names(name: str) -> None:
    with pytest.raises(LegalityError, match=f"= {OPERATIONS.get(name, name)}") as caught:
        CoreAITarget(precision="fp32").prepare(REFUSED[name]())
    assert "--custom-kernels writes 1 of 1 as Metal kernels" in (caught.value.hint or "")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", REFUSED)
def test_kernels_of_the_asset_compute_what_it_records(name: str, precision: str, tmp_path: Path) -> None:
    if (name, precision) == ("bitcast", "fp16"):
        pytest.skip("halves do not hold the bits")
    graph = REFUSED[name]()
    artifact = compiled(graph, tmp_path, precision)
    (record,) = records(artifact.path)
    assert record["operation"] == OPERATIONS.get(name, name) and record["origin"] == ["node"]
    feeds = feeds_of(graph)
    reference = evaluate(_reference(record, graph), {f"in{i}": a for i, a in enumerate(feeds.values())})
    results = artifact.run(feeds)
    assert len(results) == len(reference) == len(record["outputs"])
    for v, result, expected in zip(graph.outputs, results.values(), reference.values(), strict=True):
        assert difference(result, expected, v.type, precision, 0) is None
        assert result.dtype == v.type.dtype.numpy


def _reference(record: dict[str, Any], graph: Graph) -> Graph:
    """The graph that an asset records for a layer; large constants are those of the model."""
    return parse_graph(record["reference"], constants_of(graph))


def test_the_asset_holds_one_text_with_tensors_of_one_axis(tmp_path: Path) -> None:
    artifact = compiled(REFUSED["max_pool"](), tmp_path)
    kernels = kernels_in(artifact.path)
    (record,) = records(artifact.path)
    assert [*kernels] == list(artifact.kernels) == [k["name"] for k in record["kernels"]]
    assert len({k.source for k in kernels.values()}) == 1
    for kernel, told in zip(kernels.values(), record["kernels"], strict=True):
        signature = _signature(kernel)
        assert re.findall(r"tensor_handle> (\w+) \[\[buffer\((\d+)\)\]\]", signature) == [
            (name, str(i)) for i, name in enumerate([*told["reads"], *told["writes"]])
        ]
        assert all(
            re.match(r"tensor<\d+x(f32|si32|ui32|ui8), .*MTLBuffer", t) for t in kernel.operands + kernel.results
        )
        assert all(total % threads == 0 for total, threads in zip(kernel.grid, kernel.group, strict=True))
        assert len(kernel.operands) == len(told["reads"]) and len(kernel.results) == len(told["writes"])


def _signature(kernel: KernelOp) -> str:
    (found,) = re.findall(rf"^kernel void {kernel.name}\((.*?)\)\n\{{", kernel.source, re.MULTILINE | re.DOTALL)
    return str(found)


def test_kernels_stand_between_layers_of_core_ai(tmp_path: Path) -> None:
    graph = Graph("g")
    x = graph.add_input(t(F32, 1, 2, 2, 130), "x")
    (a,) = graph.add(ops.Relu(), x)
    y, i = graph.add(LARGE_WINDOW, a, origin=frozenset(("pool",)))
    (b,) = graph.add(ops.Add(), y, y)
    (c,) = graph.add(ops.Cast(to="u32"), b, origin=frozenset(("cast",)))
    (d,) = graph.add(ops.Mul(), i, i)
    graph.set_outputs([b, c, d, a], ["b", "c", "d", "a"])
    artifact = compiled(graph, tmp_path)
    assert [r["operation"] for r in records(artifact.path)] == ["max_pool", "cast"]
    assert len(artifact.notes) == 1
    assert "Metal kernels, for Apple's systems alone: 2 (cast, max_pool)" in artifact.notes[0]
    assert "by Apple's runtime, in assets of their own (2)" in artifact.notes[0]
    feeds = {"x": RNG.standard_normal((1, 2, 2, 130)).astype(np.float32)}
    results, expected = artifact.run(feeds), evaluate(graph, feeds)
    assert {n: a.dtype for n, a in results.items()} == {n: np.asarray(a).dtype for n, a in expected.items()}
    assert results["c"].dtype == np.uint32
    for name, array in expected.items():
        np.testing.assert_allclose(results[name], array, rtol=1e-6)


def test_a_split_model_runs_its_kernels_too(tmp_path: Path) -> None:
    graph = Graph("g")
    v = graph.add_input(t(F32, 4, 64), "x")
    for k in range(3):
        (v,) = graph.add(ops.MatMul(), v, graph.const(RNG.standard_normal((64, 64)).astype(np.float32), f"w{k}"))
        if k == 1:
            (i,) = graph.add(ops.BitCast(to="i32"), v, origin=frozenset(("bits",)))
            (v,) = graph.add(ops.BitCast(to="f32"), i, origin=frozenset(("floats",)))
    graph.set_outputs([v], ["y"])
    artifact = compiled(graph, tmp_path, split="20KB")
    assert artifact.path.is_dir() and len(list(artifact.path.glob("*.aimodel"))) > 1
    assert any("bitcast" in note for note in artifact.notes)
    feeds = {"x": RNG.standard_normal((4, 64)).astype(np.float32)}
    np.testing.assert_allclose(artifact.run(feeds)["y"], evaluate(graph, feeds)["y"], rtol=1e-4, atol=1e-3)


NETWORK: Sequence[Made] = (
    lambda g, x: g.add(ops.MatMul(), x, g.const(RNG.standard_normal((40, 24)).astype(np.float32), "w")),
    lambda g, x: g.add(ops.Softmax(axis=1), x),
    lambda g, x: g.add(ops.Transpose(perm=(1, 0)), x),
    lambda g, x: g.add(ops.ReduceSum(axes=(0,)), x),
)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """All layers are kernels that can be."""
    lacks = _Table.objection
    monkeypatch.setattr(
        _Table,
        "objection",
        lambda self, node: lacks(self, node) or (None if custom.objection(node, "fp16") else "it is to be a kernel"),
    )


@pytest.mark.usefixtures("forced")
def test_kernels_with_memory_of_threadgroups(tmp_path: Path) -> None:
    """Products, softmax and transposes, in halves: what Core AI has itself, as kernels all the same."""
    graph = Graph("g")
    v = graph.add_input(t(F32, 48, 40), "x")
    for made in NETWORK:
        (v,) = made(graph, v)
    graph.set_outputs([v], ["y"])
    artifact = compiled(graph, tmp_path, "fp16")
    kernels = kernels_in(artifact.path)
    assert [r["operation"] for r in records(artifact.path)] == ["matmul", "softmax", "transpose", "reduce_sum"]
    texts = {k.source for k in kernels.values()}
    assert any(re.search(r"^    threadgroup half \w+\[\d+\];$", text, re.MULTILINE) for text in texts)
    assert not any("[[threadgroup(" in text for text in texts)
    feeds = {"x": RNG.standard_normal((48, 40)).astype(np.float32)}
    np.testing.assert_allclose(artifact.run(feeds)["y"], evaluate(graph, feeds)["y"], rtol=2e-2, atol=2e-3)


def test_steps_that_write_one_tensor_are_one_kernel(tmp_path: Path) -> None:
    artifact = compiled(REFUSED["scatter_nd"](), tmp_path)
    *_, last = kernels_in(artifact.path).values()
    assert last.grid == last.group
    body = last.source.partition(f"kernel void {last.name}(")[2]
    calls = re.findall(r"^ +(copy_bytes|scatter_positions|threadgroup_barrier)(?=\w*\()", body, re.MULTILINE)
    assert calls == ["copy_bytes", "threadgroup_barrier", "scatter_positions", "threadgroup_barrier"]


def test_a_large_scatter_is_refused() -> None:
    graph = layer(ops.ScatterND(reduction="max"), t(BOOL, 2000, 1000), t(I64, 2, 1), t(BOOL, 2, 1000))
    with pytest.raises(
        LegalityError, match="as Metal kernels it needs kernels that write no tensor twice, or small ones"
    ):
        CoreAITarget(custom_kernels=True).prepare(graph)


@pytest.mark.parametrize(
    ("graph", "precision", "reason"),
    [
        (layer(ops.NonZero(dim="n"), t(F32, 4)), "fp32", "it needs tensors of known size"),
        (layer(ops.BitCast(to="i32"), t(F32, 4)), "fp16", "with all their bits"),
        (layer(ops.BitCast(to="i64"), t(F64, 4)), "fp32", "with all their bits"),
        (layer(ops.Cast(to="u64"), t(F32, 4)), "fp32", "it needs results other than u64"),
        (layer(ops.Det(), t(F32, 6, 6)), "fp32", "it needs known sizes and a form that decomposes"),
    ],
    ids=["nonzero", "halves", "doubles", "u64", "det"],
)
def test_what_cannot_be_a_kernel_is_refused_with_both_reasons(graph: Graph, precision: str, reason: str) -> None:
    target = CoreAITarget(precision=precision, custom_kernels=True)
    with pytest.raises(LegalityError, match=f"-- needs .*; as Metal kernels .*{reason}"):
        target.prepare(graph.clone())
    with pytest.raises(LegalityError) as caught:
        CoreAITarget(precision=precision).prepare(graph)
    assert "--custom-kernels" not in (caught.value.hint or "")


def test_what_core_ai_has_stays_its_own(tmp_path: Path) -> None:
    artifact = compiled(layer(ops.Add(), t(F32, 4), t(F32, 4)), tmp_path)
    assert artifact.kernels == [] and artifact.staged is None
    assert "creatorDefinedMetadata" not in (artifact.path / "metadata.json").read_text()


def test_an_asset_with_other_kernels_is_not_run(tmp_path: Path) -> None:
    """What runs is what is on disk."""
    artifact = compiled(REFUSED["cast"](), tmp_path)
    other = compiled(REFUSED["conv"](), tmp_path / "other")
    artifact.path = other.path
    with pytest.raises(EmitError, match=r"does not hold the kernels of .* = cast"):
        artifact.run(feeds_of(REFUSED["cast"]()))


def test_the_text_without_tensors_has_pointers_of_the_smallest_elements() -> None:
    node = next(iter(REFUSED["bitcast"]().nodes))
    made = custom.Carried(node, "fp32")
    assert "tensor<device float, dextents<int, 1>, tensor_handle> t0 [[buffer(0)]]" in made.source.text
    text = plain(made.source.text)
    assert "device uchar *t0 [[buffer(0)]]" in text and "device uchar *t1 [[buffer(1)]]" in text
    assert "tensor" not in text.split("using namespace metal;")[1]


def test_equal_layers_have_equal_texts_and_others_do_not() -> None:
    def names(op: Op, size: int) -> tuple[str, ...]:
        return tuple(custom.Carried(next(iter(layer(op, t(F32, size)).nodes)), "fp32").source.names)

    assert names(ops.Cast(to="u32"), 6) == names(ops.Cast(to="u32"), 6)
    assert names(ops.Cast(to="u32"), 6) != names(ops.Cast(to="u32"), 7)


def test_the_command_line_takes_the_option() -> None:
    assert build_parser().parse_args(["m.onnx", "--custom-kernels"]).custom_kernels is True
    assert build_parser().parse_args(["m.onnx"]).custom_kernels is None
    assert "custom_kernels" in CoreAITarget.accepts

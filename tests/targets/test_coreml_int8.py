"""Activations in 8 bits: where packages round, with which numbers, and that nothing else is rounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.api import Compiled, compile_model
from compiler.compare import compare
from compiler.errors import UsageError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.ops.activation import Relu, Sigmoid
from compiler.ops.elementwise import Mul
from compiler.ops.pool import MaxPool
from compiler.ops.shape import Reshape
from compiler.ops.softmax import Softmax
from compiler.quantize import asymmetric, represented
from compiler.rewrite import Unobserved
from compiler.simulate import simulated
from compiler.tensor import U8, Array, QuantParams
from passes.annotate_int8 import AnnotateInt8
from targets.coreml.artifact import CoreMLArtifact
from targets.coreml.evaluate import evaluate_package
from targets.coreml.int8 import is_rounded, rules, scheme, settle
from targets.coreml.target import CoreMLTarget
from tests.passes.composed import Net, Term, inputs_of
from tests.passes.test_annotate_int8 import seen
from tests.passes.weighted import conv, dense
from tests.real_models import real_model
from tests.targets.coreml_harness import reload
from tests.targets.coreml_layers import kinds


def emitted(graph: Graph, path: Path, ios: str = "iOS17") -> CoreMLArtifact:
    """The package of an annotated graph."""
    target = CoreMLTarget("int8", ios, calibrate="synthetic")
    artifact = target.emit(target.prepare(graph), path)
    assert isinstance(artifact, CoreMLArtifact)
    reload(path)
    return artifact


def annotated(graph: Graph) -> Graph:
    assert AnnotateInt8(scheme=scheme(), calibrate=seen).run(graph, Unobserved()) == 1
    return graph


def chain() -> tuple[Graph, dict[str, Term]]:
    """conv - relu - max_pool - conv - reshape - softmax."""
    net = Net()
    x = net.input(1, 6, 9, 9)
    first = conv(x, 6)
    relu = net(Relu(), first)
    pool = net(MaxPool(kernel=(2, 2), strides=(2, 2), pads=(0,) * 4, dilations=(1, 1)), relu)
    second = conv(pool, 4)
    flat = net(Reshape(shape=(1, 36)), second)
    terms = {"x": x, "first": first, "relu": relu, "pool": pool, "second": second, "flat": flat}
    return annotated(net.returns(net(Softmax(axis=1), flat))), terms


def test_rounded_is_what_is_read_in_8_bits(tmp_path: Path) -> None:
    """Not what only a ReLU or a softmax reads, even after a reshape; coremltools rounds there too."""
    graph, terms = chain()
    settle(graph)
    assert {name for name, t in terms.items() if is_rounded(t.value)} == {"x", "relu", "pool"}
    assert terms["relu"].value.type.quant == terms["pool"].value.type.quant
    emitted(graph, tmp_path / "m.mlpackage")
    pair = ["quantize", "dequantize"]
    expanded = "constexpr_affine_dequantize"
    found = [k for k in kinds(tmp_path / "m.mlpackage") if k != expanded]
    assert found == [*pair, "conv", "relu", *pair, "max_pool", *pair, "conv", "reshape", "softmax"]
    assert kinds(tmp_path / "m.mlpackage").count(expanded) == 2


def test_the_package_computes_what_the_simulation_does(tmp_path: Path) -> None:
    net = Net()
    graph = annotated(net.returns(conv(net(Relu(), conv(net.input(1, 6, 9, 9), 6)), 4)))
    settle(graph)
    for v in (*graph.inputs, *(v for n in graph.nodes for v in n.outputs)):
        if v.type.quant is not None:  # so that halves add little to what rounding to these steps does
            v.type = v.type._replace(quant=v.type.quant._replace(scale=(4 * v.type.quant.scale[0],)))
    inputs = inputs_of(graph, seed=1)
    (name,) = graph.output_names
    expected = evaluate(simulated(graph).graph, inputs)[name]
    result = emitted(graph, tmp_path / "m.mlpackage").run(inputs)[name]
    exact = evaluate(simulated(graph, only=()).graph, inputs)[name]
    near, far = compare(name, expected, result).psnr_db, compare(name, exact, result).psnr_db
    assert near > 45 and far < near - 5  # what it rounds is what the annotations say


def test_rounding_has_the_annotated_scale_and_saturates(tmp_path: Path) -> None:
    net = Net()
    x = net.input(1, 40)
    graph = net.returns(dense(x, 3, bias=False))
    x.value.type = x.value.type._replace(quant=asymmetric(-1.0, 3.0))
    seen_by_dense: list[Array] = []

    def observe(kind: str, _: str, value: Array) -> None:
        if kind == "dequantize":
            seen_by_dense.append(np.array(value))

    emitted(graph, tmp_path / "m.mlpackage")
    given = np.linspace(-4, 6, 40, dtype=np.float32).reshape(1, 40)
    evaluate_package(tmp_path / "m.mlpackage").run({"x0": given}, observe)
    (rounded,) = seen_by_dense
    params = x.value.type.quant
    assert params is not None
    low, high = represented(params)
    np.testing.assert_allclose(rounded, np.clip(given, low, high), rtol=2e-3, atol=params.scale[0] * 0.51)
    assert len(np.unique(rounded)) <= 256 and rounded.min() == pytest.approx(low, rel=2e-3)


def test_unsigned_annotations_are_kept(tmp_path: Path) -> None:
    net = Net()
    x = net.input(1, 40)
    graph = net.returns(dense(x, 3))
    x.value.type = x.value.type._replace(quant=asymmetric(0.0, 3.0, U8))
    inputs = {"x0": np.random.default_rng(0).uniform(0, 3, (1, 40)).astype(np.float32)}
    result = emitted(graph, tmp_path / "m.mlpackage").run(inputs)["y0"]
    expected = evaluate(simulated(graph).graph, inputs)["y0"]
    assert compare("y0", expected, result).psnr_db > 50


def test_a_tiny_scale_does_not_become_zero(tmp_path: Path) -> None:
    net = Net()
    x = net.input(1, 8)
    graph = net.returns(dense(x, 3, bias=False))
    x.value.type = x.value.type._replace(quant=QuantParams((1e-9,), (0,), None, asymmetric(0, 1).dtype))
    artifact = emitted(graph, tmp_path / "m.mlpackage")
    result = artifact.run({"x0": np.full((1, 8), 1e-7, np.float32)})["y0"]
    assert np.isfinite(result).all() and not artifact.warnings[3:]


def product() -> tuple[Graph, Value]:
    """conv(x) * sigmoid(conv(x)), read by another convolution."""
    net = Net()
    x = net.input(1, 6, 6, 6)
    gate = net(Sigmoid(), conv(x, 6))
    y = conv(x, 6)
    made = net(Mul(), y, gate)
    graph = net.returns(conv(made, 4), conv(y, 4))
    return annotated(graph), made.value


@pytest.mark.parametrize("ios", ["iOS17", "iOS18"])
def test_a_product_of_rounded_operands_is_limited_before_it_is_rounded(ios: str, tmp_path: Path) -> None:
    graph, made = product()
    artifact = emitted(graph, tmp_path / "m.mlpackage", ios)
    found = kinds(tmp_path / "m.mlpackage")
    assert found[found.index("mul") : found.index("mul") + 4] == ["mul", "clip", "quantize", "dequantize"]
    assert found.count("clip") == 1
    (remark,) = [w for w in artifact.warnings if "multiply" in w]
    assert "limited to the range" in remark
    inputs = inputs_of(graph, seed=3)
    expected = evaluate(simulated(graph).graph, inputs)
    for name, result in artifact.run(inputs).items():
        assert compare(name, expected[name], result).psnr_db > 40
    assert is_rounded(made)


def test_the_report_says_what_is_known_of_the_engine(tmp_path: Path) -> None:
    graph, _ = chain()
    warnings = emitted(graph, tmp_path / "m.mlpackage").warnings
    assert any("A17 Pro, M4 and later" in w for w in warnings)
    assert any(w.startswith("2 layers read operands of 8 bits; in fp16 between them: relu, softmax") for w in warnings)
    assert not any("multiply" in w for w in warnings)


def test_every_rule_and_fact_has_a_source() -> None:
    entries = [*rules()["layers"].values(), *rules()["facts"]]
    assert len(entries) > 20
    for entry in entries:
        assert entry["source"] and entry["confidence"] in (
            "documented",
            "measured-by-third-party",
            "measured",
            "inferred",
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs data"),
        ({"calibrate": "synthetic", "deployment_target": "iOS16"}, "needs --deployment-target iOS17, not iOS16"),
        ({"precision": "fp32", "calibrate": "synthetic"}, "--calibrate is for --precision int8"),
        ({"precision": "fp16", "repair": "off"}, "--repair is for --precision int8"),
        ({"calibrate": "synthetic", "repair": "pray"}, "no repair named 'pray'"),
        ({"precision": "int9"}, "no precision 'int9'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CoreMLTarget(**{"precision": "int8", **options}).settle(Graph())


def in_int8(name: str, folder: Path, **options: Any) -> Compiled:
    model = real_model(name)
    rows = {n: a[::2] for n, a in model.labelled()[0].items()}
    folder.mkdir(exist_ok=True)
    chosen = {"precision": "int8", "calibrate": rows, "observer": "minmax", "repair": "off", **options}
    return compile_model(model.path, "ane", folder / "m.mlpackage", inputs=model.bind, **chosen)


@pytest.mark.parametrize(("name", "least_db"), [("mlperf_tiny_kws_dscnn", 30), ("vit_fashion_b1", 25)])
def test_trained_models_keep_their_answers(name: str, least_db: float, tmp_path: Path) -> None:
    model = real_model(name)
    compiled = in_int8(name, tmp_path)
    assert compiled.report.passed
    assert min(c.psnr_db for c in compiled.report.verification or ()) > least_db
    twin = compile_model(model.path, "ane", tmp_path / "fp16.mlpackage", inputs=model.bind, verify="off")
    arrays, labels = model.labelled()
    checked = range(1, len(labels), 2)  # those that were not calibrated on
    right = [
        sum(next(iter(evaluator.run(row(arrays, i)).values())).argmax() == labels[i] for i in checked)
        for evaluator in (evaluate_package(compiled.path), evaluate_package(twin.path))
    ]
    assert len(checked) >= 100 and right[0] >= right[1] - 2
    reload(tmp_path / "m.mlpackage")


def row(arrays: dict[str, Array], i: int) -> dict[str, Array]:
    return {name: array[i : i + 1] for name, array in arrays.items()}


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (in_int8("mlperf_tiny_kws_dscnn", tmp_path / n, verify="off").path for n in "ab")
    for file in sorted(first.rglob("*")):
        if file.is_file():
            assert file.read_bytes() == (second / file.relative_to(first)).read_bytes()

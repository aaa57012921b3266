"""Fine-tuning in TensorFlow: graphs as functions of their weights, their gradients, and what `Distil` makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler import ops
from compiler.api import load
from compiler.calibrate.fitting import Fitting
from compiler.compression import Compression
from compiler.compression_setup import recoveries_of
from compiler.errors import CompileError, UsageError, VerificationError
from compiler.evaluate import evaluate
from compiler.graph import Graph, Value
from compiler.op import Op
from compiler.pass_manager import PassManager
from compiler.seeds import inputs_for
from compiler.target import make_target
from compiler.tensor import F32, F64, I64, Array, TensorType
from compiler.train.augment import Augment
from compiler.train.distill import Distil
from compiler.train.weights import trained_weights
from targets import find_target
from tests.real_models import real_model
from tests.strategies import random_graph, random_inputs, seeds

tf = pytest.importorskip("tensorflow")

from compiler.train.function import Function  # noqa: E402  # TensorFlow is there

MODELS = (  # real ones, with every kind of layer
    "autoencoder_ai4i",
    "fastestdet",
    "gtcrn_simple",
    "mlperf_tiny_kws_dscnn",
    "mlperf_tiny_resnet8",
    "mobilenetv2s_cifar10_b1",
    "silero_vad_16k_static",
    "vit_fashion_b1",
)
RUNS = 2


def distance(wanted: Array, got: Array) -> float:
    """The largest difference, relative to the largest element."""
    assert wanted.shape == got.shape
    a, b = wanted.astype(np.float64), got.astype(np.float64)
    return float(np.abs(a - b).max(initial=0) / max(np.abs(a).max(initial=0), 1.0))


def computed(function: Function, runs: list[dict[str, Array]]) -> list[Array]:
    """The values of a function with its first weights, for several runs at once."""
    stacked = {name: tf.constant(np.stack([r[name] for r in runs])) for name in function.inputs}
    return [v.numpy() for v in function(stacked, [tf.constant(a) for a in function.initial])]


def expect_same(graph: Graph, runs: list[dict[str, Array]], trained: list[Value], most: float) -> None:
    """That a graph and its function compute the same, unless a layer of it gives what is not finite."""
    got = computed(Function(graph, graph.outputs, trained), runs)
    for i, run in enumerate(runs):
        finite: list[bool] = []

        def watch(array: Array, finite: list[bool] = finite) -> Array:
            finite.append(array.dtype.kind != "f" or bool(np.isfinite(array).all()))
            return array

        wanted = evaluate(graph, run, each=watch)
        if not all(finite):
            continue
        for values, name, v in zip(got, graph.output_names, graph.outputs, strict=True):
            given = values[i % len(values)]  # what depends on no input is there once
            assert distance(wanted[name], given) <= most, (name, v.node)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_the_same_function(name: str) -> None:
    graph = load(real_model(name).path)
    PassManager("default").run(graph)
    weights = [w.value for w in trained_weights(graph)]
    assert len(weights) >= graph.op_counts.get("conv", 0) + graph.op_counts.get("dense", 0)
    function = Function(graph, graph.outputs, weights)
    assert function.faults == [None] * len(graph.outputs)
    expect_same(graph, [inputs_for(graph, seed) for seed in range(RUNS)], weights, 1e-4)


@given(seeds(), st.integers(1, 8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_graphs_are_the_same_functions(seed: int, layers: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, layers, floats_only=True)
    constants = [v for v in graph.constants if v.type.dtype is F32 and v.type.size and not v.n_out]
    function = Function(graph, graph.outputs, constants)
    runs = [random_inputs(rng, graph) for _ in range(RUNS)]
    if any(function.faults):
        assert all("trained" in f.message and f.where for f in function.faults if f is not None)
        function = Function(graph, graph.outputs)
        constants = []
    if not any(function.faults):
        expect_same(graph, runs, constants, 1e-4)


def test_a_function_has_any_number_of_runs() -> None:
    """Whatever layers do to the first axis, which is not that of the runs."""
    graph = Graph()
    x = graph.add_input(TensorType(F32, (2, 3)), "x")
    (turned,) = graph.add(ops.Transpose(perm=(1, 0)), x)
    (summed,) = graph.add(ops.ReduceSum(axes=(0,), keepdims=True), turned)
    (flat,) = graph.add(ops.Reshape(shape=(6,)), turned)
    (joined,) = graph.add(ops.Concat(axis=0), flat, graph.const(np.array([7, 8], np.float32)))
    graph.set_outputs([summed, joined], ["s", "j"])
    runs = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    function = Function(graph, graph.outputs)
    s, j = function({"x": tf.constant(runs)})
    assert np.array_equal(s, runs.sum(2)[:, None])
    assert np.array_equal(j[3], [18, 21, 19, 22, 20, 23, 7, 8])


def windows(**changed: object) -> Op:
    window = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), **changed}
    return ops.Conv(**window)  # type: ignore[arg-type]  # of a test


GRADIENTS: dict[str, tuple[Callable[[], Op], tuple[int, ...], tuple[tuple[int, ...], ...]]] = {
    "conv": (windows, (1, 4, 5, 6), ((3, 4, 3, 3), (3,))),
    "strided": (lambda: windows(strides=(2, 1)), (1, 2, 5, 6), ((3, 2, 3, 3),)),
    "dilated": (lambda: windows(dilations=(2, 1)), (2, 2, 6, 6), ((3, 2, 3, 2), (3,))),
    "grouped": (lambda: windows(groups=2), (1, 4, 5, 5), ((6, 2, 3, 3), (6,))),
    "depthwise": (lambda: windows(groups=4), (1, 4, 5, 5), ((8, 1, 3, 3), (8,))),
    "conv1d": (lambda: ops.Conv(strides=(2,), pads=(1, 0), dilations=(1,)), (1, 3, 9), ((2, 3, 3),)),
    "conv3d": (
        lambda: ops.Conv(strides=(1,) * 3, pads=(0,) * 6, dilations=(1, 2, 1)),
        (1, 2, 3, 5, 4),
        ((2, 2, 2, 2, 3),),
    ),
    "conv_transpose": (
        lambda: ops.ConvTranspose(strides=(2, 2), pads=(1, 0, 0, 1), dilations=(1, 2), output_padding=(1, 0), groups=2),
        (1, 4, 4, 3),
        ((4, 2, 3, 3), (4,)),
    ),
    "dense": (lambda: ops.Dense(transposed=True), (2, 5), ((3, 5), (3,))),
    "matmul": (ops.MatMul, (2, 3, 4), ((2, 4, 5),)),
    "layer_norm": (lambda: ops.LayerNorm(axis=2), (1, 3, 6), ((6,), (6,))),
    "rms_norm": (lambda: ops.RmsNorm(axis=1), (2, 6), ((6,),)),
    "instance_norm": (ops.InstanceNorm, (1, 3, 4, 4), ((3,), (3,))),
    "group_norm": (lambda: ops.GroupNorm(groups=2), (1, 4, 3, 3), ((4,), (4,))),
    "prelu": (ops.PRelu, (1, 3, 4, 4), ((3, 1, 1),)),
    "attention": (lambda: ops.Attention(scale=0.5, causal=True), (1, 4, 3, 2), ((1, 2, 3, 2), (1, 2, 3, 5))),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_finite_differences(name: str) -> None:
    """Of the operation with every operand but the first trained, behind a smooth function, in f64."""
    make, shape, shapes = GRADIENTS[name]
    rng = np.random.default_rng(0)
    graph = Graph()
    x = graph.add_input(TensorType(F64, shape), "x")
    weights = [graph.const(rng.standard_normal(s)) for s in shapes]
    (y,) = graph.add(make(), x, *weights)
    (z,) = graph.add(ops.Tanh(), y)
    graph.set_outputs([z], ["z"])
    function = Function(graph, graph.outputs, weights)
    assert function.faults == [None]
    feed = {"x": rng.standard_normal((2, *shape))}
    factors = rng.standard_normal((2, *z.type.dims))

    def loss(arrays: list[Array]) -> float:
        twin = graph.clone()
        for v, array in zip(twin.constants, arrays, strict=True):
            twin.replace(v, twin.const(array))
        return sum(
            float((evaluate(twin, {"x": row})["z"] * f).sum()) for row, f in zip(feed["x"], factors, strict=True)
        )

    assert [id(v) for v in graph.constants] == [id(v) for v in weights]
    variables = [tf.Variable(a) for a in function.initial]
    with tf.GradientTape() as tape:
        (made,) = function({"x": tf.constant(feed["x"])}, variables)
        total = tf.reduce_sum(made * factors)
    gradients = [g.numpy() for g in tape.gradient(total, variables)]
    for i, gradient in enumerate(gradients):
        direction = rng.standard_normal(gradient.shape)
        sides = [[a + h * direction if j == i else a for j, a in enumerate(function.initial)] for h in (1e-5, -1e-5)]
        wanted = (loss(sides[0]) - loss(sides[1])) / 2e-5
        assert float((gradient * direction).sum()) == pytest.approx(wanted, rel=1e-6, abs=1e-8)


def digits(rows: int, seed: int) -> tuple[list[dict[str, Array]], Array]:
    """Images [1,3,8,8] of four kinds: a bright quarter in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, rows)
    images = rng.standard_normal((rows, 1, 3, 8, 8)).astype(np.float32) * 0.7
    for image, label in zip(images, labels, strict=True):
        image[0, :, 4 * (label // 2) :, 4 * (label % 2) :][..., :4, :4] += 1
    return [{"x": image} for image in images], labels


def network(tail: bool = True) -> Graph:
    """A small classifier with random weights; `tail`: with a softmax."""
    rng = np.random.default_rng(5)

    def const(*shape: int) -> Value:
        return graph.const((rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32))

    graph = Graph()
    x = graph.add_input(TensorType(F32, (1, 3, 8, 8)), "x")
    conv = ops.Conv(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
    (a,) = graph.add(conv, x, const(8, 3, 3, 3), const(8), names=["a"])
    (b,) = graph.add(ops.Relu(), a, names=["b"])
    pool = ops.AveragePool(kernel=(2, 2), strides=(2, 2), pads=(0,) * 4, dilations=(1, 1))
    (c,) = graph.add(pool, b, names=["c"])
    (d,) = graph.add(ops.Reshape(shape=(1, 128)), c, names=["d"])
    (e,) = graph.add(ops.Dense(transposed=True), d, const(4, 128), const(4), names=["e"])
    (f,) = graph.add(ops.Softmax(axis=1), e, names=["f"])
    graph.set_outputs([f if tail else e], ["y"])
    return graph


def rounded(graph: Graph, step: float = 0.25) -> Graph:
    """A copy whose matrices and kernels are multiples of `step` times their size: many are 0."""
    twin = graph.clone()
    for w in trained_weights(twin):
        if w.value.type.rank > 1:
            unit = step * 4 * float(np.asarray(w.value.data).std())
            twin.replace(w.value, twin.const(np.round(np.asarray(w.value.data) / unit).astype(np.float32) * unit))
    return twin


def lost(before: Graph, after: Graph, feeds: list[dict[str, Array]]) -> float:
    """The relative squared distance of the outputs."""
    pairs = [(evaluate(before, f)["y"], evaluate(after, f)["y"]) for f in feeds]
    return sum(float(np.square(a - b).sum()) for a, b in pairs) / sum(float(np.square(a).sum()) for a, _ in pairs)


def test_distillation_brings_a_compressed_net_nearer_to_its_original() -> None:
    feeds, _ = digits(96, 0)
    others, _ = digits(40, 1)
    before = network()
    after = rounded(before)
    told: list[str] = []
    plain, zeros = lost(before, after, others), [np.asarray(v.data) == 0 for v in after.constants]
    shapes = [str(n) for n in after.nodes]
    tuned = Distil(epochs=10, tell=told.append, learning_rate=0.02, batch=16)
    changed = tuned.run(before, after, Fitting(feeds))
    assert changed == 4
    assert lost(before, after, others) < 0.5 * plain
    assert [str(n) for n in after.nodes] == shapes
    kernels = [v for v in after.constants if v.type.rank > 1]
    for zero, v in zip(zeros, after.constants, strict=True):
        if v in kernels:
            assert zero.any() and np.array_equal(np.asarray(v.data) == 0, zero)
    assert tuned.best == min(e.held_out for e in tuned.epochs_run) and len(tuned.epochs_run) <= 10
    assert told[0] == "fine-tune: prepare" and told[-1].startswith(f"fine-tune: epoch {len(tuned.epochs_run)} of 10")
    after.verify()


def weights_after(**options: object) -> list[Array]:
    feeds, labels = digits(48, 0)
    before = network()
    after = rounded(before)
    Distil(epochs=2, labels=labels if options.pop("labelled", False) else None, **options).run(  # type: ignore[arg-type]  # of a test
        before, after, Fitting(feeds)
    )
    return [np.asarray(v.data) for v in after.constants]


def test_the_same_seed_gives_the_same_weights() -> None:
    first, again, other = (weights_after(seed=seed, augment="flip,shift,mixup") for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_labels_count() -> None:
    plain, labelled = weights_after(), weights_after(labelled=True)
    assert not all(np.array_equal(a, b) for a, b in zip(plain, labelled, strict=True))


def test_a_teacher_that_is_met_changes_nothing() -> None:
    before = network()
    after = before.clone()
    feeds, _ = digits(32, 0)
    tuned = Distil(epochs=1, learning_rate=0.5)
    assert tuned.run(before, after, Fitting(feeds)) == 0
    assert tuned.best < 1e-6


def test_rows_that_were_fitted_to_before_do_not_speak_against_training() -> None:
    """In a compression the rows held out are among those that the closed forms saw; other rows judge the result."""
    before = network()
    feeds, _ = digits(32, 0)
    changed = []
    for keeps_first in (True, False):
        tuned = Distil(epochs=1, learning_rate=0.9, batch=4, keeps_first=keeps_first)
        changed.append(tuned.run(before, rounded(before, 0.01), Fitting(feeds)))
        assert (tuned.best < tuned.epochs_run[0].held_out) == keeps_first
    assert changed == [0, 4]
    quick, late = recoveries_of({"recover": "train", "epochs": 3, "augment": "mixup"}, before, 5, None, print)
    assert [r.name for r in (*quick, *late)] == ["recover", "fine-tune"]
    (last,) = late
    assert isinstance(last, Distil)
    assert (last.epochs, last.seed, last.augment, last.keeps_first) == (3, 5, "mixup", False)


def test_training_learns_from_all_rows_that_do_not_judge() -> None:
    graph = load(real_model("fault_mlp_ai4i").path, inputs={"input": (1, 8)})
    rows = np.random.default_rng(0).normal(size=(1500, 8)).astype(np.float32)
    asked = Compression(data={"input": rows}, parameters="2x", recover="train", augment="mixup")
    data = asked.search(graph, make_target(find_target("onnx"), {}), 0, print).data
    assert data is not None and data.all is not None
    assert (len(data.rows.feeds), data.judge.rows, len(data.all.feeds)) == (512, 512, 988)
    learned = {feed["input"].tobytes() for feed in data.all.feeds}
    assert {feed["input"].tobytes() for feed in data.rows.feeds} < learned
    assert len(learned) == 988 and data.judge.example["input"].tobytes() not in learned


def test_augmentation_is_checked_before_anything_is_searched() -> None:
    graph = load(real_model("fault_mlp_ai4i").path, inputs={"input": (1, 8)})
    rows = np.eye(8, dtype=np.float32)
    asked = Compression(data={"input": rows}, parameters="2x", recover="train", augment="flip")
    with pytest.raises(UsageError, match="flip and shift are of images"):
        asked.search(graph, make_target(find_target("onnx"), {}), 0, print)


@pytest.mark.parametrize("labels", [np.arange(10), np.full(48, 4), np.full(48, -1)], ids=["few", "beyond", "negative"])
def test_labels_that_do_not_fit_are_refused(labels: Array) -> None:
    feeds, _ = digits(48, 0)
    before = network(tail=False)
    with pytest.raises(UsageError, match="labels from"):
        Distil(epochs=1, labels=labels).run(before, rounded(before), Fitting(feeds))


@pytest.mark.parametrize(
    ("options", "told"),
    [({"epochs": 0}, "epochs 0"), ({"batch": 0}, "batch 0"), ({"learning_rate": 2.0}, "learning rate of 2")],
)
def test_options_that_make_no_sense_are_refused(options: Mapping[str, float], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Distil(**options)  # type: ignore[arg-type]  # of a test


def test_a_layer_without_a_gradient_is_named() -> None:
    graph = Graph()
    x = graph.add_input(TensorType(F32, (1, 6)), "x")
    w = graph.const(np.eye(6, dtype=np.float32))
    (y,) = graph.add(ops.Dense(), x, w)
    values, places = graph.add(ops.TopK(k=2, axis=1), y, names=["best", "where"])
    graph.set_outputs([values], ["values"])
    (fault,) = Function(graph, [values], [w]).faults
    assert isinstance(fault, CompileError)
    assert "topk has no form in TensorFlow" in fault.message and "%best" in str(fault.where)
    rows = Fitting([{"x": np.arange(6, dtype=np.float32)[None]}])
    with pytest.raises(UsageError, match="no layer before it can be trained"):
        Distil(epochs=1).run(graph, graph.clone(), rows)
    assert places.type.dtype is I64
    (alone,) = Function(graph, [values])({"x": tf.constant([[[1.0, 5, 2, 4, 3, 0]]])})
    assert np.array_equal(alone, [[[5, 4]]])


def test_an_output_without_a_gradient_is_left_out() -> None:
    """The other output is learned from."""
    before = network(tail=False)
    scores = before.outputs[0]
    values, _ = before.add(ops.TopK(k=1, axis=1), scores, names=["top", "class"])
    before.set_outputs([values, scores], ["top", "y"])
    after = rounded(before)
    feeds, _ = digits(64, 0)
    plain = lost(before, after, feeds)
    assert Distil(epochs=6).run(before, after, Fitting(feeds)) == 4
    assert lost(before, after, feeds) < 0.5 * plain


def test_a_function_that_differs_from_onnx_runtime_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from compiler.train.lower import LOWERED

    wrong = LOWERED[ops.Identity]
    monkeypatch.setitem(LOWERED, ops.Relu, wrong)
    before = network()
    with pytest.raises(VerificationError, match="TensorFlow and ONNX Runtime differ"):
        Distil(epochs=1).run(before, rounded(before), Fitting(digits(8, 0)[0]))


def test_augmented_rows() -> None:
    graph = network()
    x = np.arange(2 * 192, dtype=np.float32).reshape(2, 1, 3, 8, 8)
    labels = np.eye(2, dtype=np.float32)[:, None]
    rng = np.random.default_rng(0)
    flipped = [Augment(graph, "flip")({"x": x}, labels, rng)[0]["x"][0] for _ in range(20)]
    kinds = {bool(np.array_equal(f, x[0])): f for f in flipped}
    assert np.array_equal(kinds[False], x[0][..., ::-1]) and len(kinds) == 2
    shifted = {float(Augment(graph, "shift")({"x": x}, labels, rng)[0]["x"][0, 0, 0, 4, 4]) for _ in range(60)}
    assert shifted == {36 + 8 * i + j for i in (-1, 0, 1) for j in (-1, 0, 1)}
    mixed, shares = Augment(graph, "mixup")({"x": x}, labels, rng)
    for row, (share,) in zip(mixed["x"], shares, strict=True):
        assert share.sum() == pytest.approx(1)
        assert np.allclose(row, share[0] * x[0] + share[1] * x[1], rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "kinds", "told"),
    [((1, 3, 8, 8), "turn", "'turn'"), ((1, 5), "flip", "no input is one"), ((1, 3, 4, 4), "shift", "no input is one")],
)
def test_augmentation_that_does_not_fit_is_refused(shape: tuple[int, ...], kinds: str, told: str) -> None:
    graph = Graph()
    graph.add_input(TensorType(F32, shape), "x")
    with pytest.raises(UsageError, match=told):
        Augment(graph, kinds)


def test_mixup_of_integers_is_refused() -> None:
    graph = Graph()
    graph.add_input(TensorType(I64, (1, 5)), "tokens")
    with pytest.raises(UsageError, match="32-bit floats"):
        Augment(graph, "mixup")

"""Calibration of graphs and of trained models: sources, what bad data gets, and that nothing depends on the cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compiler.api import load
from compiler.calibrate import run
from compiler.calibrate.images import ImageRule, image_rule
from compiler.calibrate.names import value_names
from compiler.calibrate.observers import Scheme
from compiler.calibrate.record import Calibration, load_calibration
from compiler.calibrate.run import calibrate, ranges_of
from compiler.errors import CompileError, UsageError
from compiler.graph import Graph
from compiler.ops.activation import Relu
from compiler.ops.elementwise import Add
from compiler.ops.shape import Reshape
from compiler.oracle import Session, open_session
from compiler.probe import intermediate_values
from compiler.tensor import F32, I8, I16, I64, U8, Array, DType, TensorType
from tests.real_models import real_model

RNG = np.random.default_rng(7)
ROWS = RNG.standard_normal((40, 3, 8, 8)).astype(np.float32)


def small(batch: int = 1, dtype: DType = F32) -> Graph:
    """x [batch,3,8,8] -> relu -> reshape, and its sum with x."""
    g = Graph()
    x = g.add_input(TensorType(dtype, (batch, 3, 8, 8)), "x")
    if dtype is not F32:
        g.set_outputs(list(g.add(Reshape(shape=(batch, 192)), x, names=["flat"])), ["flat"])
        return g
    (y,) = g.add(Relu(), x, names=["y"])
    (flat,) = g.add(Reshape(shape=(batch, 192)), y, names=["flat"])
    (total,) = g.add(Add(), x, y, names=["total"])
    g.set_outputs([flat, total], ["flat", "total"])
    return g


def pair() -> Graph:
    """Two inputs, one with a state in front, and their sum."""
    g = Graph()
    a = g.add_input(TensorType(F32, (1, 4)), "a")
    state = g.add_input(TensorType(F32, (2, 1, 4)), "state")
    g.set_outputs(list(g.add(Add(), a, state, names=["sum"])), ["sum"])
    return g


def saved(calibration: Calibration, path: Path) -> bytes:
    return calibration.save(path).read_bytes()


@pytest.mark.parametrize("name", ["vit_fashion_b1", "mlperf_tiny_kws_dscnn"])
def test_statistics_are_those_of_all_values_of_a_trained_model(name: str) -> None:
    model = real_model(name)
    graph = load(model.path)
    if model.rows is None:
        feeds = [model.random_inputs(np.random.default_rng(i)) for i in range(4)]
    else:
        inputs, _ = model.labelled()
        feeds = [{n: a[i : i + 1] for n, a in inputs.items()} for i in range(4)]
    calibration = calibrate(graph, feeds)
    values = [intermediate_values(graph, feed) for feed in feeds]
    names = value_names(graph)
    expected = [v for v in values[0] if v.type.dtype is F32]
    assert {names[v] for v in expected} == set(calibration.values)
    for v in expected:
        numbers = np.concatenate([found[v].reshape(-1) for found in values])
        seen = calibration.values[names[v]]
        ends = pytest.approx((numbers.min(), numbers.max()), rel=1e-6)  # sessions order their sums differently
        assert (seen.low, seen.high) == ends and seen.count == numbers.size, v
        assert seen.histogram.total == numbers.size and seen.zeros == np.sum(numbers == 0)
    for v in expected[:: len(expected) // 8]:
        seen = calibration.values[names[v]]
        for observer in ("auto", "percentile", "entropy", "mse", "minmax"):
            found = calibration.range(names[v], observer=observer)
            assert min(seen.low, 0.0) <= found.low <= found.high <= max(seen.high, 0.0)
    ranges = ranges_of(calibrate(graph, feeds, "minmax"), graph)
    assert ranges == {v: (calibration.values[names[v]].low, calibration.values[names[v]].high) for v in expected}


def test_pieces_of_a_graph_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = real_model("vit_fashion_b1")
    graph, rows = load(model.path), model.labelled()[0]["input"][:4]
    whole = calibrate(graph, rows, "percentile", channels=True)
    sizes: list[int] = []

    def spy(data: bytes) -> Session:
        sizes.append(len(data))
        return open_session(data)

    monkeypatch.setattr(run, "open_session", spy)
    monkeypatch.setattr(run, "OUTPUTS", 1_000_000)
    cut = calibrate(graph, rows, "percentile", channels=True)
    assert len(sizes) > 2 and sum(sizes) < 1.5 * model.path.stat().st_size
    assert saved(cut, tmp_path / "cut.npz") == saved(whole, tmp_path / "whole.npz")


@pytest.mark.parametrize("suffix", ["npz", "json"])
@pytest.mark.parametrize("options", [{}, {"channels": True}, {"observer": "minmax"}], ids=str)
def test_files_are_exact_and_calibration_goes_on(tmp_path: Path, suffix: str, options: dict[str, object]) -> None:
    once = calibrate(small(), ROWS, **options)  # type: ignore[arg-type]  # options of several types
    again = calibrate(small(), ROWS, **options)  # type: ignore[arg-type]  # as above
    path = tmp_path / f"c.{suffix}"
    bytes_once = saved(once, path)
    assert saved(again, path) == bytes_once
    assert saved(load_calibration(path), path) == bytes_once
    half = saved(calibrate(small(), ROWS[:20], **options), path)  # type: ignore[arg-type]  # as above
    start = load_calibration(path)
    continued = calibrate(small(), ROWS[20:], start=start, **options)  # type: ignore[arg-type]  # as above
    assert saved(start, path) == half, "the calibration that was continued has changed"
    assert saved(continued, path) == bytes_once and continued.rows == 40


def test_what_cannot_be_continued_or_loaded(tmp_path: Path) -> None:
    start = calibrate(small(), ROWS)
    with pytest.raises(UsageError, match="of another graph"):
        calibrate(pair(), {"a": ROWS[:, 0, 0, :4], "state": ROWS[:, :2, :1, :4]}, start=start)
    with pytest.raises(UsageError, match="other options"):
        calibrate(small(), ROWS, "minmax", start=start)
    (tmp_path / "a.npz").write_bytes(b"PK no")
    np.savez(tmp_path / "b.npz", x=ROWS)
    (tmp_path / "c.json").write_text('{"format": "else"}')
    for name in ("a.npz", "b.npz", "c.json"):
        with pytest.raises(UsageError, match="no calibration written by this version"):
            load_calibration(tmp_path / name)
    with pytest.raises(UsageError, match="cannot be read"):
        load_calibration(tmp_path / "missing.npz")
    with pytest.raises(UsageError, match=r"end in \.npz or \.json"):
        start.save(tmp_path / "c.txt")
    with pytest.raises(UsageError, match="was not calibrated"):
        start.range("unheard of")


def sources(folder: Path) -> Iterator[tuple[str, object]]:
    """The same rows in every form."""
    np.savez(folder / "named.npz", x=ROWS, labels=np.arange(40))
    np.savez_compressed(folder / "single.npz", anything=ROWS.astype(np.float64))
    np.savez(folder / "fortran.npz", x=np.asfortranarray(ROWS))
    np.save(folder / "rows.npy", ROWS)
    (folder / "many").mkdir()
    for i, row in enumerate(ROWS):
        np.save(folder / "many" / f"{i:03}.npy", row)
    yield from ((name, str(folder / name)) for name in ("named.npz", "single.npz", "fortran.npz", "rows.npy", "many"))
    yield "array", ROWS
    yield "mapping", {"x": ROWS}
    yield "whole inputs", ROWS[:, np.newaxis]
    yield "rows of an iterable", iter(ROWS)
    yield "items of several rows", [{"x": ROWS[:7]}, {"x": ROWS[7:33]}, {"x": ROWS[33:]}]


def test_all_sources_are_one(tmp_path: Path) -> None:
    found = {name: calibrate(small(), source) for name, source in sources(tmp_path)}
    assert {(c.digest, c.rows, c.feeds) for c in found.values()} == {(found["array"].digest, 40, 40)}
    assert {name: c.notes for name, c in found.items() if c.notes} == {
        "named.npz": ["left out of the calibration data, as no input of the model: 'labels'"]
    }
    assert len({c.values["total"].high for c in found.values()}) == 1


@pytest.mark.parametrize(("batch", "feeds", "repeated"), [(1, 40, 0), (8, 5, 0), (16, 3, 8)])
def test_rows_fill_batches(batch: int, feeds: int, repeated: int) -> None:
    c = calibrate(small(batch), iter(ROWS))
    assert (c.rows, c.feeds) == (40, feeds)
    assert c.values["y"].count == (40 + repeated) * 192
    assert c.notes == ([f"the last run was filled up by repeating a row {repeated} times"] if repeated else [])
    assert (c.values["x"].low, c.values["x"].high) == (ROWS.min(), ROWS.max())


def test_inputs_of_several_shapes() -> None:
    a = RNG.standard_normal((20, 4)).astype(np.float32)
    state = RNG.standard_normal((20, 2, 1, 4)).astype(np.float32)
    every = calibrate(pair(), {"a": a, "state": state})
    assert every.values["sum"].high == (a[:, np.newaxis, np.newaxis] + state).max()
    one = calibrate(pair(), {"a": a, "state": state[0]})
    assert one.values["sum"].high == (a[:, np.newaxis, np.newaxis] + state[0]).max()
    assert one.notes == ["the one run of data for 'state' serves all 20 runs"]


def test_values_without_names_and_with_the_same() -> None:
    g = Graph()
    x = g.add_input(TensorType(F32, (1, 4)), "x")
    values = [x]
    for name in ("", "x", "value", "", "x_1"):
        values += g.add(Add(), values[-1], x, names=[name])
    g.set_outputs(values[-1:], ["out"])
    c = calibrate(g, np.arange(80, dtype=np.float32).reshape(20, 4))
    names = value_names(g)
    assert [c.values[names[v]].high for v in values] == [79.0 * i for i in range(1, 7)]
    assert len(set(names.values())) == 6 and names[x] == "x"


def test_layers_that_move_share_their_record_and_progress_is_told() -> None:
    told: list[tuple[str, int]] = []
    c = calibrate(small(), ROWS, progress=lambda step, total: told.append((step, total)))
    assert c.values["flat"] is c.values["y"] and c.values["total"] is not c.values["y"]
    assert told == [("calibrate", 40)] * 40


def test_synthetic_data_is_seeded_and_loud(tmp_path: Path) -> None:
    one, same, other = (calibrate(small(), "synthetic", seed=seed) for seed in (3, 3, 4))
    assert saved(one, tmp_path / "c.npz") == saved(same, tmp_path / "c.npz")
    assert one.digest != other.digest
    assert any(note.startswith("CALIBRATED ON SYNTHETIC NUMBERS") for note in one.notes)


def test_masks_inside_the_model_are_noted() -> None:
    g = Graph()
    x = g.add_input(TensorType(F32, (1, 4)), "x")
    mask = g.const(np.array([[0, 0, -np.inf, -3.4e38]], np.float32), "mask")
    g.set_outputs(list(g.add(Add(), x, mask, names=["masked"])), ["masked"])
    c = calibrate(g, ROWS[:, 0, 0, :4])
    assert c.values["masked"].left_out == 80
    assert c.range("masked", observer="minmax").low == ROWS[:, 0, 0, :2].min()
    assert c.notes == [
        "numbers that are NaN, infinite or beyond 1e30 were left out of the ranges of 1 values: 'masked'"
    ]


def pixels(height: int, width: int, channels: int = 3) -> Array:
    return RNG.integers(0, 256, (height, width, channels), np.uint8)


def write(folder: Path, name: str, array: Array) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.squeeze()).save(folder / name)
    return folder


def fed(monkeypatch: pytest.MonkeyPatch, graph: Graph, source: object, rule: ImageRule | None = None) -> list[Array]:
    """What the graph's input is in each run."""
    seen: list[Array] = []
    original = Session.run

    def spy(self: Session, outputs: list[str], inputs: dict[str, Array]) -> list[Array]:
        seen.append(inputs["in0"])
        return original(self, outputs, inputs)

    monkeypatch.setattr(Session, "run", spy)
    calibrate(graph, source, images=rule)
    return seen


def test_images_become_numbers_by_the_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pixels(8, 8)
    folder = write(tmp_path / "class", "a.png", image).parent
    rule = image_rule("scale=1/255,mean=0.4:0.5:0.6,std=0.2,colour=bgr")
    (row,) = fed(monkeypatch, small(), folder, rule)
    expected = ((image[..., ::-1] / 255 - [0.4, 0.5, 0.6]) / 0.2).astype(np.float32).transpose(2, 0, 1)
    assert np.array_equal(row[0], expected)
    assert image_rule(str(rule)).mean == rule.mean and image_rule("") == ImageRule()


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_images_are_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit: str) -> None:
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, 4:12] = 255  # the middle square
    image[0, 4] = 0
    (row,) = fed(monkeypatch, small(), write(tmp_path, "a.png", image), ImageRule(fit=fit))
    assert row[0, 0, 4, 4] == 1.0
    assert row.mean() == pytest.approx({"crop": 1.0, "stretch": 0.5, "pad": 0.25}[fit], abs=0.02)
    if fit == "pad":
        assert not row[0, :, :2].any() and not row[0, :, 6:].any()


def test_grey_images_and_integer_inputs(tmp_path: Path) -> None:
    for i in range(2):
        write(tmp_path, f"{i}.png", pixels(8, 8, 1))
    assert calibrate(small(), tmp_path).notes[0].startswith("images are read as scale=0.00392157,mean=0,std=1,fit=crop")
    with pytest.raises(UsageError, match="is no colour of images"):
        calibrate(small(), tmp_path, images=ImageRule(colour="red"))
    g = small(dtype=U8)
    assert calibrate(g, tmp_path).rows == 2


BAD_ROWS = ROWS.copy()
BAD_ROWS[17, 1, 2, 3] = np.nan
INFINITE = ROWS.copy()
INFINITE[3] = np.inf
BAD: dict[str, tuple[object, str]] = {
    "no such file": ("missing.npz", "'.*missing.npz' does not exist"),
    "another kind of file": ("rows.csv", "neither .npz nor .npy nor a folder"),
    "no zip": ("no_zip.npz", "cannot be read: it is no file of numpy arrays"),
    "no array": ("no_array.npy", "cannot be read: it is no file of numpy arrays"),
    "cut off": ("cut.npy", "is broken: it ends early"),
    "an empty archive": ("empty.npz", "is empty"),
    "pickles": ("pickle.npz", "'x' holds Python objects or records, not numbers"),
    "an empty folder": ("nothing", "holds no images and no .npy files"),
    "a broken image": ("broken", "'.*b.png' is no image that can be read"),
    "a deep image": ("deep", "has more than 8 bits a channel"),
    "a broken array": ("arrays", "'.*a.npy' is no array of numbers"),
    "no rows": (ROWS[:0], "the calibration data is empty"),
    "no items": ([], "the calibration data is empty"),
    "other names": ({"y": ROWS, "z": ROWS}, "lacks the input 'x'; it holds 'y', 'z'"),
    "other names in an item": ([{"y": ROWS}], "lacks the input 'x'; it holds 'y'"),
    "channels last": (ROWS.transpose(0, 2, 3, 1), r"shape \[40, 8, 8, 3\], where rows of \[3, 8, 8\] are due"),
    "another shape": (ROWS[..., :7], r"where rows of \[3, 8, 8\] are due"),
    "integers": ((ROWS * 255).astype(np.uint8), "'x' has element type uint8, the model takes f32"),
    "text": (np.array(["a"] * 4), "'x' has element type <U1, the model takes f32"),
    "objects": (np.array([None, ROWS], object), "'x' holds Python objects, not numbers"),
    "a pair": ([(ROWS[0], 1)], "an item of the calibration data is a tuple"),
    "a number": (3, "calibration data cannot be a int"),
    "unequal lists": ([[[1.0], [1.0, 2.0]]], "parts of unequal lengths"),
    "not a number": (BAD_ROWS, "row 17 of the calibration data for 'x' holds NaN"),
    "infinite": (INFINITE, "row 3 of the calibration data for 'x' holds infinite numbers"),
    "too large for float32": (ROWS.astype(np.float64) * 1e300, "row 0 of the calibration data for 'x' holds infinite"),
    "constant": (np.full_like(ROWS, 0.5), "every number of the calibration data for 'x' is 0.5"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that BAD names."""
    path = tmp_path_factory.mktemp("bad")
    (path / "rows.csv").write_text("1,2,3")
    (path / "no_zip.npz").write_bytes(b"PK\x03\x04 and nothing more")
    (path / "no_array.npy").write_bytes(b"\x93NUMPY\x09\x00")
    np.save(path / "cut.npy", ROWS)
    (path / "cut.npy").write_bytes((path / "cut.npy").read_bytes()[:-1000])
    np.savez(path / "empty.npz")
    np.savez(path / "pickle.npz", x=np.array([{}, None], object))
    for name in ("nothing", "arrays"):
        (path / name).mkdir()
    write(path / "broken", "a.png", pixels(8, 8))
    (path / "broken" / "b.png").write_bytes((path / "broken" / "a.png").read_bytes()[:60])
    write(path / "deep", "a.png", pixels(8, 8, 1).astype(np.uint16))
    (path / "arrays" / "a.npy").write_bytes(b"no")
    return path


@pytest.mark.parametrize("case", BAD)
def test_bad_data_gets_one_sentence(folder: Path, case: str) -> None:
    source, sentence = BAD[case]
    with pytest.raises(CompileError, match=sentence) as raised:
        calibrate(small(), folder / source if isinstance(source, str) else source)
    assert "\n" not in raised.value.message and raised.value.exit_code == 2


def test_bad_data_for_several_inputs() -> None:
    a = ROWS[:, 0, 0, :4]
    with pytest.raises(UsageError, match="has no names, and the model has 2 inputs"):
        calibrate(pair(), [a])
    with pytest.raises(UsageError, match="rows for different numbers of runs: 'a' has 40, 'state' has 60"):
        calibrate(pair(), {"a": a, "state": np.repeat(a, 2, 0)[:60, np.newaxis]})
    still = calibrate(pair(), {"a": a, "state": np.zeros((40, 2, 1, 4), np.float32)})
    assert still.notes == ["every number of the calibration data for 'state' is the same"]


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (ROWS[:1], "1 row of calibration data: ranges rarely hold for others; 100 or more are usual"),
        (ROWS[:5], "5 rows of calibration data: ranges rarely hold for others; 100 or more are usual"),
        (np.repeat(ROWS[:1], 30, 0), "all 30 rows of the calibration data are the same"),
    ],
    ids=["one", "few", "repeated"],
)
def test_doubtful_data_is_noted(rows: Array, note: str) -> None:
    assert calibrate(small(), rows).notes == [note]


@pytest.mark.parametrize("shape", [(0, 4), ("n", 4), None], ids=str)
def test_inputs_must_be_bound(shape: tuple[int | str, ...] | None) -> None:
    g = Graph()
    x = g.const(np.ones(4, np.float32)) if shape is None else g.add_input(TensorType(F32, shape), "x")
    g.set_outputs(list(g.add(Relu(), x)), ["y"])
    with pytest.raises(UsageError, match=r"takes no calibration data|an empty shape|not known yet"):
        calibrate(g, ROWS[:, 0, 0, :4])


def test_one_row_and_numbers_without_axes() -> None:
    g = Graph()
    x, rate = g.add_input(TensorType(F32, (1, 4)), "x"), g.add_input(TensorType(F32, ()), "rate")
    g.set_outputs(list(g.add(Add(), x, rate, names=["sum"])), ["sum"])
    rows = ROWS[:, 0, 0, :4]
    one = calibrate(g, {"x": rows, "rate": np.array(2, np.float32)})
    assert one.rows == 40 and one.values["sum"].high == (rows + 2).max()
    each = calibrate(g, {"x": rows, "rate": np.arange(40, dtype=np.float32)})
    assert each.values["sum"].high == (rows + np.arange(40, dtype=np.float32)[:, np.newaxis]).max()
    assert calibrate(g, {"x": rows[0], "rate": np.array(2, np.float32)}).rows == 1


def test_integers_must_fit_and_other_options() -> None:
    g = Graph()
    x = g.add_input(TensorType(U8, (1, 4)), "x")
    g.set_outputs(list(g.add(Reshape(shape=(4,)), x)), ["y"])
    with pytest.raises(UsageError, match="holds integers that uint8 cannot"):
        calibrate(g, np.full((3, 4), 300, I64.numpy))
    with pytest.raises(UsageError, match="there is no observer 'best'"):
        calibrate(small(), ROWS, "best")
    for text, sentence in (
        ("size=3", "no option 'size'"),
        ("mean=a", "no value for mean"),
        ("crop=2", "cannot be applied"),
    ):
        with pytest.raises(UsageError, match=sentence):
            image_rule(text)


def test_ranges_follow_the_scheme() -> None:
    c = calibrate(small(), ROWS, "mse")
    eight, sixteen = (c.range("total", Scheme(d, symmetric=True)) for d in (I8, I16))
    assert eight.mse is not None and sixteen.mse is not None and sixteen.mse < eight.mse / 1000
    assert c.range("total", observer="minmax").observer == "minmax"

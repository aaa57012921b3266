"""Times of layers from tables: what is exact, interpolated and estimated, and which splits they decline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.api import PassManager, compile_model
from compiler.compression import Compression
from compiler.errors import UsageError
from compiler.graph import Graph
from compiler.layer_table import (
    ESTIMATED,
    EXACT,
    INTERPOLATED,
    Measured,
    Row,
    Shape,
    Table,
    fitted,
    read_table,
    shape_of,
)
from compiler.ops.activation import Relu
from compiler.ops.conv import Conv
from compiler.ops.matmul import Dense, MatMul
from compiler.tensor import F32, TensorType
from passes.low_rank import LowRank
from tests.command import ROOT

RATE, BANDWIDTH, EACH = 2e10, 1e10, 2e-6


def dense(inputs: int, outputs: int, rows: int = 1) -> Shape:
    return Shape("dense", "fp32", ((rows, inputs), (outputs, inputs)), ((rows, outputs),))


def ideal(shape: Shape) -> Row:
    return Row(shape, shape.macs / RATE + shape.moved / BANDWIDTH + EACH)


def table(*extra: Row) -> Table:
    sizes = [(64, 64), (64, 256), (256, 64), (256, 256), (1024, 256), (1024, 1024)]
    return Table("some phone", [*(ideal(dense(*s)) for s in sizes), *extra], 1e-5)


def graph_of(rank: int = 8) -> Graph:
    """Two dense layers of low rank, 256 -> 256 -> 1024."""
    rng = np.random.default_rng(0)
    graph = Graph("g")
    x = graph.add_input(TensorType(F32, (1, 256)), "x")
    for i, width in enumerate((256, 1024)):
        w = rng.standard_normal((width, rank)) @ rng.standard_normal((rank, 256))
        (x,) = graph.add(Dense(transposed=True), x, graph.const(w.astype(np.float32)), names=[f"layer{i}"])
        (x,) = graph.add(Relu(), x, names=[f"relu{i}"])
    graph.set_outputs([x], ["y"])
    return graph


def test_macs_and_bytes_of_rows() -> None:
    assert (dense(8, 4, 3).macs, dense(8, 4, 3).moved) == (96, 4 * (24 + 32 + 12))
    conv = Shape("conv", "int8", ((1, 8, 5, 5), (16, 8, 3, 3)), ((1, 16, 3, 3),))
    assert (conv.macs, conv.moved) == (16 * 9 * 72, 200 + 1152 + 144)
    assert Shape("relu", "fp16", ((1, 6),), ((1, 6),)).macs == 3


def test_shapes_of_layers() -> None:
    graph = Graph("g")
    x = graph.add_input(TensorType(F32, (1, 4, 8, 8)), "x")
    w = graph.const(np.ones((4, 1, 3, 3), np.float32))
    bias = graph.const(np.ones(4, np.float32))
    (y,) = graph.add(Conv(strides=(2, 2), pads=(1, 1, 1, 1), dilations=(1, 1), groups=4), x, w, bias)
    assert y.node is not None
    found = shape_of(y.node, "fp16")
    assert found == Shape("conv", "fp16", ((1, 4, 8, 8), (4, 1, 3, 3)), ((1, 4, 4, 4),), (2, 2), (), 4)
    assert found.kind[-1] == "depthwise"
    a = graph.add_input(TensorType(F32, (3, 5)), "a")
    (product,) = graph.add(MatMul(), a, graph.const(np.ones((5, 7), np.float32)))
    assert product.node is not None
    assert shape_of(product.node, "fp32") == dense(5, 7, 3)


def test_known_rows_are_exact() -> None:
    odd = Row(dense(256, 256), 1e-3)
    assert table(odd).seconds(dense(256, 256)) == (1e-3, EXACT)


def test_between_rows_it_interpolates() -> None:
    found, how = table().seconds(dense(512, 256))
    assert how == INTERPOLATED
    assert found == pytest.approx(ideal(dense(512, 256)).seconds, rel=0.02)


def test_neighbours_that_are_slow_make_it_slow() -> None:
    slow = [Row(dense(256, n), 20 * ideal(dense(256, n)).seconds) for n in (24, 40)]
    found, how = table(*slow).seconds(dense(256, 32))
    assert how == INTERPOLATED
    assert found > 5 * ideal(dense(256, 32)).seconds


def test_far_from_rows_and_of_other_operations_it_estimates() -> None:
    far = dense(65536, 16384)
    found, how = table().seconds(far)
    assert how == ESTIMATED
    assert found == pytest.approx(ideal(far).seconds, rel=0.05)
    pool = Shape("max_pool", "fp32", ((1, 64, 32, 32),), ((1, 64, 16, 16),))
    found, how = table().seconds(pool)
    assert how == ESTIMATED
    assert found == pytest.approx(ideal(pool).seconds, rel=0.1)


@given(st.floats(1e-12, 1e-9), st.floats(1e-12, 1e-9), st.floats(1e-7, 1e-4))
def test_the_fit_finds_what_made_the_rows(a: float, b: float, c: float) -> None:
    shapes = [dense(i, o, n) for i in (32, 256, 2048) for o in (16, 512) for n in (1, 64)]
    found = fitted([Row(s, a * s.macs + b * s.moved + c) for s in shapes])
    assert min(found) >= 0
    for s in shapes:
        told = found[0] * s.macs + found[1] * s.moved + found[2]
        assert told == pytest.approx(a * s.macs + b * s.moved + c, rel=1e-6)


def test_a_fit_has_no_negative_costs() -> None:
    rows = [Row(dense(64 * n, 64), 1e-5 / n) for n in (1, 2, 4, 8)]
    assert min(fitted(rows)) >= 0


def test_files_come_back(tmp_path: Path) -> None:
    conv = Shape("conv", "fp32", ((1, 8, 5, 5), (8, 1, 3, 3)), ((1, 8, 3, 3),), (2, 2), (), 8)
    path = tmp_path / "table.json"
    path.write_text(table(Row(conv, 3e-6), Row(dense(8, 8)._replace(dtype="int8"), 1e-6)).text())
    found = read_table(path, "fp32")
    assert (found.device, found.call) == ("some phone", 1e-5)
    assert found.seconds(conv) == (3e-6, EXACT)
    assert len(found.rows) == 7
    assert [r.shape for r in read_table(path, "int8").rows] == [dense(8, 8)._replace(dtype="int8")]
    with pytest.raises(UsageError, match=r"no layers in fp16.*fp32, int8"):
        read_table(path, "fp16")


ROW = {"op": "dense", "dtype": "fp32", "inputs": [[1, 8], [4, 8]], "outputs": [[1, 4]], "seconds": 1e-6}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a table of layers"),
        (json.dumps({"version": 2, "layers": []}), "has version 2"),
        (json.dumps({"version": 1, "layers": []}), "no layers in fp32"),
        (json.dumps({"version": 1, "layers": [{**ROW, "seconds": 0}]}), "layer 0 is no measured layer"),
        (json.dumps({"version": 1, "layers": [ROW, {**ROW, "inputs": [[1, -8]]}]}), "layer 1 is no measured layer"),
        (json.dumps({"version": 1, "layers": [{**ROW, "inputs": []}]}), "layer 0 is no measured layer"),
        (json.dumps({"version": 1, "layers": [{**ROW, "dtype": "fp8"}]}), "layer 0 is no measured layer"),
        (json.dumps({"version": 1, "layers": [{**ROW, "outputs": 3}]}), "layer 0 is no measured layer"),
        (json.dumps({"version": 1, "layers": [7]}), "layer 0 is no measured layer"),
        (json.dumps({"version": 1, "layers": [{**ROW, "stride": 2}]}), "unknown keys: stride"),
        (json.dumps({"version": 1, "layers": [{**ROW, "op": "Conv2D"}]}), "layer 0 has an unknown op: 'Conv2D'"),
        (json.dumps({"version": 1, "layers": [{**ROW, "inputs": [[1, 8], [4, 8], [4]]}]}), "a dense with 3 inputs"),
        (json.dumps({"version": 1, "layers": [{**ROW, "inputs": [[1, 8], [4]]}]}), "layer 0 is no measured layer"),
        (json.dumps({"version": 1, "layers": [{**ROW, "op": "matmul", "inputs": [[], []]}]}), "is no measured layer"),
        (json.dumps({"version": 1, "layers": [{**ROW, "groups": 1.5}]}), "layer 0 is no measured layer"),
        (json.dumps({"version": 1, "layers": [{**ROW, "seconds": True}]}), "layer 0 is no measured layer"),
        (json.dumps({"version": 1, "call": -1, "layers": [ROW]}), "a call takes -1 seconds"),
    ],
)
def test_wrong_tables(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_table(path, "fp32")


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: no such file"):
        read_table(tmp_path / "none.json", "fp32")


def declined(graph: Graph, clock: Measured, energy: float) -> tuple[dict[str, str], list[str]]:
    """Why layers stay, and what was done to the others."""
    _, ledger = PassManager([LowRank(cost=clock.of, energy=energy)]).run(graph)
    stays = {str(e.reason): e.status for e in ledger.entries if e.status == "declined"}
    return stays, [e.rule for e in ledger.entries if e.status == "applied"]


def thin(penalty: float) -> Iterator[Row]:
    """Products with few results or inputs, slower by a factor than their work says; 256 -> 1024 as it is."""
    for rank in (4, 8, 16, 32, 64, 128):
        for shape in (dense(256, rank), dense(rank, 256), dense(rank, 1024)):
            yield Row(shape, penalty * ideal(shape).seconds)


def test_splits_that_are_slower_are_declined_and_the_ledger_says_so() -> None:
    """256 -> 256 takes 41 us; two thin products of any rank, each slow, take more. 256 -> 1024 takes 160 us."""
    rows = [*thin(8.0), ideal(dense(256, 256)), ideal(dense(256, 1024))]
    clock = Measured(Table("slow with thin products", rows), "fp32")
    graph = graph_of()
    stays, made = declined(graph, clock, energy=0.99)
    assert len(stays) == 1 and len(made) == 1
    (reason,) = stays
    assert reason.startswith("its cheapest split, matrix ") and reason.endswith(" times as much")
    assert float(reason.split("costs ")[1].split()[0]) > 1
    assert made[0].startswith("matrix 8: 262144 to ")
    assert sum(n.op.name == "dense" for n in graph.nodes) == 3
    assert {n.outputs[0].name for n in graph.nodes if n.op.name == "dense"} == {"layer0", "layer1", "layer1/part0"}


def test_splits_that_are_faster_are_made() -> None:
    rows = [*thin(1.0), ideal(dense(256, 256)), ideal(dense(256, 1024))]
    clock = Measured(Table("fair", rows), "fp32")
    graph = graph_of()
    before = sum(map(clock.of, graph.nodes))
    stays, made = declined(graph, clock, energy=0.99)
    assert (stays, len(made)) == ({}, 2)
    after = sum(map(clock.of, graph.nodes))
    assert after < before / 4
    assert clock.told(graph.nodes).endswith("4 measured, 0 interpolated, 2 estimated")


def test_a_search_tells_what_it_declined_and_how_times_are_known(tmp_path: Path) -> None:
    """64 -> 64 takes 100 us, 64 -> 32 takes 12, and every thin product 10: only the first is worth two of them."""
    rows = [Row(dense(64, 64), 1e-4), Row(dense(64, 32), 1.2e-5)]
    thin = {dense(*sizes) for r in range(1, 64) for sizes in ((64, r), (r, 64), (r, 32))} - {r.shape for r in rows}
    path = tmp_path / "table.json"
    path.write_text(Table("slow to start", [*rows, *(Row(s, 1e-5) for s in thin)]).text())
    asked = Compression(
        data=str(ROOT / "examples" / "data" / "ai4i.npz"),
        latency=f"{path}=1.3x",
        techniques="low-rank",
        recover="none",
    )
    model = ROOT / "examples" / "fault_mlp_ai4i.onnx"
    done = compile_model(model, "onnx", tmp_path / "m.onnx", inputs={"input": (1, 8)}, compression=asked)
    assert done.report.compression is not None
    found = done.report.compression.as_json()
    (choice,) = found["recipe"]["choices"]
    assert (choice["technique"], choice["setting"]["form"]) == ("low-rank", "matrix")
    declined = [e for e in done.ledger.as_json() if e["status"] == "declined" and e["pass"] == "compress"]
    assert [e["reason"] for e in declined] == ["its cheapest split, matrix 1, costs 1.67 times as much"]
    assert found["times"]["measured"] >= 3
    assert "times of layers by the table of slow to start: " in done.report.compression.text()

"""How long layers take, from a table of layers that were measured on a device.

A layer that the table holds costs what was measured; one that is like others there, what those cost in proportion;
any other, what a roofline says that is fitted to the table. docs/latency.md has the format.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import combinations
from math import exp, log, log2, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compiler.errors import UsageError
from compiler.graph import Node
from compiler.op import OPS
from compiler.ops import Conv, Dense, MatMul
from compiler.tensor import Array

VERSION = 1
DTYPES = {"fp32": 4, "fp16": 2, "int8": 1}  # bytes of a number
EXACT, INTERPOLATED, ESTIMATED = "measured", "interpolated", "estimated"
NOTHING = 1e-9  # seconds of a layer that another computes on the way
NEAREST = 4  # rows of the same kind that an interpolation looks at
REACH = 2.0  # octaves, of all sizes together, beyond which rows are too far away
ALIGNED = 16  # numbers of channels that fill vectors; kernels for others are other kernels
FITTED = 4  # rows of a kind from which a roofline of their own is fitted
HINT = f"op, dtype ({', '.join(DTYPES)}), inputs and outputs as lists of shapes, seconds above 0"

Dims = tuple[int, ...]
Costs = tuple[float, float, float]  # seconds for each multiply-accumulate, for each byte, and for each layer


class Shape(NamedTuple):
    """What the time of a layer depends on. Of convolutions and dense layers `inputs` are the data and the weight, [out,
    in, *kernel]; a product with a constant matrix is a dense layer. `strides` and `dilations` are empty where they are
    1 throughout."""

    op: str
    dtype: str
    inputs: tuple[Dims, ...]
    outputs: tuple[Dims, ...]
    strides: Dims = ()
    dilations: Dims = ()
    groups: int = 1

    @property
    def is_linear(self) -> bool:
        return self.op in ("conv", "dense") and len(self.inputs) == 2

    @property
    def macs(self) -> int:
        """Multiply-accumulates; of other layers than convolutions and products, half a number of the results each."""
        results = sum(map(prod, self.outputs))
        if self.is_linear:
            return results * prod(self.inputs[1][1:])
        if self.op == "matmul" and len(self.inputs) == 2:
            return results * self.inputs[0][-1]
        return max(results // 2, 1)

    @property
    def moved(self) -> int:
        """Bytes that are read and written once."""
        return DTYPES[self.dtype] * (sum(map(prod, self.inputs)) + sum(map(prod, self.outputs)))

    @property
    def kind(self) -> tuple[object, ...]:
        """What layers have in common of which one tells the time of another."""
        if not self.is_linear:
            return (self.op, self.dtype)
        kernel = self.inputs[1][2:]
        grouped = "depthwise" if self.groups > 1 and self.inputs[1][1] == 1 else self.groups > 1
        return (self.op, self.dtype, kernel, self.strides, self.dilations, grouped)

    @property
    def place(self) -> Array:
        """Sizes in octaves, in which layers of a kind are near or far; channels that do not fill vectors are an octave
        from those that do."""
        if not self.is_linear:
            return np.array([log2(max(sum(map(prod, dims)), 1)) for dims in (self.inputs, self.outputs)])
        out, each = self.inputs[1][:2]
        pixels = max(prod(self.outputs[0]) // max(out, 1), 1)
        return np.array([log2(pixels), log2(max(each, 1)), log2(max(out, 1)), each % ALIGNED == 0, out % ALIGNED == 0])

    def as_json(self) -> dict[str, Any]:
        """Without what is 1 or empty."""
        known = {k: v for k, v in self._asdict().items() if k not in ("strides", "dilations", "groups")}
        known |= {k: list(v) for k in ("strides", "dilations") if (v := getattr(self, k))}
        return known | ({"groups": self.groups} if self.groups > 1 else {})


def shape_of(node: Node, dtype: str) -> Shape:
    """The shape of a layer of static shape, as if its numbers were of one type."""
    types = [t for t in node.input_types if t is not None]
    inputs, outputs = tuple(t.dims for t in types), tuple(v.type.dims for v in node.outputs)
    op = node.op
    if isinstance(op, Conv):
        strides, dilations = (() if set(s) <= {1} else tuple(s) for s in (op.strides, op.dilations))
        return Shape("conv", dtype, inputs[:2], outputs, strides, dilations, op.groups)
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if isinstance(op, Dense) or (isinstance(op, MatMul) and weight is not None and weight.is_const):
        flipped = not getattr(op, "transposed", False)
        if len(inputs[1]) == 2:
            return Shape("dense", dtype, (inputs[0], inputs[1][::-1] if flipped else inputs[1]), outputs)
    return Shape(op.name, dtype, inputs, outputs)


class Row(NamedTuple):
    """A layer that was measured."""

    shape: Shape
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """A line of a table."""
        return {**self.shape.as_json(), "seconds": float(f"{self.seconds:.4g}")}


class Table:
    """Rows of one device, and the seconds of a call without any layer."""

    def __init__(self, device: str, rows: Iterable[Row], call: float = 0.0) -> None:
        self.device, self.call = device, call
        self.rows = list(rows)
        self._known = {row.shape: row.seconds for row in self.rows}
        self._kinds: dict[tuple[object, ...], list[Row]] = {}
        for row in self.rows:
            self._kinds.setdefault(row.shape.kind, []).append(row)
        self._places = {kind: np.stack([r.shape.place for r in rows]) for kind, rows in self._kinds.items()}
        self._fits: dict[object, Costs] = {}

    @property
    def digest(self) -> str:
        """Of all that it says."""
        return sha256(self.text().encode()).hexdigest()[:12]

    def seconds(self, shape: Shape) -> tuple[float, str]:
        """The time of a layer, and whether it was EXACT, INTERPOLATED or ESTIMATED."""
        known = self._known.get(shape)
        if known is not None:
            return known, EXACT
        if not sum(map(prod, shape.outputs)):
            return 0.0, ESTIMATED
        found = self._interpolated(shape)
        return (self._roofline(shape), ESTIMATED) if found is None else (found, INTERPOLATED)

    def _interpolated(self, shape: Shape) -> float | None:
        """What the nearest rows take in proportion to their roofline; None if none is near, or if those that are have
        another number of sizes."""
        rows = self._kinds.get(shape.kind)
        if rows is None:
            return None
        distances = np.sqrt(np.square(self._places[shape.kind] - shape.place).sum(1))
        order = np.argsort(distances, kind="stable")[:NEAREST]
        if distances[order[0]] > REACH:
            return None
        near = [i for i in order.tolist() if distances[i] <= 2 * REACH]
        weights = np.array([1.0 / (distances[i] + 0.05) ** 2 for i in near])
        ratios = np.array([log(rows[i].seconds / self._roofline(rows[i].shape)) for i in near])
        return exp(float(weights @ ratios) / float(weights.sum())) * self._roofline(shape)

    def _roofline(self, shape: Shape) -> float:
        a, b, c = self._fit(shape)
        return max(a * shape.macs + b * shape.moved + c, 1e-9)

    def _fit(self, shape: Shape) -> Costs:
        """Of the kind if it has rows enough, else of the operation, else of all."""
        for key, rows in ((shape.kind, self._kinds.get(shape.kind, [])), (shape.op, None), (None, None)):
            if key not in self._fits:
                mine = rows if rows is not None else [r for r in self.rows if key in (None, r.shape.op)]
                if len(mine) < FITTED and key is not None:
                    continue
                self._fits[key] = fitted(mine)
            return self._fits[key]
        raise AssertionError("all rows are always enough")

    def text(self) -> str:
        """As a file."""
        head = {"version": VERSION, "device": self.device, "call": float(f"{self.call:.4g}")}
        lines = ",\n".join("  " + json.dumps(row.as_json()) for row in self.rows)
        return f'{json.dumps(head)[:-1]}, "layers": [\n{lines}\n]}}\n'


class Measured:
    """The cost of layers by a table, in one precision; counts how each that it was asked of is known."""

    def __init__(self, table: Table, dtype: str) -> None:
        self.table, self.dtype, self.call = table, dtype, table.call
        self.chip = f"{table.device} {table.digest}"
        self._found: dict[Shape, tuple[float, str]] = {}

    def of(self, node: Node) -> float:
        """A layer's."""
        shape = shape_of(node, self.dtype)
        if shape not in self._found:
            self._found[shape] = self.table.seconds(shape)
        return self._found[shape][0]

    def counts(self, nodes: Iterable[Node]) -> dict[str, int]:
        """How the times of a model's layers are known, and of how many."""
        found = Counter(self.table.seconds(shape_of(n, self.dtype))[1] for n in nodes)
        return {how: found[how] for how in (EXACT, INTERPOLATED, ESTIMATED)}

    def told(self, nodes: Iterable[Node]) -> str:
        """The same in words."""
        parts = ", ".join(f"{count} {how}" for how, count in self.counts(nodes).items())
        return f"times of layers by the table of {self.table.device}: {parts}"


def read_table(path: Path, dtype: str) -> Table:
    """The rows of one precision in a file; UsageError for what is no table, or has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"the table {str(path)!r} cannot be read: {(e.strerror or str(e)).lower()}") from None
    except ValueError:
        raise UsageError(f"the table {str(path)!r} is not JSON", hint="docs/latency.md has the format") from None
    if not isinstance(content, Mapping) or not isinstance(content.get("layers"), list):
        raise UsageError(f"{str(path)!r} is not a table of layers", hint="docs/latency.md has the format")
    if content.get("version") != VERSION:
        raise UsageError(f"the table {str(path)!r} has version {content.get('version')!r}", hint=f"known: {VERSION}")
    rows = [_row(entry, f"{path.name}, layer {i}") for i, entry in enumerate(content["layers"])]
    mine = [row for row in rows if row.shape.dtype == dtype]
    if not mine:
        others = ", ".join(sorted({row.shape.dtype for row in rows})) or "none at all"
        raise UsageError(
            f"the table {str(path)!r} has no layers in {dtype}, in which the target computes, but {others}",
            hint="measure it in that precision, or choose another with --precision",
        )
    call = content.get("call", 0.0)
    if not _is_time(call, zero=True):
        raise UsageError(f"the table {str(path)!r} says that a call takes {call!r} seconds")
    return Table(str(content.get("device") or path.stem), mine, float(call))


def _row(entry: object, where: str) -> Row:
    if not isinstance(entry, Mapping):
        raise UsageError(f"{where} is no measured layer", hint=HINT)
    unknown = entry.keys() - {*Shape._fields, "seconds", "name"}
    if unknown:
        raise UsageError(f"{where} has unknown keys: {', '.join(sorted(map(str, unknown)))}")
    try:
        shape = _shape(entry)
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"{where} is no measured layer", hint=HINT) from None
    if shape.op not in OPS:
        raise UsageError(f"{where} has an unknown op: {shape.op!r}", hint="--emit-ir shows how layers are named")
    if shape.op in ("conv", "dense") and not shape.is_linear:
        raise UsageError(
            f"{where} is a {shape.op} with {len(shape.inputs)} inputs", hint="give the data and the weight, no bias"
        )
    return Row(shape, float(entry["seconds"]))


def _shape(entry: Mapping[str, Any]) -> Shape:
    """KeyError, TypeError or ValueError for what is not the shape of a layer that was measured."""
    inputs, outputs = (tuple(map(_dims, entry[k])) for k in ("inputs", "outputs"))
    strides, dilations = (_dims(entry.get(k, ())) for k in ("strides", "dilations"))
    strides, dilations = (() if set(s) <= {1} else s for s in (strides, dilations))
    (groups,) = _dims([entry.get("groups", 1)])
    shape = Shape(str(entry["op"]), entry["dtype"], inputs, outputs, strides, dilations, groups)
    if shape.dtype not in DTYPES or not inputs or not outputs or not _is_time(entry["seconds"]):
        raise ValueError(entry)
    if (shape.is_linear and len(inputs[1]) < 2) or (shape.op == "matmul" and not all(inputs)):
        raise ValueError(entry)
    return shape


def _dims(found: Sequence[int]) -> Dims:
    if not all(type(n) is int and n > 0 for n in found):
        raise ValueError(found)
    return tuple(found)


def _is_time(found: object, zero: bool = False) -> bool:
    return (
        isinstance(found, int | float)
        and not isinstance(found, bool)
        and (0 < found < float("inf") or (zero and found == 0))
    )


def fitted(rows: Sequence[Row]) -> Costs:
    """The costs, none below 0, with the least squares of relative errors: of the solutions with some of them 0 the best
    that has no negative one."""
    seconds = np.array([row.seconds for row in rows])
    terms = np.array([[row.shape.macs, row.shape.moved, 1.0] for row in rows]) / seconds[:, None]
    best, least = (0.0, 0.0, float(seconds.min())), float("inf")
    for count in (1, 2, 3):
        for chosen in combinations(range(3), count):
            part = terms[:, chosen]
            scale = np.maximum(np.abs(part).max(0), 1e-300)
            found = np.linalg.lstsq(part / scale, np.ones(len(rows)), rcond=None)[0] / scale
            error = float(np.square(part @ found - 1).sum())
            if (found >= 0).all() and error < least - 1e-12:
                least = error
                full = np.zeros(3)
                full[list(chosen)] = found
                best = (float(full[0]), float(full[1]), float(full[2]))
    return best

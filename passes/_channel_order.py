"""Layers once more, with the channels of their operands and results in other orders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.graph import NOWHERE, Graph, Node, Origin, Value
from compiler.op import Op
from compiler.ops.parts import Concat, Slice
from compiler.tensor import Array
from passes._channel_places import Places, Run
from passes._channel_regions import joins
from passes._channels import Base, Channels
from passes._each_channel import each_channel, reordered


class Reorder:
    """Builds what changes, in front of what it takes the place of.

    added   the new layers
    ends    results whose order stays as it was, and what takes their place
    most    operands that a concat may have
    """

    def __init__(self, graph: Graph, channels: Channels, places: Places, most: int) -> None:
        self.graph = graph
        self.channels = channels
        self.places = places
        self.most = most
        self.added: list[Node] = []
        self.ends: list[tuple[Value, Value]] = []
        self._values: dict[Base, Value] = {}
        self._slices: dict[Run, Value] = {}
        for node in list(graph.nodes):
            self._again(node)

    def _again(self, node: Node) -> None:
        fixed = self.channels.fixed
        reading = self.channels.readings.get(node)
        made = self.channels.made.get(node.outputs[0]) if len(node.outputs) == 1 else None
        base = None if made is None or fixed[made[0].order] else made[0]
        columns = None
        operands = list(node.inputs)
        if reading is not None and not fixed[reading.base.order]:
            columns = np.argsort(self.places.places(reading.base)[reading.of])
            operands[reading.operand] = self._value(reading.base, node)
        if columns is None and base is None:
            return
        operands = self._reordered(node, operands, columns, None if base is None else self.places.order(base))
        v = self._add(node.op, operands, node, node.origin, node.output.name)
        if base is None:
            self.ends.append((node.output, v))
        else:
            self._values[base] = v

    def _reordered(
        self, node: Node, operands: list[Value | None], columns: Array | None, rows: Array | None
    ) -> list[Value | None]:
        """The operands, constants among them for channels that lie in the order `columns` in what is read, and are to
        lie in the order `rows` in the result; None for what stays."""
        found: list[Value | None] = []
        alone = each_channel(node) is not None
        for i, c in enumerate(operands):
            data = None if c is None else c.data
            if c is None or data is None:
                found.append(c)
                continue
            if alone:
                data = data if columns is None else reordered(node, i, columns)
            else:
                data = data if rows is None else data[rows]
                data = data[:, columns] if columns is not None and i == 1 else data
            same = data is c.data
            found.append(c if same else self.graph.const(np.ascontiguousarray(data), c.name, c.origin))
        return found

    def _value(self, base: Base, before: Node) -> Value:
        """A base in its new order, put together in front of the first layer that reads it."""
        if base not in self._values:
            if base.value is None:
                runs = self.places.runs(base)
                pieces = [self._piece(r, before) for r in runs]
                origin = NOWHERE.union(before.origin, *(v.node.origin for v in pieces if v.node is not None))
                for i, n in joins([r.width for r in runs], self.most):
                    pieces[i : i + n] = [self._add(Concat(axis=1), pieces[i : i + n], before, origin)]
                self._values[base] = pieces[0]
            else:
                self._values[base] = base.value
        return self._values[base]

    def _piece(self, run: Run, before: Node) -> Value:
        x = self._value(run.base, before)
        if run.is_whole:
            return x
        if run not in self._slices:
            starts = tuple(run.start if i == 1 else 0 for i in range(x.type.rank))
            ends = tuple(run.stop if i == 1 else d for i, d in enumerate(x.type.dims))
            origin = before.origin if x.node is None else x.node.origin
            cut = Slice(starts=starts, ends=ends, steps=(1,) * x.type.rank)
            self._slices[run] = self._add(cut, [x], before, origin)
        return self._slices[run]

    def _add(self, op: Op, operands: Sequence[Value | None], before: Node, origin: Origin, name: str = "") -> Value:
        (v,) = self.graph.add(op, *operands, before=before, origin=origin, names=(name,))
        assert v.node is not None
        self.added.append(v.node)
        return v

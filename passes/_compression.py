"""What compressions of layers have in common, so that one search can choose among all of them.

A technique (low rank, pruned channels, fewer bits) lists candidates: what it would make of one layer, how large that
is, and how far its results would be off. Nothing changes until a candidate is applied, to the graph it came from or to
a copy of it. Layers are known by names that survive clones and the compression of other layers, and settings are
plain values, so that (layer, technique, setting) is a line of a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from compiler.graph import Graph, Node, Value
from compiler.record import Scalar
from compiler.tensor import Array
from passes._weight_bits import bits_of

Setting = Mapping[str, Scalar]  # the options of a technique for one layer
Cost = Callable[[Node], float]  # of one layer, in whatever is to be saved: seconds, joules, multiply-accumulates


class Rows(Protocol):
    """Rows of data on a graph with given inputs."""

    feeds: Sequence[Mapping[str, Array]]

    def each(self, graph: Graph, values: Sequence[Value]) -> Iterator[list[Array]]:
        """The values in floats, row by row."""

    def stages(self, graph: Graph, cuts: Sequence[Value]) -> Generator[list[Array], list[Array] | None, None]:
        """The values on all rows, one after the other, in the order of their layers; what is sent back is what later
        layers read. Constants of layers behind a value may change before the next one is asked for."""


class Work(NamedTuple):
    """Parameters, multiply-accumulates, and the cost of layers.

    packed  how many of the parameters are not stored as the target stores floats
    bits    what those take instead, with scales, tables and masks
    """

    parameters: int
    macs: int
    cost: float
    packed: int = 0
    bits: int = 0

    def nbytes(self, each: float) -> float:
        """What is stored, with so many bytes for a float."""
        return (self.parameters - self.packed) * each + self.bits / 8

    def __add__(self, other: object) -> Work:
        if not isinstance(other, Work):
            return NotImplemented
        return Work(
            self.parameters + other.parameters,
            self.macs + other.macs,
            self.cost + other.cost,
            self.packed + other.packed,
            self.bits + other.bits,
        )

    def __sub__(self, other: Work) -> Work:
        return self + Work(-other.parameters, -other.macs, -other.cost, -other.packed, -other.bits)


class Candidate(NamedTuple):
    """One layer, or several that belong together, made smaller in one way.

    layer      the name of the layer, by `layer_names`
    technique  the name of the `Technique`
    setting    its options, which `Technique.apply` takes
    before     the work of all layers that change
    after      the work of what takes their place
    error      predicted squared error of what they compute, relative to its variance: 0 exact, 1 all is lost
    sizes      numbers in each of the weights that take the place of one; none if it stays one
    coupled    of several layers that change, how many numbers each has less, by their names
    """

    layer: str
    technique: str
    setting: Setting
    before: Work
    after: Work
    error: float
    sizes: tuple[int, ...] = ()
    coupled: tuple[tuple[str, int], ...] = ()

    @property
    def saved(self) -> Work:
        """What it makes less."""
        return self.before - self.after


class Technique(Protocol):
    """A way to make layers smaller. It knows no target: alignments and the cost function are its options."""

    name: str

    def candidates(self, graph: Graph, rows: Rows | None) -> Iterator[Candidate]:
        """All that is worth considering, layer by layer in the order of the graph, from small to large savings. The
        graph stays as it is. With rows errors are those of the layers' results on them, without of the weights."""

    def apply(self, graph: Graph, chosen: Mapping[str, Setting], rows: Rows | None) -> Sequence[Node]:
        """Compress layers, by their names, each by one of its settings; returns the layers that were made. With rows
        weights are fitted to what each layer reads once those before it are compressed. UsageError for a name or a
        setting that does not fit the graph, before anything has changed."""


class Recovery(Protocol):
    """A way to win back, without labels, some of what compression lost."""

    name: str

    def run(self, before: Graph, after: Graph, rows: Rows) -> int:
        """Change constants of `after`, and none of its layers, so that it gives more of what `before`, the model as it
        was, gives on the rows; returns how many changed. Both have the same inputs and outputs."""


def macs_of(node: Node) -> float:
    """The cost of a layer where nothing better is known."""
    return float(node.macs)


def work_of(nodes: Iterable[Node], cost: Cost = macs_of) -> Work:
    """The sum over layers; a constant that several of them read counts once."""
    nodes = list(nodes)
    constants = {id(v.data): v for n in nodes for v in n.inputs if v is not None and v.data is not None}.values()
    packed = [v for v in constants if v.type.palette is not None or v.type.quant is not None]
    return Work(
        sum(v.type.size for v in constants),
        sum(n.macs for n in nodes),
        sum(map(cost, nodes)),
        sum(v.type.size for v in packed),
        sum(map(bits_of, packed)),
    )


def layer_names(graph: Graph) -> dict[str, Node]:
    """Layers by the names of their first results, numbered where several have the same or none. A technique gives the
    result that takes the place of a layer's the name by which the layer is known, and names of their own to others that
    it makes: so all names hold, whatever else is compressed."""
    found: dict[str, Node] = {}
    for node in graph.nodes:
        name = node.outputs[0].name or node.op.name
        count = 0
        unique = name
        while unique in found:
            count += 1
            unique = f"{name}#{count}"
        found[unique] = node
    return found

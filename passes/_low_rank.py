"""Low-rank splits as a technique of compression: what each layer could become, and making it so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple

from compiler.errors import UsageError
from compiler.graph import Graph, Node
from compiler.rewrite import Observer
from passes._compression import Candidate, Cost, Rows, Setting, Work, layer_names, macs_of
from passes._low_rank_fit import fit_all
from passes._low_rank_forms import NAMES, Form, Grid, Ranks, forms_of, thinned
from passes._low_rank_layers import Layer, Seen, is_linear, layer_of, observed, refusal
from passes._low_rank_split import Plan, Split, work_after, work_before

LEAST = 1024  # parameters of a layer that is worth splitting
CHOICES = 256  # ranks of a layer that are considered


class Option(NamedTuple):
    """One way to split a layer, the work of what that makes, and the squared error that is expected of its results,
    relative to their variance."""

    form: Form
    ranks: Ranks
    after: Work
    error: float

    @property
    def setting(self) -> dict[str, str | int]:
        """As plain values."""
        return {"form": self.form.name, **{f"rank{i or ''}": r for i, r in enumerate(self.ranks)}}

    def __str__(self) -> str:
        return f"{self.form.name} {'x'.join(map(str, self.ranks))}"


class Menu(NamedTuple):
    """A layer, its work, and all ways to split it that are cheaper; of those that others beat in all respects, none.
    `declined`: why there are none, if so."""

    layer: Layer
    before: Work
    options: list[Option]
    seen: Seen | None
    declined: str = "no rank makes it cheaper"

    @property
    def node(self) -> Node:
        return self.layer.node


class Refused(NamedTuple):
    """A linear layer that is not split, and why."""

    node: Node
    reason: str


Chosen = tuple[Menu | Refused, Option | str]  # a layer, and how it is split or why it stays


class Splits:
    """Low-rank splits of dense layers, convolutions and tables of rows.

    forms     that may be used, of `NAMES`
    multiple  ranks are multiples of this, as the hardware likes them
    least     parameters of the smallest layer that is split
    cost      of a layer; a split must cost less. Without, it must not have more multiply-accumulates, but for
              tables, and have fewer parameters.

    declined  layers of which `candidates` found no split that is worth having, and why
    """

    name = "low-rank"

    def __init__(
        self,
        forms: Sequence[str] = NAMES,
        multiple: int = 1,
        least: int = LEAST,
        cost: Cost | None = None,
    ) -> None:
        unknown = [name for name in forms if name not in NAMES]
        if unknown:
            raise UsageError(
                f"there is no low-rank form named {', '.join(map(repr, unknown))}", hint=f"known: {', '.join(NAMES)}"
            )
        if multiple < 1:
            raise UsageError(f"ranks cannot be multiples of {multiple}", hint="give 1 for any, or 8, 16, 32")
        self.forms = (*forms, "table")
        self.multiple = multiple
        self.least = least
        self.cost = cost
        self.declined: dict[str, str] = {}

    def menus(self, graph: Graph, rows: Rows | None, rank: int = 0) -> Iterator[Menu | Refused]:
        """What there is for each linear layer, in the order of the graph; `rank`: of this one rank alone."""
        grid: Grid = (lambda count: [min(rank, count)]) if rank else self._grid
        found: list[Layer | Refused] = []
        for name, node in layer_names(graph).items():
            if is_linear(node):
                reason = refusal(node, self.least)
                found.append(Refused(node, reason) if reason else layer_of(name, node))
        layers = [layer for layer in found if isinstance(layer, Layer)]
        seen: Mapping[str, Seen] = {} if rows is None else observed(graph, layers, rows)
        for item in found:
            yield self._menu(item, seen.get(item.name), grid) if isinstance(item, Layer) else item

    def candidates(self, graph: Graph, rows: Rows | None) -> Iterator[Candidate]:
        """See `Technique`."""
        for menu in self.menus(graph, rows):
            if isinstance(menu, Menu):
                if not menu.options:
                    self.declined[menu.layer.name] = menu.declined
                for o in menu.options:
                    sizes = tuple(map(prod, o.form.shapes(menu.layer.tensor.shape, o.ranks)))
                    yield Candidate(menu.layer.name, self.name, o.setting, menu.before, o.after, o.error, sizes)

    def apply(self, graph: Graph, chosen: Mapping[str, Setting], rows: Rows | None) -> list[Node]:
        """See `Technique`."""
        made: list[Node] = []
        for split in _made(graph, [self._plan(graph, name, setting) for name, setting in chosen.items()], rows):
            split.settle()
            made.extend(split.nodes)
        return made

    def settle(self, graph: Graph, chosen: Sequence[Chosen], rows: Rows | None, observer: Observer) -> int:
        """Split the layers for which an option was chosen; returns how many were, and tells the observer of each."""
        count = 0
        taken = [(m, o) for m, o in chosen if isinstance(m, Menu) and isinstance(o, Option)]
        plans = [Plan(menu.layer, o.form, o.ranks) for menu, o in taken]
        for split, (menu, o) in zip(_made(graph, plans, rows), taken, strict=True):
            told = f"{o}: {menu.before.parameters} to {o.after.parameters} parameters, error {o.error:.2%} expected"
            count += split.settle(told, observer)
        return count

    def _grid(self, count: int) -> Sequence[int]:
        return thinned(range(self.multiple, count + 1, self.multiple), CHOICES)

    def _menu(self, layer: Layer, seen: Seen | None, grid: Grid) -> Menu:
        cost = self.cost or macs_of
        before = work_before(layer, cost)
        biased = layer.bias is not None or seen is not None  # rows shift it
        options = [
            Option(form, ranks, work_after(layer, form, ranks, cost, biased), error)
            for form in forms_of(layer)
            if form.name in self.forms
            for ranks, error in form.errors(layer, seen, grid)
        ]
        kept = _undominated([o for o in options if self.saves(layer, before, o.after)])
        if kept or not options or self.cost is None:
            return Menu(layer, before, kept, seen)
        least = min(options, key=lambda o: o.after.cost)
        return Menu(
            layer,
            before,
            kept,
            seen,
            f"its cheapest split, {least}, costs {least.after.cost / before.cost:.2f} times as much",
        )

    def saves(self, layer: Layer, before: Work, after: Work) -> bool:
        """Whether a split is worth having at all."""
        if self.cost is not None:
            return after.cost < before.cost
        return after.parameters < before.parameters and (after.macs <= before.macs or layer.is_table)

    def _plan(self, graph: Graph, name: str, setting: Setting) -> Plan:
        node = layer_names(graph).get(name)
        if node is None or not is_linear(node) or refusal(node, 0, 2):
            raise UsageError(f"no layer named {name!r} can be split", hint="a recipe holds for the model it is of")
        layer = layer_of(name, node)
        form = next((f for f in forms_of(layer) if f.name == setting.get("form")), None)
        ranks = tuple(int(setting[key]) for key in ("rank", "rank1") if key in setting)
        if form is None or len(ranks) != 1 + (form.name == "tucker") or min(ranks) < 1:
            raise UsageError(f"layer {name!r} cannot be split by {dict(setting)}", hint="a recipe holds for its model")
        return Plan(layer, form, ranks)


def _made(graph: Graph, plans: Sequence[Plan], rows: Rows | None) -> Iterator[Split]:
    """The splits one by one, each to be settled before the next."""
    weights = fit_all(graph, plans, rows)
    yield from (Split(graph, plan, weights[plan.layer.name]) for plan in plans)


def _undominated(options: list[Option]) -> list[Option]:
    """Those that no other has less error than and no more work, from little to much error."""
    kept: list[Option] = []
    for o in sorted(options, key=lambda o: (o.error, o.after)):
        if not any(all(a <= b for a, b in zip(k.after, o.after, strict=True)) for k in kept):
            kept.append(o)
    return kept

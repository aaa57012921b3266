"""What is to be chosen from: the candidates of all layers with the noise that they make, and pairs of them.

A layer may change its form (be split, lose channels or weights) and be stored in fewer bits. What either saves depends
on the other, and what pruned channels save on the bits of all layers that lose them: those are taken as they were
chosen the last time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from compiler.graph import Graph
from passes._allocate import Amount, Frontier, Option, thinned
from passes._bits_technique import OPTION, WeightBits
from passes._compress_make import Data
from passes._compression import Candidate, Rows, Setting, Technique
from passes._sensitivity import Rated, Store, options_of, rated
from passes._weight_bits import LEAST, storage_of

MENU = 32  # settings of a layer and technique that are considered
WORST = 100.0  # times the noise of rounding one weight that rounding what it was split into is taken to make, at most
Menus = Mapping[str, Sequence[Rated]]  # by layer
Bits = Mapping[str, Setting]  # by layer
Applies = Callable[[Graph, Rows], object]


class Measuring(NamedTuple):
    """How candidates are measured.

    each    bytes of a float, if bytes are to be saved
    joint   whether pruned weights may be in fewer bits too
    """

    data: Data
    store: Store
    amount: Amount
    each: float | None
    joint: bool
    tell: Callable[[str], None]

    def noise(self, graph: Graph, told: str, apply: Applies) -> float:
        """Of a copy of the graph to which something was done."""
        self.tell(told)
        twin = graph.clone()
        apply(twin, self.data.few)
        return self.data.judge.noise(twin)


class Menu:
    """Of a graph, measured once."""

    def __init__(self, graph: Graph, forms: Sequence[Technique], storage: WeightBits | None, how: Measuring) -> None:
        self.how = how
        self._forms = [self._rated(graph, t, t.candidates(graph, how.data.rows)) for t in forms]
        every = [] if storage is None else list(storage.candidates(graph, how.data.rows))
        self._stores = {(c.layer, c.setting[OPTION]): c for c in every}
        self._bits: Menus = {} if storage is None else self._rated(graph, storage, every)
        self._harm: dict[tuple[str, str], float] = {}
        if storage is not None:
            for technique, menus in zip(forms, self._forms, strict=True):
                for layer in sorted(menus.keys() & self._bits.keys()):
                    self._harm[technique.name, layer] = self._harmed(graph, technique, storage, layer, menus[layer])

    @property
    def is_mixed(self) -> bool:
        """Whether both forms and bits are to be chosen."""
        return bool(self._bits) and any(self._forms)

    @property
    def has_bits(self) -> bool:
        """Whether bits are to be chosen."""
        return bool(self._bits)

    def apart(self) -> Iterator[Frontier]:
        """Of one technique of several at a time, with bits."""
        some = [menus for menus in self._forms if menus]
        for menus in some if len(some) > 1 else ():
            yield Frontier((*self._stored(), *self._of(menus, {})))

    def stored_only(self) -> Frontier:
        """Of bits alone."""
        return Frontier(self._stored())

    def uniform(self) -> Iterator[Bits]:
        """Every way to store all layers alike."""
        for storage in dict.fromkeys(storage for _, storage in self._stores):
            yield {layer: {OPTION: storage} for layer in self._bits}

    def around(self, bits: Bits) -> Frontier:
        """Of forms alone, where bits stay as they are."""
        return Frontier(o for menus in self._forms for o in self._beside(menus, bits))

    def _beside(self, menus: Menus, bits: Bits) -> Iterator[Option]:
        for layer, menu in menus.items():
            stored = self._stores[layer, bits[layer][OPTION]] if layer in bits else None
            by_bits = 0.0 if stored is None else self.how.amount(stored.saved)
            for form, noise in menu:
                if stored is None or self._may_pair(form):
                    saved = self._saved(form, stored, bits) - by_bits
                    yield Option(layer, form.technique, form.setting, saved, noise)

    def frontier(self, bits: Bits) -> Frontier:
        """Of all there is, where layers are in so few bits by and large."""
        return Frontier((*self._stored(), *(o for menus in self._forms for o in self._of(menus, bits))))

    def _stored(self) -> Iterator[Option]:
        for menu in self._bits.values():
            yield from options_of(menu, self.how.amount)

    def _of(self, menus: Menus, bits: Bits) -> Iterator[Option]:
        """Options of one technique, alone and in pairs."""
        for layer, menu in menus.items():
            for form, noise in menu:
                alone = self._saved(form, None, bits)
                yield Option(layer, form.technique, form.setting, alone, noise)
                for stored, more in self._bits.get(layer, ()):
                    if self._may_pair(form):
                        lost = noise + more * self._harm[form.technique, layer]
                        also = stored.technique, stored.setting
                        yield Option(layer, form.technique, form.setting, self._saved(form, stored, bits), lost, also)

    def _may_pair(self, form: Candidate) -> bool:
        return self.how.joint or not form.saved.bits

    def _saved(self, form: Candidate, stored: Candidate | None, bits: Bits) -> float:
        """By a candidate, and by storing what it leaves of its layer so. Weights that are large enough take their part
        with a table or scales of their own; numbers that coupled layers lose count by what those are stored in."""
        amount, each = self.how.amount, self.how.each
        if not self._bits or each is None:
            alone = amount(form.saved)
            left = amount(form.after) / (amount(form.before) or 1.0)
            return alone if stored is None else alone + amount(stored.saved) * left
        whole = form.before.nbytes(each)
        packed = 0.0 if stored is None else stored.before.nbytes(each) - stored.after.nbytes(each)
        if form.coupled:
            own = {} if stored is None else {form.layer: stored.setting}
            number = {layer: _number(setting) for layer, setting in {**bits, **own}.items()}
            return packed + sum(n * number.get(layer, each) for layer, n in form.coupled)
        if stored is None:
            return whole - form.after.nbytes(each)
        width = _number(stored.setting)
        tables = stored.after.bits / 8 - stored.after.packed * width
        if not form.sizes:
            return packed + form.saved.parameters * width + form.saved.bits / 8
        left = (form.after.parameters - sum(form.sizes)) * each
        left += sum(n * each if n < LEAST else n * width + tables for n in form.sizes)
        return whole - left

    def _rated(self, graph: Graph, technique: Technique, candidates: Iterable[Candidate]) -> Menus:
        """The candidates of each layer that are worth considering, with the noise that they make."""
        how = self.how
        how.tell(f"candidates of {technique.name}")

        def noise(c: Candidate) -> float:
            chosen = {c.layer: c.setting}
            told = f"{technique.name} {c.layer}"
            return how.noise(graph, told, lambda twin, rows: technique.apply(twin, chosen, rows))

        found = sorted(candidates, key=lambda c: c.layer)
        kept = {layer: thinned(menu, how.amount, MENU) for layer, menu in groupby(found, key=lambda c: c.layer)}
        return {layer: rated(menu, noise, how.store) for layer, menu in kept.items() if menu}

    def _harmed(
        self, graph: Graph, technique: Technique, storage: WeightBits, layer: str, menu: Sequence[Rated]
    ) -> float:
        """How many times the noise of rounding a layer rounding it makes once it has another form, as measured of the
        middle ones."""
        form, alone = menu[(len(menu) - 1) // 2]
        bits = self._bits[layer]
        stored, more = bits[(len(bits) - 1) // 2]
        if not self._may_pair(form) or more <= 0:
            return 1.0

        def both(twin: Graph, rows: Rows) -> None:
            technique.apply(twin, {layer: form.setting}, rows)
            storage.apply(twin, {layer: stored.setting}, rows)

        names = f"{form.technique}+{stored.technique}"
        pair = form._replace(technique=names, setting={**form.setting, **stored.setting})
        noise = self.how.store.noise(pair, lambda _: self.how.noise(graph, f"{names} {layer}", both))
        return min(max((noise - alone) / more, 1.0), WORST)


def _number(setting: Setting) -> float:
    """Bytes of a number."""
    return storage_of(str(setting[OPTION])).bits / 8

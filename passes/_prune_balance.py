"""Units of channels that take as many from each group of a grouped convolution.

The groups that a convolution computes and those that another one reads, behind a shuffle, are two partitions of the
same channels. A unit takes one channel of each group of both: it is a perfect matching between the groups. Where all
groups of both have the same number of channels, the graph of channels between groups is regular, so that it consists of
such matchings alone (D. König, 1916).
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from compiler.tensor import Array
from passes._prune_units import Units

Cells = dict[tuple[int, int], list[int]]


def balance(u: Units, scores: Array) -> None:
    """Make numbers one across the blocks of `u`, those of like scores [numbers] where there is a choice; what does not
    fit stays. Classes are new afterwards."""
    for tables in _components(u):
        if len(tables) == 1:
            _by_rank(u, tables[0], scores)
        elif len(tables) == 2 and len(tables[0]) == len(tables[1]):
            _by_matching(u, tables[0], tables[1], scores)
        else:
            for table in tables:
                u.equal(table, table[:1])
    u.close()
    while sum(_fix_uneven(u, table) for table in u.blocks):
        u.close()
    for ids in list(u.of.values()):
        if len(np.unique(u.classes[ids])) == 1:
            u.fix_ids(ids)
    u.close()


def _components(u: Units) -> list[list[Array]]:
    """Partitions that share channels, side by side; equal ones once."""
    found: list[list[Array]] = []
    for table in (u.classes[b] for b in u.blocks):
        mine = set(table.reshape(-1).tolist())
        near = [c for c in found if any(mine & set(t.reshape(-1).tolist()) for t in c)]
        joined = [t for c in near for t in c]
        if not any(_blocks_of(t) == _blocks_of(table) for t in joined):
            joined.append(table)
        found = [c for c in found if all(c is not n for n in near)] + [joined]
    return found


def _blocks_of(table: Array) -> set[frozenset[int]]:
    return {frozenset(row.tolist()) for row in table}


def _owners(u: Units, table: Array) -> dict[int, int]:
    """The block of each class that may go and is in one place only."""
    values, counts = np.unique(table, return_counts=True)
    once = set(values[counts == 1].tolist())
    return {c: i for i, row in enumerate(table) for c in row.tolist() if c in once and not u.fixed[c]}


def _by_rank(u: Units, table: Array, scores: Array) -> None:
    owners = _owners(u, table)
    rows: list[list[int]] = [[] for _ in table]
    for c in sorted(owners, key=lambda c: scores[c]):
        rows[owners[c]].append(c)
    for together in zip(*rows, strict=False):
        u.equal(np.array(together), np.array(together[:1]))


def _by_matching(u: Units, a: Array, b: Array, scores: Array) -> None:
    first, second = _owners(u, a), _owners(u, b)
    cells: Cells = defaultdict(list)
    for c in sorted(set(first) & set(second), key=lambda c: -scores[c]):
        cells[first[c], second[c]].append(c)
    while (pairs := _matching(cells, len(a))) is not None:
        together = np.array([cells[r, c].pop() for c, r in pairs.items()])
        u.equal(together, together[:1])


def _matching(cells: Cells, size: int) -> dict[int, int] | None:
    """Columns with a row each, whose cells are not empty; None if some row finds none. By augmenting paths."""
    owner: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column in sorted(range(size), key=lambda c: -len(cells.get((row, c), ()))):
            if cells.get((row, column)) and column not in seen:
                seen.add(column)
                if column not in owner or place(owner[column], seen):
                    owner[column] = row
                    return True
        return False

    return owner if all(place(row, set()) for row in range(size)) else None


def _fix_uneven(u: Units, blocks: Array) -> bool:
    """Fix classes of which blocks have unlike numbers; whether there were any."""
    table = u.classes[blocks]
    found = [
        c for c in np.unique(table).tolist() if not u.fixed[c] and len({int((row == c).sum()) for row in table}) > 1
    ]
    for c in found:
        u.fix_ids(np.array([c]))
    return bool(found)

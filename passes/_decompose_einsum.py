"""Einstein sums as transposes and matrix products, two operands at a time from the left."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from string import ascii_uppercase

from compiler import ops
from compiler.graph import Value
from passes._decompose import Layers, decomposes

Term = tuple[Value, str]  # a value and a letter for each of its axes


def _spelled(op: ops.Einsum, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The terms and the result with a letter for every axis; axes under an ellipsis get unused ones, the last the
    same in all terms."""
    left, result = op.equation.split("->")
    unused = [c for c in ascii_uppercase if c not in op.equation] + [chr(0x391 + i) for i in range(16)]
    terms, widest = [], 0
    for term, rank in zip(left.split(","), ranks, strict=True):
        hidden = rank - len(term.replace("...", "")) if "..." in term else 0
        terms.append(term.replace("...", "".join(reversed(unused[:hidden]))))
        widest = max(widest, hidden)
    return terms, result.replace("...", "".join(reversed(unused[:widest])))


@decomposes(ops.Einsum)
def _einsum(add: Layers, op: ops.Einsum, *operands: Value) -> Value:
    terms, result = _spelled(op, [x.type.rank for x in operands])
    sizes: dict[str, int] = {}
    for term, v in zip(terms, operands, strict=True):
        for letter, d in zip(term, v.type.dims, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), d)
    x, held = _summed(add, _diagonal(add, operands[0], terms[0]), "".join(terms[1:]) + result)
    for i, (term, y) in enumerate(zip(terms[1:], operands[1:], strict=True), 1):
        later = "".join(terms[i + 1 :]) + result
        other = _summed(add, _diagonal(add, y, term), held + later)
        left = _summed(add, (x, held), other[1] + later)
        x, held = _contracted(add, left, other, later, sizes)
    x, held = _summed(add, (x, held), result)
    return add.expand(add.transpose(x, [held.index(c) for c in result]), add.node.output.type.dims)


def _diagonal(add: Layers, x: Value, letters: str) -> Term:
    """`x` with one axis for each letter: every (n + 1)-th element of the two axes that share a letter, as one."""
    for letter in letters:
        while letters.count(letter) > 1:
            first, second = [i for i, c in enumerate(letters) if c == letter][:2]
            rest = [i for i in range(len(letters)) if i not in (first, second)]
            n = x.type.dims[first]
            moved = add.transpose(x, [*rest, first, second])
            flat = add.reshape(moved, (*moved.type.dims[:-2], n * n))
            x = add.cut(flat, len(rest), 0, n * n, n + 1)
            letters = "".join(letters[i] for i in rest) + letter
    return x, letters


def _summed(add: Layers, term: Term, needed: str) -> Term:
    """A term summed over the axes that nothing needs."""
    x, letters = term
    axes = tuple(i for i, c in enumerate(letters) if c not in needed)
    if not axes:
        return term
    return add(ops.ReduceSum(axes=axes, keepdims=False), x), "".join(c for c in letters if c in needed)


def _contracted(add: Layers, left: Term, right: Term, later: str, sizes: dict[str, int]) -> Term:
    """The product of two terms, summed over the letters that both have and nothing later needs."""
    (x, a), (y, b) = left, right
    shared = [c for c in a if c in b and c in later]
    inner = [c for c in a if c in b and c not in later]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]

    def matrix(v: Value, letters: str, groups: list[list[str]]) -> Value:
        flat = [c for group in groups for c in group]
        moved = add.transpose(v, [letters.index(c) for c in flat])
        whole = add.expand(
            moved, [sizes[c] if c in a and c in b else d for c, d in zip(flat, moved.type.dims, strict=True)]
        )
        extents = dict(zip(flat, whole.type.dims, strict=True))
        return add.reshape(whole, [prod(extents[c] for c in group) for group in groups])

    result = [*shared, *rows, *columns]
    extents = {**dict(zip(a, x.type.dims, strict=True)), **dict(zip(b, y.type.dims, strict=True))}
    product = add(ops.MatMul(), matrix(x, a, [shared, rows, inner]), matrix(y, b, [shared, inner, columns]))
    return add.reshape(product, [sizes[c] if c in shared else extents[c] for c in result]), "".join(result)

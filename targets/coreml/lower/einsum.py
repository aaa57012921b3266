"""Einstein sums as transposes and matrix products, two operands at a time from the left."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from string import ascii_uppercase

from compiler import ops
from compiler.graph import Node
from compiler.target import Need
from targets.coreml.lower.lowering import Lowering
from targets.coreml.lower.table import MAX_RANK, NUMBER, lowers
from targets.coreml.mil import Var


def spelled(op: ops.Einsum, ranks: Sequence[int]) -> tuple[list[str], str]:
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


def _kept(letters: str, later: str) -> str:
    return "".join(c for c in dict.fromkeys(letters) if c in later)


def _low_ranks(node: Node) -> bool:
    op = node.op
    assert isinstance(op, ops.Einsum)
    terms, result = spelled(op, [v.type.rank for v in node.inputs if v is not None])
    held = terms[0]
    for i, term in enumerate(terms[1:], 1):
        held = _kept(held + term, "".join(terms[i + 1 :]) + result)
        if len(held) > MAX_RANK:
            return False
    return len(result) <= MAX_RANK


@lowers(ops.Einsum, needs=[NUMBER, Need(text=f"products of two operands of rank at most {MAX_RANK}", holds=_low_ranks)])
def _einsum(p: Lowering, node: Node, op: ops.Einsum) -> None:
    operands = p.operands(node)
    terms, result = spelled(op, [len(x.shape) for x in operands])
    sizes: dict[str, int] = {}
    for term, x in zip(terms, operands, strict=True):
        for letter, d in zip(term, x.shape, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), d)
    x, held = _summed(p, *_diagonal(p, operands[0], terms[0]), "".join(terms[1:]) + result)
    for i, (term, y) in enumerate(zip(terms[1:], operands[1:], strict=True), 1):
        later = "".join(terms[i + 1 :]) + result
        other, letters = _summed(p, *_diagonal(p, y, term), held + later)
        x, held = _summed(p, x, held, letters + later)
        x, held = _contracted(p, (x, held), (other, letters), later, sizes)
    x, held = _summed(p, x, held, result)
    y = p.transpose(x, [held.index(c) for c in result]) if result else x
    p.finish(node, p.spread(y, node.output.type.dims))


def _diagonal(p: Lowering, x: Var, letters: str) -> tuple[Var, str]:
    """`x` with one axis for each letter: every (n + 1)-th element of the two axes that share a letter, as one."""
    for letter in letters:
        while letters.count(letter) > 1:
            first, second = (i for i, c in enumerate(letters) if c == letter)
            rest = [i for i in range(len(letters)) if i not in (first, second)]
            n = x.shape[first]
            moved = p.transpose(x, [*rest, first, second])
            flat = p.reshape(moved, (*moved.shape[:-2], n * n))
            x = p.cut(flat, len(rest), 0, n * n, n + 1)
            letters = "".join(letters[i] for i in rest) + letter
    return x, letters


def _summed(p: Lowering, x: Var, letters: str, needed: str) -> tuple[Var, str]:
    """`x` summed over the axes that nothing needs."""
    axes = [i for i, c in enumerate(letters) if c not in needed]
    if not axes:
        return x, letters
    kept = "".join(c for c in letters if c in needed)
    shape = [d for i, d in enumerate(x.shape) if i not in axes]
    return p.add("reduce_sum", {"x": x, "axes": axes, "keep_dims": False}, x.dtype, shape), kept


def _contracted(
    p: Lowering, left: tuple[Var, str], right: tuple[Var, str], later: str, sizes: dict[str, int]
) -> tuple[Var, str]:
    """The product of two operands, summed over the letters that both have and nothing later needs."""
    (x, a), (y, b) = left, right
    shared = [c for c in a if c in b and c in later]
    inner = [c for c in a if c in b and c not in later]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]

    def arranged(v: Var, letters: str, order: list[list[str]]) -> Var:
        flat = [c for group in order for c in group]
        moved = p.transpose(v, [letters.index(c) for c in flat]) if flat else v
        alone = {c for c in flat if c not in a or c not in b}
        whole = p.spread(moved, [moved.shape[i] if c in alone else sizes[c] for i, c in enumerate(flat)])
        extents = dict(zip(flat, whole.shape, strict=True))
        return p.reshape(whole, [prod(extents[c] for c in group) for group in order])

    result = [*shared, *rows, *columns]
    extents = {**dict(zip(a, x.shape, strict=True)), **dict(zip(b, y.shape, strict=True))}
    shape = [sizes[c] if c in shared else extents[c] for c in result]
    first = arranged(x, a, [shared, rows, inner])
    second = arranged(y, b, [shared, inner, columns])
    return p.reshape(p.matmul(first, second), shape), "".join(result)

"""Attention: of floats in blocks of queries and keys, of other types one query at a time."""

from __future__ import annotations

from codegen.expression import Apply, Expression, Operand
from codegen.neon.attention import OVERREAD, Attention, Blocks, FewQueries, Ints, Product, rounded
from codegen.neon.gemm import SIZE
from codegen.neon.gemm_model import tiles
from codegen.program import Split
from compiler import ops
from compiler.graph import Node
from targets.neon.blocking import Core, block
from targets.neon.lower import matmul
from targets.neon.program import NeonProgram
from targets.neon.table import lowers
from targets.source.lower.heads import Heads, heads_of, result_of
from targets.source.lower.indexing import operands
from targets.source.lower.plain import plain_attention
from targets.source.needs import FLOATS, types_of
from targets.source.program import ctype_of

ROWS = 32  # queries of a block
FEW = 4  # queries for which keys are not packed
KEYS = 256  # keys of a block, if there are more than twice as many
CAUSAL_KEYS = 64  # the same where later blocks are not needed
SUM: Expression = Apply("add", (Operand(0), Operand(1)))

assert OVERREAD == matmul.OVERREAD


@lowers(ops.Attention, needs=(types_of(0, among=FLOATS, what="queries"),))
def _attention(p: NeonProgram, node: Node, op: ops.Attention) -> None:
    q, k, *_ = operands(node)
    given, steps = heads_of(p, node)
    is_whole = node.output.type.size and k.type.size
    if q.type.dtype in matmul.FLOATS and given.are_rows and steps[3] in (0, 1) and is_whole:
        _tiled(p, node, op, given, steps)
    else:
        plain_attention(p, node, op)


def _tiled(p: NeonProgram, node: Node, op: ops.Attention, given: Heads, steps: Ints) -> None:
    q, k, v, *masks = operands(node)
    batch, heads, queries, depth = q.type.dims
    shared, keys = k.type.dims[1:3]
    places = [x.at(p) for x in given if x is not None]
    y, y_steps = result_of(p, node)
    width = v.type.dims[3]
    is_few = queries <= FEW and depth % 4 == 0 and width % 4 == 0
    rows, cols = cut(queries, 1 if is_few else ROWS), cut(keys, keys if is_few else CAUSAL_KEYS if op.causal else KEYS)
    scores, sums = ((), ()) if is_few else products(rows, cols, depth, width, p.core)
    kernel = (FewQueries if is_few else Attention)(
        batch=batch,
        heads=heads,
        shared=shared,
        queries=queries,
        keys=keys,
        depth=depth,
        width=width,
        scale=op.scale,
        q=given.q.strides[:3],
        k=given.k.strides[:3],
        v=given.v.strides[:3],
        y=y_steps[:3],
        rows=rows,
        cols=cols,
        scores=scores,
        sums=sums,
        mask=steps if masks else (),
        mask_type=ctype_of(masks[0].type.dtype) if masks else "",
        causal=op.causal,
        softcap=op.softcap,
        ctype=ctype_of(q.type.dtype),
    )
    own = SIZE * kernel.places["end"]
    scratch = p.scratch(own * p.threads, "scores")
    split = Split(kernel.items, begin="begin", end="end", own={"scratch": own})
    title = f"attention of {q.type} to {k.type}"
    p.call(kernel, *places, y, scratch, 0, kernel.items, node=node, title=title, split=split)


def cut(size: int, block_size: int) -> Blocks:
    """Blocks of so many elements, the last one of up to twice as many."""
    blocks = max(size // block_size, 1)
    return Blocks(blocks, block_size if blocks > 1 else size, size - (blocks - 1) * block_size)


def products(
    rows: Blocks, cols: Blocks, depth: int, width: int, core: Core
) -> tuple[tuple[Product, ...], tuple[Product, ...]]:
    """Queries by keys and scores by values, for each kind of block of queries and of keys."""
    heights = [*[rows.size] * (rows.blocks > 1), rows.last]
    lengths = [rounded(n) for n in (*[cols.size] * (cols.blocks > 1), cols.last)]
    first = (product(heights[0], n, depth, core) for n in lengths[:1])
    vectors = next(first).gemm.vectors, product(heights[0], width, lengths[0], core).gemm.vectors
    scores = [product(m, n, depth, core, vectors[0]) for m in heights for n in lengths]
    sums = [product(m, width, n, core, vectors[1]) for m in heights for n in lengths]
    if cols.blocks > 1:
        sums = [s._replace(gemm=s.gemm.with_(tail=SUM)) for s in sums]
    return tuple(scores), tuple(sums)


def product(m: int, n: int, k: int, core: Core, vectors: int = 0) -> Product:
    """The kernel for rows at any distance, with panels of so many vectors if these are given."""
    in_order = core.is_in_order
    way = tiles(m, n, k, vectors=vectors, in_order=in_order)
    counts = (way.count, way.last_count) if way.last_rows else (way.count,)
    kernel = matmul.gemm(way, k, in_order=in_order).with_(is_strided=True)
    return Product(kernel, counts, block(way.count, way.rows * k * SIZE, core))

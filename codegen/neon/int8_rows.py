"""Products of matrices of bytes that lie densely: of any sizes for which the tiles are the same, so that layers share
them in libraries that have several variants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from codegen.neon.int8_product import Form, Product, Strip
from codegen.neon.tailed import digest
from codegen.program import Choice, Kernel, Parameter, sizes

KEPT = ("rows", "columns", "last_rows", "last_columns", "last_tiles", "packings", "packing")


class Rows(Form):
    """`lines` times y [m, n] = x [m, k] w, one below the other. All but `last_tiles` of `last_rows` rows are in tiles
    of `rows`, all but `last_columns` in panels of `columns`.

    packings, packing   as of Product
    """

    template = "neon/int8_rows.c.j2"
    rows: int
    columns: int
    last_rows: int = 0
    last_columns: int = 0
    last_tiles: int = 0
    packings: int = 1
    packing: int = 0

    @property
    def name(self) -> str:
        last = f"_{self.last_tiles}x{self.last_rows}" if self.last_tiles else ""
        narrow = f"_{self.last_columns}" if self.last_columns else ""
        return f"int8_rows_{self.variant}_{self.rows}x{self.columns}{last}{narrow}{self.suffix}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        weights = [Parameter("const void *", f"w{i}") for i in range(self.packings)]
        return [Parameter("const int8_t *", "x"), *weights, Parameter("int8_t *", "y"), *sizes("lines", "m", "n", "k")]

    @property
    def needs(self) -> Sequence[Kernel]:
        heights = [h for h in (self.rows, self.last_rows) if h]
        return [self.strip(h, w) for h in heights for w in (self.columns, self.last_columns) if w]

    def strip(self, rows: int, columns: int) -> Strip:
        """The micro-kernel of a size."""
        return Strip(rows=rows, columns=columns, **{name: getattr(self, name) for name in Form.fields})

    @property
    def head(self) -> int:
        """Bytes of a panel before its weights."""
        strip = self.strip(self.rows, self.columns)
        return strip.biases + 4 * strip.padded * strip.copies


class DotRows(Rows):
    """With the instructions of dotprod."""

    isa = "dotprod"


class MatrixRows(Rows):
    """With the instructions of i8mm."""

    isa = "i8mm"


class RowsChoice(Choice):
    """Of products of rows: several of them have the same first one."""

    MADE: ClassVar[dict[str, type[Rows]]] = {"base": Rows, "dotprod": DotRows, "i8mm": MatrixRows}

    @property
    def name(self) -> str:
        return f"{super().name}_{digest([v.name for v in self.variants])}"

    @classmethod
    def of(cls, products: Sequence[Product]) -> RowsChoice | None:
        """The choice for variants of a product whose rows lie densely and are cut into the same lines; None if it is
        another one."""
        first = products[0]
        if any((k.lines, k.m) != (first.lines, first.m) or not _is_dense(k) for k in products):
            return None
        fields = [*Form.fields, *KEPT]
        return cls(variants=tuple(cls.MADE[k.variant](**{n: getattr(k, n) for n in fields}) for k in products))


def _is_dense(k: Product) -> bool:
    """Whether one row, and one line, lies behind the other."""
    is_next = k.lines == 1 or (k.x_line, k.y_line) == (k.m * k.ldx, k.m * k.ldy)
    lies = (k.ldx, k.ldy, k.spans) == (k.depth, k.n, ()) and is_next
    return lies and k.n >= k.columns and k.shares == "" and min(k.block, k.lines) == 1

"""From sums of 32 bits to results of 8: times a factor, rounded twice, plus the zero point, limited.

A factor is a mantissa in Q31 and a shift. The first rounding is that of `sqrdmulh`, half up; the second one that of
`srshl`, which is half up too, so that negative numbers are one less before: half away from zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.gemm_schedule import CHUNK, VECTOR
from codegen.neon.int8_tiles import Group
from compiler.record import Record
from compiler.tensor import Array

ZERO, LEAST, MOST = 0, 1, 2  # registers of the limits
FACTORS = 3  # those of the mantissas; shifts follow
LIMITS = 3 * VECTOR  # bytes at the begin of a panel: the zero point, the least and the greatest result


class Ending(Record):
    """What is known of the factors and limits of a layer.

    is_mixed    some factors shift by nothing, and their products are rounded once
    has_left    some factors are 1 or more: there are shifts to the left too
    has_least   results have a lower limit above -128
    has_most    results have an upper limit below 127
    """

    is_mixed: bool = False
    has_left: bool = False
    has_least: bool = False
    has_most: bool = False

    @classmethod
    def of(cls, shifts: Array, least: int, most: int) -> Ending:
        """For shifts (positive: to the left) and limits of results."""
        return cls(
            is_mixed=bool((shifts >= 0).any()),
            has_left=bool((shifts > 0).any()),
            has_least=least > -128,
            has_most=most < 127,
        )

    @property
    def suffix(self) -> str:
        """Of the name of a kernel."""
        flags = ("mixed" * self.is_mixed, "left" * self.has_left, "least" * self.has_least, "most" * self.has_most)
        return "".join(f"_{flag}" for flag in flags if flag)

    @property
    def arrays(self) -> int:
        """Of factors: mantissas, shifts to the right as negative numbers, shifts to the left."""
        return 3 if self.has_left else 2

    def biases(self, vectors: int) -> int:
        """Bytes from the begin of a panel to its biases."""
        return LIMITS + self.arrays * VECTOR * vectors

    def limits(self) -> list[str]:
        """Load the zero point, and the limits that count."""
        if self.has_most or self.has_least:
            return [f"ld1 {{v{ZERO}.16b, v{LEAST}.16b, v{MOST}.16b}}, [%[w]]"]
        return [f"ldr q{ZERO}, [%[w]]"]

    def lines(self, groups: Sequence[Group], free: Sequence[int], *, limits: bool = True) -> list[str]:
        """Instructions that leave bytes in the first of each four accumulators; `limits` are to be loaded too."""
        vectors = len(groups[0].sums)
        made = self.limits() if limits else []
        for first in range(0, vectors, CHUNK):
            count = min(CHUNK, vectors - first)
            pool = [r for r in free if r >= FACTORS]
            tables = [[pool.pop(0) for _ in range(count)] for _ in range(self.arrays)]
            for array, table in enumerate(tables):
                made += _pairs(table, LIMITS + VECTOR * (array * vectors + first))
            for group in groups:
                made += self._narrowed(group.sums[first : first + count], tables, pool)
        return made

    def _narrowed(self, sums: Sequence[int], tables: Sequence[Sequence[int]], pool: Sequence[int]) -> list[str]:
        mantissas, shifts = tables[0], tables[1]
        lines: list[str] = []
        if self.has_left:
            lines += [f"sshl v{a}.4s, v{a}.4s, v{s}.4s" for a, s in zip(sums, tables[2], strict=True)]
        lines += [f"sqrdmulh v{a}.4s, v{a}.4s, v{m}.4s" for a, m in zip(sums, mantissas, strict=True)]
        for a, s in zip(sums, shifts, strict=True):
            if self.is_mixed:
                lines += [f"and v{pool[0]}.16b, v{a}.16b, v{s}.16b", f"ssra v{a}.4s, v{pool[0]}.4s, #31"]
            else:
                lines.append(f"ssra v{a}.4s, v{a}.4s, #31")
        lines += [f"srshl v{a}.4s, v{a}.4s, v{s}.4s" for a, s in zip(sums, shifts, strict=True)]
        for i, a in enumerate(sums):
            lines.append(f"sqxtn2 v{sums[i - 1]}.8h, v{a}.4s" if i % 2 else f"sqxtn v{a}.4h, v{a}.4s")
        lines += [f"sqadd v{a}.8h, v{a}.8h, v{ZERO}.8h" for a in sums[::2]]
        lines += [f"sqxtn v{sums[0]}.8b, v{sums[0]}.8h"]
        lines += [f"sqxtn2 v{sums[0]}.16b, v{sums[2]}.8h"] if len(sums) > 2 else []
        lines += [f"smax v{sums[0]}.16b, v{sums[0]}.16b, v{LEAST}.16b"] * self.has_least
        return lines + [f"smin v{sums[0]}.16b, v{sums[0]}.16b, v{MOST}.16b"] * self.has_most


def _pairs(table: Sequence[int], at: int) -> list[str]:
    """Load registers from so many bytes behind the begin of the panel."""
    lines = [f"ldp q{table[i]}, q{table[i + 1]}, [%[w], #{at + VECTOR * i}]" for i in range(0, len(table) // 2 * 2, 2)]
    return lines + [f"ldr q{table[-1]}, [%[w], #{at + VECTOR * (len(table) - 1)}]"] * (len(table) % 2)

"""Sums and differences of two arrays of bytes of the same shape, 16 at a time."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.neon.assembly import INT8, packed
from codegen.program import Kernel, Parameter, sizes

BITS = 20  # to the left, before operands are brought to one scale
WIDEST = 15  # of a shift that widens
NUMBERS = (
    "zero_a", "zero_b", "zero_y", "times_a", "times_b", "times_y", "shift_a", "shift_b", "shift_y", "least", "most",
)  # fmt: skip
SHIFT_OF = {"a": 28, "b": 29, "y": 30}
MANTISSA_OF = {"a": 5, "b": 6, "y": 7}


class Sum(Kernel):
    """y = a + b or a - b: each less its zero point, times 2^20 and its factor; the sum times another one, plus the
    zero point of y, limited. Of 16 elements `steps` times, and `rest` more, behind 16 others. `numbers` are
    in the order of NUMBERS.

    is_half     for a and b, whether the factor is a half
    is_rounded_once  the last factor has no shift
    """

    family = "int8"
    template = "neon/int8_sum.c.j2"
    is_assembly = True
    header = INT8
    is_difference: bool
    is_half: tuple[bool, bool]
    is_rounded_once: bool = False

    @property
    def name(self) -> str:
        halves = "".join(n for n, is_half in zip("ab", self.is_half, strict=True) if is_half)
        what = "difference" if self.is_difference else "sum"
        return f"int8_{what}{f'_half_{halves}' if halves else ''}{'_once' * self.is_rounded_once}"

    @property
    def parameters(self) -> Sequence[Parameter]:
        given = [Parameter("const int8_t *", "a"), Parameter("const int8_t *", "b")]
        return [*given, Parameter("const int32_t *", "numbers"), Parameter("int8_t *", "y"), *sizes("steps", "rest")]

    @property
    def numbers(self) -> Sequence[str]:
        """What the numbers are called."""
        return NUMBERS

    def assembly(self) -> list[tuple[str, list[str]]]:
        """Blocks of instructions with what they do, the lines of source packed."""
        lines = ["dup v0.16b, %w[zero_a]", "dup v1.16b, %w[zero_b]", "dup v2.8h, %w[zero_y]"]
        for n in "aby":
            lines += [f"dup v{MANTISSA_OF[n]}.4s, %w[times_{n}]", f"dup v{SHIFT_OF[n]}.4s, %w[shift_{n}]"]
        limits = ["dup v3.16b, %w[least]", "dup v4.16b, %w[most]"]
        step = ["0:", "ldr q8, [%[a]], #16", "ldr q9, [%[b]], #16"]
        step += ["ssubl v10.8h, v8.8b, v0.8b", "ssubl2 v11.8h, v8.16b, v0.16b"]
        step += ["ssubl v12.8h, v9.8b, v1.8b", "ssubl2 v13.8h, v9.16b, v1.16b"]
        blocks = [("factors", lines), ("limits", limits), ("16 elements", step)]
        blocks += [("a on the scale of the sum", self._scaled("a", 10, 16)), ("b", self._scaled("b", 12, 20))]
        verb = "sub" if self.is_difference else "add"
        total = [f"{verb} v{16 + i}.4s, v{16 + i}.4s, v{20 + i}.4s" for i in range(4)]
        blocks.append(("the sum, in bytes", [*total, *self._times("y", range(16, 20)), *self._narrowed()]))
        blocks.append(("", ["str q16, [%[y]], #16", "subs %[steps], %[steps], #1", "b.ne 0b"]))
        return [(title, packed(lines, INT8)) for title, lines in blocks if lines]

    def _scaled(self, name: str, source: int, to: int) -> list[str]:
        """An operand in 32 bits times its factor."""
        sides = [(to + 2 * i + j, source + i, j) for i in range(2) for j in range(2)]
        lines = [f"sshll{'2' * j} v{r}.4s, v{s}.{'8h' if j else '4h'}, #{WIDEST}" for r, s, j in sides]
        is_half = self.is_half["ab".index(name)]
        more = BITS - WIDEST - is_half
        lines += [f"shl v{r}.4s, v{r}.4s, #{more}" for r, _, _ in sides]
        return lines if is_half else lines + self._times(name, range(to, to + 4))

    def _times(self, name: str, registers: Sequence[int]) -> list[str]:
        lines = [f"sqrdmulh v{r}.4s, v{r}.4s, v{MANTISSA_OF[name]}.4s" for r in registers]
        if name != "y" or not self.is_rounded_once:
            lines += [f"ssra v{r}.4s, v{r}.4s, #31" for r in registers]
            lines += [f"srshl v{r}.4s, v{r}.4s, v{SHIFT_OF[name]}.4s" for r in registers]
        return lines

    def _narrowed(self) -> list[str]:
        lines = ["sqxtn v16.4h, v16.4s", "sqxtn2 v16.8h, v17.4s", "sqxtn v18.4h, v18.4s", "sqxtn2 v18.8h, v19.4s"]
        lines += [f"sqadd v{r}.8h, v{r}.8h, v2.8h" for r in (16, 18)]
        lines += ["sqxtn v16.8b, v16.8h", "sqxtn2 v16.16b, v18.8h"]
        return [*lines, "smax v16.16b, v16.16b, v3.16b", "smin v16.16b, v16.16b, v4.16b"]

"""What there is to know of a written library: memory, sizes, kernels."""

from __future__ import annotations

from typing import Any, NamedTuple


class Written(NamedTuple):
    """Of a library, in bytes: the arena and the least that any plan of it takes, constants, sources without them; how
    many kernels there are and how many calls of them, how many threads share the work, and what the processor has to
    have."""

    name: str
    arena: int
    bound: int
    weights: int
    code: int
    kernels: int
    steps: int
    threads: int
    isa: str

    def text(self) -> str:
        """Lines of plain text."""
        over = f"{100 * (self.arena / self.bound - 1):.1f} % over what is in use at once" if self.bound else "none"
        threads = f", {self.threads} threads" if self.threads > 1 else ""
        return (
            f"library {self.name}: {self.arena:,} bytes of working memory ({over}), {self.weights:,} bytes of weights\n"
            f"  {self.code:,} bytes of source, {self.kernels} kernels in {self.steps} steps, {self.isa}{threads}\n"
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self._asdict()

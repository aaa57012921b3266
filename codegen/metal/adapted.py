"""Kernels that all generators know, in the Metal Shading Language: the same record, another template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from codegen.metal.kernel import Grid, Launch, MetalKernel, Numbers, Tile, groups, rendered
from codegen.program import Argument, Kernel, Parameter

ROW = 256  # threads of a threadgroup, where nothing speaks for another number


class Form(NamedTuple):
    """How a kernel is written and run.

    template   that renders it, with the record as `k` and this module's kernel as `m`
    items      how many things it does, given its record and its numbers: one thread each, or one threadgroup each if
               it `is_grouped`
    positions  what it knows of its thread
    threads    of a threadgroup, given the record
    tiles      arrays in the memory of a threadgroup, given the record
    helpers    functions that the template calls, by their names
    launch     in place of `items`: threadgroups and their threads
    omits      parameters that it does without, by their names
    """

    template: str
    items: Callable[[Any, Numbers], int] = lambda _, __: 0  # Any: the kernel of the class that it is registered for
    positions: Sequence[str] = ("at",)
    is_grouped: bool = False
    threads: Callable[[Any], int] = lambda _: ROW
    tiles: Callable[[Any], Sequence[Tile]] = lambda _: ()
    helpers: Mapping[str, Any] = {}  # Any: functions, whose parameters templates know; nobody changes it
    launch: Callable[[Any, Numbers], Launch] | None = None
    omits: Sequence[str] = ()


FORMS: dict[type[Kernel], Form] = {}


class Adapted(MetalKernel):
    """The kernel `of` in the Metal Shading Language."""

    family = template = "adapted"
    of: Kernel

    @property
    def form(self) -> Form:
        """How it is written."""
        return FORMS[type(self.of)]

    @property
    def name(self) -> str:
        return self.of.name

    @property
    def parameters(self) -> Sequence[Parameter]:
        return [p for p in self.of.parameters if p.name not in self.form.omits]

    def taken(self, arguments: Sequence[Argument]) -> list[Argument]:
        """Those of the arguments of `of` that it takes."""
        pairs = zip(self.of.parameters, arguments, strict=True)
        return [a for p, a in pairs if p.name not in self.form.omits]

    @property
    def positions(self) -> Sequence[str]:  # type: ignore[override]  # a constant of other classes
        return self.form.positions

    @property
    def threads(self) -> Grid:
        return (self.form.threads(self.of), 1, 1)

    @property
    def tiles(self) -> Sequence[Tile]:
        return self.form.tiles(self.of)

    def grid(self, numbers: Numbers) -> Grid:
        count = self.form.items(self.of, numbers)
        return (count if self.form.is_grouped else groups(count, self.threads[0]), 1, 1)

    def launch(self, numbers: Numbers) -> Launch:
        way = self.form.launch
        return super().launch(numbers) if way is None else way(self.of, numbers)

    def render(self) -> str:
        return rendered(self.form.template, k=self.of, m=self, **self.form.helpers)


def adapted(kernel: Kernel) -> MetalKernel:
    """The kernel for Metal. KeyError if there is none."""
    if isinstance(kernel, MetalKernel):
        return kernel
    if type(kernel) not in FORMS:
        raise KeyError(f"{type(kernel).__name__} has no form in the Metal Shading Language")
    return Adapted(of=kernel)

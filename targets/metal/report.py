"""What there is to know of a written model: dispatches, memory, bytes moved, and what launches take by estimate."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from codegen.arena import Plan
from codegen.metal.launch import Gpu, occupancy, roofline
from codegen.program import Call, Place
from targets.metal.program import MetalProgram

SHOWN = 5  # launches in the text


class Launch(NamedTuple):
    """A dispatch on a GPU: its threadgroups and their threads, the share of the threads of a core that are there at
    once and what limits it, multiply-adds, bytes read and written, microseconds, and what these go to: arithmetic,
    memory or the launch itself."""

    kernel: str
    title: str
    threadgroups: int
    threads: int
    occupancy: float
    limit: str
    macs: int
    nbytes: int
    microseconds: float
    bound: str

    def text(self) -> str:
        """A line of plain text."""
        return (
            f"{self.microseconds:8.1f} us, {self.bound:10} {self.threadgroups:6} x {self.threads:3} threads,"
            f" {100 * self.occupancy:3.0f} % of a core: {self.title}"
        )


class Written(NamedTuple):
    """Of a model: its dispatches and kernels and how many barriers stand between them; bytes of working memory, the
    least that any plan of it takes, weights, source; bytes that dispatches read and write, and the least: inputs,
    weights and outputs; the GPU of the estimates, and its launches."""

    name: str
    dispatches: int
    kernels: int
    barriers: int
    heap: int
    bound: int
    weights: int
    code: int
    moved: int
    least: int
    gpu: str
    launches: Sequence[Launch]

    @property
    def milliseconds(self) -> float:
        """Estimated, of one inference."""
        return sum(launch.microseconds for launch in self.launches) / 1000

    def text(self) -> str:
        """Lines of plain text."""
        over = f"{100 * (self.heap / self.bound - 1):.1f} % over what is in use at once" if self.bound else "none"
        longest = sorted(self.launches, key=lambda launch: -launch.microseconds)[:SHOWN]
        return (
            f"model {self.name}: {counted(self.dispatches, 'dispatch', 'es')} of {counted(self.kernels, 'kernel')},"
            f" {counted(self.barriers, 'barrier')}\n"
            f"  {self.heap:,} bytes of working memory ({over}), {self.weights:,} of weights, {self.code:,} of source\n"
            f"  {self.moved:,} bytes moved by an inference, {self.moved / max(self.least, 1):.2f} x inputs, weights and"
            f" outputs\n"
            f"  {self.milliseconds:.2f} ms on {self.gpu}, estimated; the longest:\n"
            + "".join(f"  {launch.text()}\n" for launch in longest)
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        launches = [launch._asdict() for launch in self.launches]
        return {**self._asdict(), "milliseconds": round(self.milliseconds, 4), "launches": launches}


def counted(count: int, what: str, ending: str = "s") -> str:
    """So many of a thing."""
    return f"{count} {what}{ending if count != 1 else ''}"


def told(p: MetalProgram, made: dict[str, Any], memory: Plan, code: int, gpu: Gpu) -> Written:
    """Of a plan."""
    launches = [_launch(p, c, d, gpu) for c, d in zip(p.calls, made["dispatches"], strict=True)]
    ports = sum(b["nbytes"] for b in made["buffers"] if b["place"] in ("input", "output"))
    constants = sum(b.nbytes for b in {b for c in p.calls for b in c.reads if b.place is Place.WEIGHT})
    return Written(
        name=made["name"],
        dispatches=len(p.calls),
        kernels=len({c.kernel for c in p.calls}),
        barriers=sum(d["barrier"] for d in made["dispatches"]),
        heap=memory.size,
        bound=memory.bound,
        weights=made["weights"]["nbytes"],
        code=code,
        moved=sum(launch.nbytes for launch in launches),
        least=ports + constants,
        gpu=gpu.name,
        launches=launches,
    )


def _launch(p: MetalProgram, call: Call, dispatch: dict[str, Any], gpu: Gpu) -> Launch:
    threadgroups, threads = prod(dispatch["threadgroups"]), prod(dispatch["threads"])
    nbytes = sum(b.nbytes for b in {*call.reads, *call.writes})
    macs = p.macs.get(id(call), 0)
    found = occupancy(gpu, threads, sum(dispatch["threadgroup_memory"]))
    estimate = roofline(2 * macs, nbytes, gpu, threadgroups, threads, half=p.precision == "fp16")
    return Launch(
        kernel=dispatch["kernel"],
        title=dispatch["title"],
        threadgroups=threadgroups,
        threads=threads,
        occupancy=round(found.share, 3),
        limit=found.limit,
        macs=macs,
        nbytes=nbytes,
        microseconds=round(1e6 * estimate.seconds, 2),
        bound=estimate.bound,
    )

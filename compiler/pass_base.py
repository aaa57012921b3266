"""What a pass is: a frozen record of options, with what it promises about the numbers and the work."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import ClassVar

from compiler.errors import ParseError, PassError
from compiler.graph import Graph, Node, Value
from compiler.op import Op
from compiler.record import Record
from compiler.rewrite import Firing, Observer, Rule, apply_rules


class ErrorClass(Enum):
    """What a pass may do to the numbers.

    EXACT     the same bits
    ROUNDING  the same real function, rounded elsewhere: above 100 dB PSNR in f32
    LOSSY     another function; the pass takes a budget and its damage is reported
    """

    EXACT = "exact"
    ROUNDING = "rounding"
    LOSSY = "lossy"


class Condition(Record):
    """A checked statement about a graph: `text` says it, `holds` decides it."""

    text: str
    holds: Callable[[Graph], bool]


def absent(*ops: type[Op]) -> Condition:
    """No layer of these operations is left."""
    names = ", ".join(op.name for op in ops)
    return Condition(text=f"no {names} layer is left", holds=lambda g: not g.of(*ops))


class Pass(Record):
    """Base of all passes. Options are fields: `LowRank(energy=0.99)` is `low-rank(energy=0.99)` in a pipeline."""

    error_class: ClassVar[ErrorClass] = ErrorClass.ROUNDING
    adds_work: ClassVar[bool] = False  # set to True with the reason in the docstring
    bound: ClassVar[str] = ""  # of a LOSSY pass that knows it: how far results lie from those of the layer
    requires: ClassVar[tuple[Condition, ...]] = ()
    ensures: ClassVar[tuple[Condition, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.__name__.endswith("Pass"):
            PASSES[cls.pass_name()] = cls

    @classmethod
    def pass_name(cls) -> str:
        """The name in pipelines: FuseGelu is fuse-gelu."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.__name__).lower()

    def run(self, graph: Graph, observer: Observer) -> int:
        """Change the graph; returns how often the pass fired. Every change is told to the observer."""
        raise NotImplementedError

    def __str__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.changed().items())
        return f"{self.pass_name()}({options})" if options else self.pass_name()


class RewritePass(Pass):
    """A pass that applies rules until none fires."""

    def rules(self) -> tuple[Rule, ...]:
        """The rules, which may depend on the options."""
        raise NotImplementedError

    def run(self, graph: Graph, observer: Observer) -> int:
        return apply_rules(graph, self.rules(), observer, self.adds_work)


class Fixpoint(Record):
    """A group of passes repeated until none of them fires, at most `rounds` times."""

    passes: tuple[Pass, ...]
    rounds: int = 8

    def __str__(self) -> str:
        return f"fixpoint[{', '.join(map(str, self.passes))}]"


Step = Pass | Fixpoint
PASSES: dict[str, type[Pass]] = {}
PIPELINES: dict[str, tuple[Step, ...]] = {}
LATER: dict[str, Callable[[], type[Pass]]] = {}  # passes that are loaded when somebody names them


def pass_class(name: str) -> type[Pass] | None:
    """The pass of a name, loaded if it was not yet; None if there is none."""
    return LATER[name]() if name not in PASSES and name in LATER else PASSES.get(name)


def replace_layer(
    graph: Graph, rule: str, old: Sequence[Value], new: Sequence[Value], added: Iterable[Node], observer: Observer
) -> Firing | None:
    """Let `new` take the place of the results `old` of one layer, or of several, erase what nobody reads any more, and
    tell the observer; for passes that are not rules. If it allows no further firing, `added` is erased instead and the
    result is None."""
    added = tuple(added)
    if not observer.allow():
        graph.erase_unread(added)
        return None
    nodes = dict.fromkeys(v.node for v in old if v.node is not None)
    readers = tuple(user for v in old for user in v.users)
    for a, b in zip(old, new, strict=True):
        graph.replace(a, b)
    erased = tuple(graph.erase_unread(nodes))
    firing = Firing(rule, erased, added, tuple(old), tuple(new), readers)
    observer.fired(firing)
    return firing


ATOM = r"""[^()"']|"[^"]*"|'[^']*'"""
CALL = re.compile(rf"\s*([a-z][a-z0-9-]*)\s*(?:\(((?:{ATOM}|\((?:{ATOM})*\))*)\))?\s*(?:,|$)")


def parse_pipeline(text: str) -> tuple[Step, ...]:
    """Read `fold,fuse,low-rank(energy=0.99)`: names of passes or named pipelines, with options.

    Raises ParseError for unknown names or options, listing the known ones.
    """
    steps: list[Step] = []
    position = 0
    while position < len(text):
        m = CALL.match(text, position)
        if m is None:
            raise ParseError(
                f"cannot read the pipeline from {text[position:]!r}", hint="write name,name(option=value),..."
            )
        steps.extend(_step(m.group(1), m.group(2)))
        position = m.end()
    return tuple(steps)


def _step(name: str, options: str | None) -> tuple[Step, ...]:
    if name in PIPELINES and options is None:
        return PIPELINES[name]
    cls = pass_class(name)
    if name in PIPELINES and cls is None:
        raise ParseError(f"{name!r} is a pipeline and takes no options: ({options})", hint=f"write {name}")
    if cls is None:
        known = ", ".join(sorted({*PIPELINES, *PASSES, *LATER}))
        raise ParseError(f"there is no pass or pipeline named {name!r}", hint=f"known: {known}")
    try:
        call = ast.parse(f"f({options or ''})", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args and all(k.arg for k in call.keywords)
        values = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        return (cls(**values),)
    except (SyntaxError, ValueError, AssertionError) as e:
        raise ParseError(
            f"cannot read the options of {name}: ({options})",
            hint="write option=value, with a number, a string or a tuple",
        ) from e
    except TypeError as e:
        raise ParseError(f"the options of {name} do not fit: {e}", hint="write option=value,...") from e


def check_conditions(conditions: Sequence[Condition], graph: Graph, pass_name: str, when: str) -> None:
    """Raise PassError for the first condition that does not hold."""
    for condition in conditions:
        if not condition.holds(graph):
            raise PassError(f"{pass_name} {when} that {condition.text}, which does not hold")

"""Groups of values that share one scale, as few requantizations between them as the rules and the ranges allow.

A union-find over the layers whose results have the parameters of their operands. Two groups stay apart, and a target
requantizes between them, where both have fixed scales that differ, where one with a fixed scale does not reach over
the numbers of the other, and where a concatenation would make the steps of a value much coarser that others read.
"""

from __future__ import annotations

from collections.abc import Iterable

from compiler.graph import Graph, Node, Value
from compiler.ops.activation import Clip, Relu
from compiler.ops.elementwise import Add, Pow, Where
from compiler.ops.parts import Concat
from compiler.ops.softmax import Softmax
from compiler.quantize import asymmetric, represented
from compiler.tensor import QuantParams
from passes._int8_scheme import Range, Ranges, Scheme
from passes._int8_tails import FLAT, largest_root, reach

COARSER = 1.5  # times as large a step that a value which others read may get so that a concatenation needs no copy
BELOW = 8.0  # how far hidden scores lie below those seen: e to it is 3000
HIDING, TERM = -100.0, 1.0  # a mask has numbers below the one, and none above the other
SLACK = 1.02  # of the numbers that a fixed scale holds: its largest is one step below the end of the function


class Group:
    """Values with one scale: the range they need, and the parameters if a rule fixes them."""

    def __init__(self, value: Value, span: Range, fixed: QuantParams | None) -> None:
        self.members = [value]
        self.low, self.high = span
        self.fixed = fixed

    @property
    def params(self) -> QuantParams:
        return self.fixed or asymmetric(self.low, self.high)

    def absorb(self, other: Group) -> None:
        self.members += other.members
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.fixed = self.fixed or other.fixed


class Groups:
    """The groups of a graph's values, joined tie by tie."""

    def __init__(self, ranges: Ranges, scheme: Scheme) -> None:
        self._scheme = scheme
        self._of: dict[Value, Group] = {}
        for v, span in ranges.items():
            fixed = None if v.node is None else scheme.fixed.get(v.node.op.name)
            self._of[v] = Group(v, span, v.type.quant or fixed)

    def __contains__(self, v: Value) -> bool:
        return v in self._of

    def __getitem__(self, v: Value) -> QuantParams:
        return self._of[v].params

    def solve(self, graph: Graph, saturate: bool = True) -> None:
        """Join what must share its scale; concatenations last, when the ranges of their parts are known; then, with
        `saturate`, leave out tails."""
        for node in graph.of(Add, Where):
            only_softmax = node.output.users and all(isinstance(user.op, Softmax) for user in node.output.users)
            if only_softmax and not node.output.n_out and node.output in self._of:
                self._hide(node)
        for node in graph.of(Relu):
            if self._saturates(node):
                self._tie(node)
        tied = [n for n in graph.nodes if n.op.name in self._scheme.same]
        for node in tied:
            if isinstance(node.op, Clip):
                self._saturates(node)
            if not isinstance(node.op, Concat):
                self._tie(node)
        for node in tied:
            if isinstance(node.op, Concat):
                self._concat(node)
        for node in graph.of(*FLAT, Pow) if saturate else ():
            self._tail(node)

    def _tail(self, node: Node) -> None:
        """Let what only a function reads saturate where it is flat, and an inverse root above what it is seen of."""
        x, y = node.inputs[0], node.outputs[0]
        if x is None or x not in self._of or y not in self._of:
            return
        source, result = self._of[x], self._of[y]
        if not isinstance(node.op, Pow):
            if self._is_alone(x):
                source.low, source.high = reach(node.op, (source.low, source.high), result.params.scale[0])
        elif _is_inverse_root(node) and len(result.members) == 1 and result.fixed is None:
            result.high = min(result.high, largest_root(source.params.scale[0]))

    def _is_alone(self, v: Value) -> bool:
        """Whether a value may have any range that suits its only reader."""
        group = self._of[v]
        return len(group.members) == 1 and len(v.users) == 1 and not v.n_out and group.fixed is None

    def _hide(self, node: Node) -> None:
        """Scores that a mask hides from a softmax lie just below all others, and not where the mask says."""
        ends = {v: self._ends(v) for v in node.inputs if v is not None}
        masks = [v for v, (low, high) in ends.items() if low < HIDING and high <= TERM]
        shown = [v for v in node.inputs if v in self._of and v not in masks]
        if len(masks) != 1 or len(shown) != 1:
            return
        group, mask = self._of[shown[0]], self._of.get(masks[0])
        self._of[node.output].low = group.low - BELOW
        self._of[node.output].high = group.high
        if mask is not None:
            asked = group.low - BELOW - group.high
            mask.low = min(asked, mask.low if mask.low > HIDING else asked)

    def _ends(self, v: Value) -> Range:
        if v.data is not None and v.type.dtype.is_float:
            return float(v.data.min(initial=0.0)), float(v.data.max(initial=0.0))
        return (self._of[v].low, self._of[v].high) if v in self._of else (0.0, 0.0)

    def _tie(self, node: Node) -> None:
        """Join operands and results of a layer: each with the first result."""
        known = [v for v in (*node.outputs, *node.inputs) if v is not None and v in self._of]
        for v in known[1:]:
            self._join(known[0], v)

    def _join(self, a: Value, b: Value) -> bool:
        one, two = self._of[a], self._of[b]
        if one is two:
            return True
        if one.fixed and two.fixed and one.fixed != two.fixed:
            return False
        fixed = one.fixed or two.fixed
        if fixed is not None and not all(_holds(fixed, g.low, g.high) for g in (one, two)):
            return False
        if len(one.members) < len(two.members):
            one, two = two, one
        one.absorb(two)
        self._of.update((v, one) for v in two.members)
        return True

    def _saturates(self, node: Node) -> bool:
        """Let what only a clip reads saturate where the clip ends; False if others read it too."""
        x, y = node.inputs[0], node.outputs[0]
        if x is None or x not in self._of or y not in self._of:
            return False
        alone, group = self._is_alone(x), self._of[x]
        if alone:
            group.low, group.high = self._of[y].low, self._of[y].high
        return alone

    def _concat(self, node: Node) -> None:
        """Parts that others read at a much finer scale are copied to the scale of the whole; not those that come with
        it from one layer of the model: the states of a recurrent layer have one scale at all steps."""
        y = node.outputs[0]
        parts = [v for v in dict.fromkeys(node.inputs) if v is not None and v in self._of]
        if y not in self._of or not parts:
            return
        spans = [(g.low, g.high) for g in (self._of[v] for v in (y, *parts))]
        whole = asymmetric(min(s[0] for s in spans), max(s[1] for s in spans))
        for v in parts:
            group = self._of[v]
            finer = COARSER * group.params.scale[0] < whole.scale[0]
            together = v.node is not None and bool(node.origin) and v.node.origin == node.origin
            if together or not (finer and self._is_read_beside(group.members, node)):
                self._join(y, v)

    def _is_read_beside(self, members: Iterable[Value], node: Node) -> bool:
        """Whether a layer other than `node` computes with a member, and does not just move it within the group."""
        return any(v.n_out or any(user is not node and not self._moves(user, v) for user in v.users) for v in members)

    def _moves(self, user: Node, v: Value) -> bool:
        return user.op.name in self._scheme.same and self._of.get(user.outputs[0]) is self._of[v]


def _holds(params: QuantParams, low: float, high: float) -> bool:
    first, last = represented(params)
    return low >= first * SLACK and high <= max(last * SLACK, 0.0)


def _is_inverse_root(node: Node) -> bool:
    exponent = node.inputs[1]
    return exponent is not None and exponent.data is not None and bool((exponent.data == -0.5).all())

"""What the runtime would write over before its last reader.

Some operators write their result over an operand that nobody else reads, and a reshaped tensor is the same memory as
what it was reshaped from. Whether a view may be written over is decided by the readers of the tensor in which the chain
begins, not by those in the middle (LiteRT 2.3, ArenaPlanner::IdentifyInPlaceTensors): where `t = a * b` is itself
written over `a`, a sum of the reshaped `t` replaces `t`, whoever reads that later. XNNPACK plans its own memory; the
others are integers, and floats where there is no such delegate. Here the view gets a `t` of its own, computed twice:
then `a` has two readers, and nothing is written over it.
"""

from __future__ import annotations

from math import prod

from targets.tflite.model import NUMPY, Model, Operator, Tensor

OVERWRITES = {"ADD": 2, "DIV": 2, "MUL": 2, "SOFTMAX": 1, "SUB": 2}  # and how many of their operands
VIEW = "RESHAPE"
SAME_MEMORY = (VIEW, "BITCAST")


def keep_apart(model: Model) -> None:
    """Give every view that would be written over too early a tensor of its own."""
    while places := _endangered(model):
        twins: dict[int, list[Operator]] = {}
        for view, maker in places.items():
            made, reader = model.operators[maker], model.operators[view]
            source = made.inputs[0]
            if made.code != VIEW:
                (shown,) = made.outputs
                source = Tensor(shown.name, shown.dtype, shown.shape)
                source.quant = shown.quant
                twins.setdefault(maker, []).append(made._replace(outputs=(source,)))
            model.operators[view] = reader._replace(inputs=(source, *reader.inputs[1:]))
        model.operators = [p for i, o in enumerate(model.operators) for p in (o, *twins.get(i, ()))]


def _endangered(model: Model) -> dict[int, int]:
    """Places of views through which something is written over before its last reader, and of what makes that."""
    ports = {id(t) for _, t in (*model.inputs, *model.outputs)}
    readers: dict[int, list[int]] = {}
    makers: dict[int, int] = {}
    for i, o in enumerate(model.operators):
        makers.update((id(t), i) for t in o.outputs)
        for t in o.inputs:
            readers.setdefault(id(t), []).append(i)
    last: dict[int, int] = {}  # place where the memory of a tensor is read last, through whichever view
    for i in reversed(range(len(model.operators))):
        o = model.operators[i]
        for t in o.inputs:
            through = last.get(id(o.outputs[0]), i) if o.code == VIEW else i
            last[id(t)] = max(last.get(id(t), i), through)
    found: dict[int, int] = {}
    for i, o in enumerate(model.operators):
        for x in _written_over(o, readers, ports):
            view = makers.get(id(x), -1)
            while view >= 0 and model.operators[view].code == VIEW:
                shown = model.operators[view].inputs[0]
                maker = makers.get(id(shown), -1)
                others = [k for k in readers[id(shown)] if k != view]
                late = any(max(k, _end(model.operators[k], last)) > i for k in others)
                if late and maker >= 0 and id(shown) not in ports and _shares(model.operators[maker]):
                    found[view] = maker
                    break
                view = maker
    return found


def _end(o: Operator, last: dict[int, int]) -> int:
    """Where what an operator shows is read last; -1 unless it is a view."""
    return last.get(id(o.outputs[0]), -1) if o.code == VIEW else -1


def _shares(o: Operator) -> bool:
    """Whether a result may lie where an operand was."""
    return o.code in SAME_MEMORY or o.code in OVERWRITES


def _written_over(o: Operator, readers: dict[int, list[int]], ports: set[int]) -> list[Tensor]:
    """The operands that an operator may write over."""
    if o.code not in OVERWRITES or id(o.outputs[0]) in ports:
        return []
    given = [t for t in o.inputs[: OVERWRITES[o.code]] if t is not None and t.constant is None]
    return [t for t in given if len(readers[id(t)]) == 1 and _bytes(t) == _bytes(o.outputs[0])]


def _bytes(tensor: Tensor) -> int:
    return prod(tensor.shape) * NUMPY[tensor.dtype].itemsize

"""What can be said of an ONNX graph before it is imported: what is not supported, whether its names make sense, and
the order of its nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compiler.errors import OnnxError
from compiler.importers.registry import IMPORTERS, MICROSOFT
from compiler.onnx_proto import DATA_TYPES, quote
from compiler.op import FROM_ONNX

if TYPE_CHECKING:
    from compiler.onnx_proto import GraphProto, NodeProto, ValueInfoProto

DEFAULT_DOMAINS = ("", "ai.onnx")
CONTROL_FLOW = ("If", "Loop", "Scan")
DEFINED = ("CausalConvWithState", "LinearAttention")  # read as the functions that ONNX defines them by
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
TEXT = ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer")
SEQUENCES = frozenset(f"Sequence{verb}" for verb in ("At", "Construct", "Empty", "Erase", "Insert", "Length", "Map"))
UNSUPPORTED = {
    **dict.fromkeys(RANDOM, "it draws random numbers"),
    **dict.fromkeys(TEXT, "it processes text, which is to be done before the model"),
    **dict.fromkeys(
        (*SEQUENCES, "SplitToSequence", "ConcatFromSequence"),
        "sequences of tensors are not supported (Split, Slice and Concat do without them)",
    ),
    "ImageDecoder": "it decodes image files, which is to be done before the model",
}
OTHERS_OF_MICROSOFT = "of the domain com.microsoft, only the operators of quantized models are known"


class Unsupported:
    """Everything in a graph that cannot be imported, one line each.

    certain   inputs, outputs and nodes that are there whatever happens
    branches  nodes in the branches of an If, of which one will be dropped
    """

    def __init__(self, graph: GraphProto) -> None:
        self.certain: list[str] = []
        self.branches: list[str] = []
        for role, infos in (("input", graph.input), ("output", graph.output)):
            self.certain += [line for info in infos if (line := _not_a_tensor(role, info))]
        self._survey(graph, self.certain)

    def refuse(self) -> None:
        """Raise one OnnxError with all lines."""
        lines = [*self.certain, *self.branches]
        what = f"{len(lines)} parts of the model" if len(lines) > 1 else "one part of the model"
        raise OnnxError(f"{what} cannot be imported\n  " + "\n  ".join(lines))

    def _survey(self, graph: GraphProto, lines: list[str]) -> None:
        for node in graph.node:
            op_type = node.op_type
            if op_type in CONTROL_FLOW:
                inner = self.branches if op_type == "If" else lines
                for attribute in node.attribute:
                    if attribute.HasField("g"):
                        self._survey(attribute.g, inner)
            reason = problem(node)
            if reason is not None:
                lines.append(f"{describe(node)}: {reason}")


def operator_of(node: NodeProto) -> str:
    """The name that an operator is known by: its domain comes first where it is not the default one."""
    return node.op_type if node.domain in DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}"


def problem(node: NodeProto) -> str | None:
    """Why no importer takes the node; None if one does."""
    op_type = operator_of(node)
    if node.domain not in DEFAULT_DOMAINS:
        if op_type in IMPORTERS:
            return None
        known = node.domain == MICROSOFT
        return OTHERS_OF_MICROSOFT if known else f"the domain {quote(node.domain)} is not known"
    if op_type in FROM_ONNX or op_type in IMPORTERS or op_type in (*CONTROL_FLOW, *DEFINED):
        return None
    return UNSUPPORTED.get(op_type, "this operator is not supported")


def _not_a_tensor(role: str, info: ValueInfoProto) -> str | None:
    kind = info.type.WhichOneof("value")
    if kind == "tensor_type":
        number = info.type.tensor_type.elem_type
        if number in DATA_TYPES or role == "output":
            return None
        what = f"has an element type, number {number}, that is not known" if number else "has no element type"
        return f"{role} {quote(info.name)} {what}"
    if kind is None and role == "output":  # its type follows from the nodes
        return None
    what = f"is of type {kind.removesuffix('_type')}" if kind else "has no type"
    return f"{role} {quote(info.name)} {what}, not a tensor"


def describe(node: NodeProto) -> str:
    """How messages call a node."""
    if node.name:
        return f"ONNX node {quote(node.name)} ({_word(node.op_type)})"
    return f"the {_word(node.op_type)} node that computes {', '.join(quote(o) for o in node.output[:3])}"


def _word(op_type: str) -> str:
    """The operator's name as it is, or in quotes if it is none."""
    return op_type if isinstance(op_type, str) and op_type.isidentifier() else quote(op_type)


def check_names(graph: GraphProto) -> None:
    """Raise OnnxError for a name that is not UTF-8, and for a tensor that two parts of one graph define."""
    tensors = [t.name for t in graph.initializer] + [t.values.name for t in graph.sparse_initializer]
    inputs = [i.name for i in graph.input]
    computed = [o for node in graph.node for o in node.output]
    for names in (tensors, inputs, computed, [n.name for n in graph.node]):
        if bytes in set(map(type, names)):
            wrong = next(n for n in names if type(n) is not str)
            raise OnnxError(f"the name {quote(wrong)} is not UTF-8")
        if "\0" in "".join(names):
            wrong = next(n for n in names if "\0" in n)
            raise OnnxError(f"the name {quote(wrong)} holds a NUL character")
    if "" in inputs:
        raise OnnxError("an input of the model has no name")
    made = set(computed)
    for names in (tensors, inputs):  # an input may have an initializer of its name, as a default
        for name, times in Counter(names).items():
            if times > 1 or name in made:
                raise OnnxError(f"tensor {quote(name)} is defined twice")
    for node in graph.node:
        if node.op_type in CONTROL_FLOW:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    check_names(attribute.g)


def in_order(graph: GraphProto) -> Sequence[NodeProto]:
    """The nodes of a graph sorted by dependency (stable; as they are if that is already so).

    Raises OnnxError for cycles and for tensors that two nodes define.
    """
    nodes = graph.node
    producer: dict[str, int] = {}
    awaited: set[str] = set()  # read, but not computed so far
    is_sorted = True
    for i, node in enumerate(nodes):
        for name in node.input if node.op_type not in CONTROL_FLOW else _reads(node):
            if name not in producer:
                awaited.add(name)
        for name in node.output:
            if name:
                if name in producer:
                    raise OnnxError(f"tensor {quote(name)} is defined twice", where=describe(node))
                producer[name] = i
                is_sorted = is_sorted and name not in awaited
    return nodes if is_sorted else _sorted(nodes, producer)


def _reads(node: NodeProto) -> Sequence[str]:
    """The tensors that a node reads, those that its subgraphs capture included."""
    names = list(node.input)
    if node.op_type in CONTROL_FLOW:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                inner = attribute.g
                own = {i.name for i in inner.input} | {t.name for t in inner.initializer}
                own.update(o for n in inner.node for o in n.output)
                read = [name for n in inner.node for name in _reads(n)] + [o.name for o in inner.output]
                names += [name for name in read if name not in own]
    return names


def _sorted(nodes: Sequence[NodeProto], producer: dict[str, int]) -> list[NodeProto]:
    state = [0] * len(nodes)  # 0 unseen, 1 on the current path, 2 done
    order: list[NodeProto] = []
    for root in range(len(nodes)):
        stack = [root]
        while stack:
            i = stack[-1]
            if state[i] == 0:
                state[i] = 1
                for name in _reads(nodes[i]):
                    j = producer.get(name, -1)
                    if j >= 0 and state[j] == 1:
                        raise OnnxError(f"the graph has a cycle through tensor {quote(name)}", where=describe(nodes[i]))
                    if j >= 0 and state[j] == 0:
                        stack.append(j)
            else:
                stack.pop()
                if state[i] == 1:
                    state[i] = 2
                    order.append(nodes[i])
    return order

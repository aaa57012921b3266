"""The layer graph: typed values, nodes in topological order, and the only code that changes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from compiler.errors import CompileError, GraphError, ShapeError
from compiler.op import Op
from compiler.tensor import Array, TensorType, dtype_of, type_of

Origin = frozenset[str]
NOWHERE: Origin = frozenset()


class Value:
    """A tensor of the graph; its identity is the object, its name only a hint for people.

    type    what is known of it; never changes
    node    the layer that computes it; None for inputs and constants
    users   layers that read it -> how many of their operands are it
    n_out   how often it is an output of the graph
    data    read-only array of a constant, perhaps memory-mapped; None otherwise
    origin  names of the ONNX tensors that a constant came from
    """

    __slots__ = ("data", "index", "n_out", "name", "node", "origin", "type", "users")

    def __init__(self, type: TensorType, name: str = "", node: Node | None = None, index: int = 0) -> None:
        self.type = type
        self.name = name
        self.node = node
        self.index = index
        self.users: dict[Node, int] = {}
        self.n_out = 0
        self.data: Array | None = None
        self.origin: Origin = NOWHERE

    @property
    def is_const(self) -> bool:
        return self.data is not None

    @property
    def label(self) -> str:
        """The name in messages: on one line and of bounded length, whatever it holds."""
        name = self.name[:200] or "?"
        return f"%{name}" if name.isprintable() else f"%{name!r}"

    @property
    def is_read(self) -> bool:
        return bool(self.users) or self.n_out > 0

    def __repr__(self) -> str:
        return f"{self.label} : {self.type}"


class Node:
    """A layer: an operation applied to values. `origin` names the ONNX nodes it stands for."""

    __slots__ = ("_next", "_prev", "graph", "inputs", "op", "origin", "outputs")

    def __init__(self, op: Op, inputs: tuple[Value | None, ...], origin: Origin) -> None:
        self.op = op
        self.inputs = inputs
        self.outputs: tuple[Value, ...] = ()
        self.origin = origin
        self.graph: Graph | None = None
        self._prev: Node | None = None
        self._next: Node | None = None

    @property
    def output(self) -> Value:
        """The only result."""
        (value,) = self.outputs
        return value

    @property
    def is_erased(self) -> bool:
        return self.graph is None

    @property
    def input_types(self) -> tuple[TensorType | None, ...]:
        return types_of(self.inputs)

    @property
    def macs(self) -> int:
        return self.op.macs([v.type for v in self.outputs], *self.input_types)

    def __repr__(self) -> str:
        results = ", ".join(v.label for v in self.outputs)
        operands = ", ".join("none" if v is None else v.label for v in self.inputs)
        attributes = "".join(f" {k}={v!r}" for k, v in self.op.changed().items())
        types = ", ".join(str(v.type) for v in self.outputs)
        return f"{results} = {self.op.name}({operands}){attributes} : {types}"

    def describe(self) -> str:
        """The printed form with its ONNX origin, for error messages."""
        names = sorted(self.origin)
        shown = ", ".join(f"{n!r}" for n in names[:3]) + (", ..." if len(names) > 3 else "")
        return f"{self!r}  (from ONNX node {shown})" if names else repr(self)


def types_of(values: Iterable[Value | None]) -> tuple[TensorType | None, ...]:
    """The types of operands; None for absent ones."""
    return tuple([None if v is None else v.type for v in values])


class Graph:
    """A single-assignment graph of layers. Only `add`, `replace`, `erase` and the input/output methods change it."""

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.output_names: list[str] = []
        self.metadata: dict[str, str] = {}
        self.count = 0
        self._first: Node | None = None
        self._last: Node | None = None
        self._by_op: dict[type[Op], dict[Node, None]] = {}

    # -- reading ---------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> Iterator[Node]:
        """Layers in topological order; the layer just visited may be erased while iterating."""
        node = self._first
        while node is not None:
            following = node._next
            yield node
            node = following

    def __len__(self) -> int:
        return self.count

    def of(self, *ops: type[Op]) -> list[Node]:
        """Layers of the given operations, each operation's in the order they were added."""
        return [n for op in ops for n in self._by_op.get(op, ())]

    @property
    def op_counts(self) -> dict[str, int]:
        """How many layers there are of each operation, by name."""
        return {op.name: len(nodes) for op, nodes in sorted(self._by_op.items(), key=lambda i: i[0].name) if nodes}

    @property
    def constants(self) -> list[Value]:
        """Constants that some layer or output reads, in order of first use."""
        seen = {id(v): v for n in self.nodes for v in n.inputs if v is not None and v.data is not None}
        seen.update((id(v), v) for v in self.outputs if v.data is not None)
        return list(seen.values())

    # -- changing --------------------------------------------------------------------------------------------

    def add_input(self, type: TensorType, name: str) -> Value:
        """A new graph input."""
        value = Value(type, name)
        self.inputs.append(value)
        return value

    def set_outputs(self, values: Sequence[Value], names: Sequence[str]) -> None:
        """Declare the results of the graph and the names under which they are known outside."""
        for old in self.outputs:
            old.n_out -= 1
        for new in values:
            new.n_out += 1
        self.outputs, self.output_names = list(values), list(names)

    def const(self, data: Array, name: str = "", origin: Origin = NOWHERE) -> Value:
        """A constant value; the array is shared, not copied, and becomes read-only."""
        if data.flags.writeable:
            data = data.view()
            data.flags.writeable = False
        value = Value(type_of(data), name)
        value.data = data
        value.origin = origin
        return value

    def add(
        self,
        op: Op,
        *inputs: Value | None,
        before: Node | None = None,
        origin: Origin = NOWHERE,
        names: Sequence[str] = (),
    ) -> tuple[Value, ...]:
        """Append a layer, or insert it before another, and return its results. Types are inferred.

        Raises ShapeError, with the layer's printed form, if the operation does not accept the operands.
        """
        try:
            types = op.infer(*types_of(inputs))
        except ShapeError as e:
            raise ShapeError(f"{op.name}: {e.message}", where=_call(op, inputs), hint=e.hint) from e
        except TypeError as e:
            raise ShapeError(f"{op.name} does not take {len(inputs)} operands", where=_call(op, inputs)) from e
        node = Node(op, inputs, origin)
        if isinstance(types, TensorType):
            node.outputs = (Value(types, names[0] if names else "", node),)
        else:
            node.outputs = tuple(Value(t, names[i] if i < len(names) else "", node, i) for i, t in enumerate(types))
        self._link(node, before)
        for v in inputs:
            if v is not None:
                v.users[node] = v.users.get(node, 0) + 1
        return node.outputs

    def replace(self, old: Value, new: Value) -> None:
        """Let every reader of `old`, and the graph's outputs, read `new`, which must have the same type; it may be
        quantized where `old` is not."""
        if old is new:
            return
        if old.type not in (new.type, new.type._replace(quant=None)):
            raise GraphError(
                f"a value of type {old.type} cannot be replaced by one of type {new.type}", where=repr(old)
            )
        for user in list(old.users):
            user.inputs = tuple(new if v is old else v for v in user.inputs)
            new.users[user] = new.users.get(user, 0) + old.users[user]
        old.users = {}
        if old.n_out:
            self.outputs = [new if v is old else v for v in self.outputs]
            new.n_out += old.n_out
            old.n_out = 0
        if not new.name:
            new.name = old.name

    def set_operand(self, node: Node, index: int, value: Value) -> None:
        """Let one operand of a layer read another value of the same type."""
        old = node.inputs[index]
        assert old is not None and old.type == value.type
        old.users[node] -= 1
        if not old.users[node]:
            del old.users[node]
        node.inputs = (*node.inputs[:index], value, *node.inputs[index + 1 :])
        value.users[node] = value.users.get(node, 0) + 1

    def erase(self, node: Node) -> None:
        """Remove a layer that nobody reads."""
        if any(v.is_read for v in node.outputs):
            raise GraphError("a layer that is still read cannot be erased", where=repr(node))
        for v in node.inputs:
            if v is not None:
                v.users.pop(node, None)
        self._unlink(node)

    def erase_unread(self, roots: Iterable[Node]) -> list[Node]:
        """Erase those of `roots` that nobody reads, then what only they read, and so on; returns them."""
        erased = []
        stack = list(roots)
        while stack:
            node = stack.pop()
            if node.graph is None or any(v.is_read for v in node.outputs):
                continue
            self.erase(node)
            erased.append(node)
            stack.extend(v.node for v in node.inputs if v is not None and v.node is not None)
        return erased

    def clone(self) -> Graph:
        """An independent copy that shares operations and constant data."""
        twin = Graph(self.name)
        twin.metadata = dict(self.metadata)
        mapped: dict[int, Value] = {}
        for v in self.inputs:
            mapped[id(v)] = twin.add_input(v.type, v.name)
        for c in self.constants:
            constant = mapped[id(c)] = Value(c.type, c.name)
            constant.data, constant.origin = c.data, c.origin
        for node in self.nodes:
            copied = Node(node.op, tuple(None if v is None else mapped[id(v)] for v in node.inputs), node.origin)
            copied.outputs = tuple(Value(v.type, v.name, copied, v.index) for v in node.outputs)
            twin._link(copied, None)
            for operand in copied.inputs:
                if operand is not None:
                    operand.users[copied] = operand.users.get(copied, 0) + 1
            mapped.update((id(a), b) for a, b in zip(node.outputs, copied.outputs, strict=True))
        twin.set_outputs([mapped[id(v)] for v in self.outputs], self.output_names)
        return twin

    def _link(self, node: Node, before: Node | None) -> None:
        node.graph = self
        node._next = before
        node._prev = self._last if before is None else before._prev
        if node._prev is None:
            self._first = node
        else:
            node._prev._next = node
        if before is None:
            self._last = node
        else:
            before._prev = node
        self._by_op.setdefault(type(node.op), {})[node] = None
        self.count += 1

    def _unlink(self, node: Node) -> None:
        if node._prev is None:
            self._first = node._next
        else:
            node._prev._next = node._next
        if node._next is None:
            self._last = node._prev
        else:
            node._next._prev = node._prev
        del self._by_op[type(node.op)][node]
        node.graph = None
        self.count -= 1

    # -- checking --------------------------------------------------------------------------------------------

    def verify(self) -> None:
        """Raise GraphError on the first broken invariant: definition before use, one owner, inferred types,
        exact user lists, read-only constants, every output computed."""
        defined = {id(v) for v in self.inputs}
        counts: dict[int, dict[Node, int]] = {}
        total = 0
        for node in self.nodes:
            total += 1
            for v in node.inputs:
                if v is None:
                    continue
                if v.data is not None:
                    _verify_const(v)
                elif id(v) not in defined:
                    raise GraphError(f"{v!r} is read before it is computed", where=repr(node))
                users = counts.setdefault(id(v), {})
                users[node] = users.get(node, 0) + 1
            _verify_types(node)
            for i, v in enumerate(node.outputs):
                if id(v) in defined or v.node is not node or v.index != i:
                    raise GraphError(f"{v!r} has two owners or a wrong one", where=repr(node))
                defined.add(id(v))
            if node not in self._by_op.get(type(node.op), ()):
                raise GraphError("layer is missing from the index by operation", where=repr(node))
        if total != self.count:
            raise GraphError(f"the graph counts {self.count} layers but links {total}")
        met = {id(v): (v, node) for node in self.nodes for v in (*node.inputs, *node.outputs) if v is not None}
        for v, node in met.values():
            if v.users != counts.get(id(v), {}):
                raise GraphError(f"the user list of {v!r} disagrees with the layers", where=repr(node))
        self._verify_outputs(defined)

    def _verify_outputs(self, defined: set[int]) -> None:
        if len(self.outputs) != len(self.output_names):
            raise GraphError("outputs and their names differ in number")
        times = Counter(map(id, self.outputs))
        for v in self.outputs:
            if v.data is None and id(v) not in defined:
                raise GraphError(f"output {v!r} is not computed")
            if v.n_out != times[id(v)]:
                raise GraphError(f"output count of {v!r} is wrong")


def _verify_const(v: Value) -> None:
    assert v.data is not None
    if v.data.flags.writeable:
        raise GraphError(f"constant {v!r} is writeable")
    if v.data.shape != v.type.shape or dtype_of(v.data) is not v.type.dtype:
        raise GraphError(f"constant {v!r} has data of type {type_of(v.data)}")


def _verify_types(node: Node) -> None:
    try:
        types = node.op.infer(*node.input_types)
    except (CompileError, TypeError) as e:
        raise GraphError(f"operands do not fit: {e}", where=repr(node)) from e
    types = (types,) if isinstance(types, TensorType) else types
    declared = tuple(v.type._replace(quant=None, layout=None) for v in node.outputs)
    if declared != tuple(t._replace(quant=None, layout=None) for t in types):
        raise GraphError(
            f"declared types {list(map(str, declared))} but inference gives {list(map(str, types))}", where=repr(node)
        )


def _call(op: Op, inputs: Sequence[Value | None]) -> str:
    attributes = "".join(f" {k}={v!r}" for k, v in op.changed().items())
    return f"{op.name}({', '.join('none' if v is None else repr(v) for v in inputs)}){attributes}"

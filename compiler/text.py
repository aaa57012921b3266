"""The readable text form of a layer graph; `parse_graph` in compiler.text_parse is its exact inverse.

    graph "net"(%x: f32[1,3,8,8]) {
      %w = const #5c1f3089f83bb5c2a1b00d77 : f32[4,3,3,3]  from "conv1.weight"
      %c = conv(%x, %w) strides=(2, 2) pads=(1, 1, 1, 1) : f32[1,4,4,4]  from "Conv_8"
      return %c as "features"
    }

Attributes at their default are not printed. Constants of up to 16 elements print their values, those whose elements
are all equal print `splat(value)`, others a digest of type and bytes, with the data beside in an `.npz` file. An
element that no decimal number stands for (a NaN with a payload) prints its bits, as `0x7fc00001`; complex elements
print their real and imaginary parts one after the other. Names that are more than letters, digits and `_./-` are
JSON strings.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from math import nan

import numpy as np

from compiler.errors import ParseError
from compiler.graph import Graph, Node, Origin, Value
from compiler.tensor import Array, DType, TensorType, dtype_of

INLINE = 16  # elements of a constant that print as values
SPLAT_BYTES = 1 << 26  # larger constants are not searched for a common value
PLAIN = re.compile(r"[\w./-]+", re.ASCII)
SYMBOL = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class Bits(int):
    """The bit pattern of a floating-point element."""


def print_graph(graph: Graph) -> str:
    """The graph as text; values get unique names made from their own. Same graph, same bytes."""
    return "\n".join(_Printer(graph).lines()) + "\n"


def constants_of(graph: Graph) -> dict[str, Array]:
    """The constants that print as a digest, by digest."""
    large = (v.data for v in graph.constants if v.data is not None and not _prints_values(v.data))
    return {digest(data): data for data in large}


def save_constants(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write `constants_of(graph)` as .npz (what numpy cannot store plainly, as bytes); nothing if there are none."""
    held = constants_of(graph)
    if held:
        with open(path, "wb") as f:  # noqa: PTH123  # np.savez would add a suffix to a path
            np.savez(f, **{name: _plain(a) for name, a in held.items()})  # type: ignore[arg-type]  # numpy's stub takes the names for its own option


def load_constants(path: str | os.PathLike[str]) -> Mapping[str, Array]:
    """What `save_constants` wrote; ParseError if the file is not that."""
    import zipfile  # numpy loads it for this too

    try:
        with open(path, "rb") as f, np.load(f, allow_pickle=False) as data:  # noqa: PTH123  # a path or its text
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, AttributeError, EOFError, TypeError, zipfile.BadZipFile) as e:
        raise ParseError(f"the constants cannot be read from {os.fspath(path)!r}: {e}") from None


def stored(held: Array, t: TensorType) -> Array:
    """A constant of type `t` from the form in which `save_constants` keeps it; ValueError if it is not one."""
    if held.dtype == t.dtype.numpy:
        return held.reshape(t.dims)
    if t.dtype.kind == "s":
        return np.array([*json.loads(held.tobytes()), None], object)[:-1].reshape(t.dims)
    return held.reshape(-1).view(t.dtype.numpy).reshape(t.dims)


def digest(data: Array) -> str:
    """24 hexadecimal digits over element type, shape and bytes."""
    h = blake2b(f"{dtype_of(data).name}{data.shape}".encode(), digest_size=12)
    h.update(_json(data) if dtype_of(data).kind == "s" else np.ascontiguousarray(data).reshape(-1).view(np.uint8).data)
    return h.hexdigest()


class _Printer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.names: dict[Value, str] = {}
        self.used: dict[str, int] = {}

    def lines(self) -> Iterator[str]:
        g = self.graph
        for v in g.inputs:
            self.name(v, v.name)
        head = ", ".join(f"{self.aliased(v, v.name)}: {type_text(v.type)}" for v in g.inputs)
        metadata = f" {json.dumps(g.metadata, sort_keys=True)}" if g.metadata else ""
        yield f"graph {json.dumps(g.name)}({head}){metadata} {{"
        for node in g.nodes:
            for operand in node.inputs:
                if operand is not None and operand.data is not None and operand not in self.names:
                    yield self.const(operand)
            yield self.layer(node)
        for v in g.outputs:
            if v.data is not None and v not in self.names:
                yield self.const(v)
        results = ", ".join(self.aliased(v, name) for v, name in zip(g.outputs, g.output_names, strict=True))
        yield f"  return {results}".rstrip()
        yield "}"

    def name(self, v: Value, base: str) -> str:
        """The unique name of a value, made from `base` when it is first asked for."""
        found = self.names.get(v)
        if found is None:
            candidate = base
            while candidate in self.used:
                self.used[base] += 1
                candidate = f"{base}_{self.used[base]}"
            self.used[candidate] = 0
            found = self.names[v] = _quoted(candidate)
        return found

    def inner(self, v: Value) -> str:
        """The name of a value whose own is only a hint."""
        return self.names.get(v) or self.name(v, v.name or ("c" if v.data is not None else "v"))

    def aliased(self, v: Value, outside: str) -> str:
        """The name of a value, with the one by which it is known outside the graph if that differs."""
        printed = self.inner(v)
        return printed if printed == _quoted(outside) else f"{printed} as {json.dumps(outside)}"

    def const(self, v: Value) -> str:
        assert v.data is not None
        return f"  {self.inner(v)} = const {_data_text(v.data)} : {type_text(v.type)}{_origin(v.origin)}"

    def layer(self, node: Node) -> str:
        operands = ", ".join(["none" if v is None else self.inner(v) for v in node.inputs])
        results = ", ".join([self.inner(v) for v in node.outputs])
        attributes = "".join([f" {k}={literal(a)}" for k, a in node.op.changed().items()])
        types = ", ".join([type_text(v.type) for v in node.outputs])
        return f"  {results} = {node.op.name}({operands}){attributes} : {types}{_origin(node.origin)}"


def type_text(t: TensorType) -> str:
    """`f32[1,N]`, with annotations behind `@` if there are any."""
    dims = ",".join([str(d) if isinstance(d, int) or SYMBOL.fullmatch(d) else json.dumps(d) for d in t.shape])
    text = f"{t.dtype.name}[{dims}]"
    if t.layout is not None:
        text += f"@layout{literal(tuple(t.layout))}"
    if t.quant is not None:
        q = t.quant
        block = () if q.block is None else (tuple(q.block),)
        text += f"@quant{literal((q.scale, q.zero_point, q.axis, q.dtype.name, *block))}"
    if t.palette is not None:
        text += f"@palette{literal(tuple(t.palette))}"
    return text


def literal(value: object) -> str:
    """An attribute value: numbers, strings in double quotes, tuples in parentheses."""
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, str):
        return json.dumps(value)
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    raise TypeError(f"an attribute of type {type(value).__name__} has no text form")


def number(text: str) -> int | float:
    """What a text of digits stands for; ValueError if it is none."""
    if text[:2] == "0x":
        return Bits(text, 16)
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def elements(numbers: Sequence[object], dtype: DType) -> Array:
    """A vector of what `_element_texts` prints: numbers, Bits or strings. ValueError for one that does not fit."""
    accepted = {"s": str, "c": float | int, "f": float | int}.get(dtype.kind, int)
    if not all(isinstance(x, accepted) for x in numbers):
        raise ValueError(f"not every element is one of {dtype}")
    if dtype.kind == "s":
        return np.array([*numbers, None], object)[:-1]
    if dtype.kind == "c":
        return elements(numbers, _part(dtype)).view(dtype.numpy)
    if dtype.kind != "f":
        wide = np.array(numbers, object).astype(np.dtype("u8" if dtype.kind == "u" else "i8"))
        narrow = wide.astype(dtype.numpy)
        if not np.array_equal(narrow.astype(wide.dtype), wide):
            raise ValueError(f"not every element is one of {dtype}")
        return narrow
    with np.errstate(all="ignore"):
        plain = [nan if isinstance(x, Bits) else x for x in numbers]
        array = np.array(plain, np.float64).astype(dtype.numpy)
    for i, x in enumerate(numbers):
        if isinstance(x, Bits):
            array.view(_unsigned(array.dtype))[i] = x
    return array


def _quoted(name: str) -> str:
    return "%" + (name if PLAIN.fullmatch(name) else json.dumps(name))


def _origin(origin: Origin) -> str:
    return f"  from {', '.join(map(json.dumps, sorted(origin)))}" if origin else ""


def _plain(data: Array) -> Array:
    kind = dtype_of(data).kind
    if kind == "s":
        return np.frombuffer(_json(data), np.uint8)
    return data if data.dtype.isbuiltin == 1 else np.ascontiguousarray(data).reshape(-1).view(np.uint8)


def _json(data: Array) -> bytes:
    return json.dumps([_string(s) for s in data.reshape(-1)]).encode()


def _string(s: object) -> str:
    return s.decode("utf-8", "surrogateescape") if isinstance(s, bytes) else str(s)


def _prints_values(data: Array) -> bool:
    return data.size <= INLINE or _is_splat(data)


def _is_splat(data: Array) -> bool:
    """Whether all of several elements have the same bits."""
    if data.size < 2 or data.nbytes > SPLAT_BYTES or dtype_of(data).kind not in "fiub":
        return False
    flat = data.reshape(-1)
    first = flat[:1].tobytes()
    if flat[-1:].tobytes() != first:
        return False
    bits = np.ascontiguousarray(flat).view(_unsigned(flat.dtype))
    return bool(np.all(bits == bits[0]))


def _data_text(data: Array) -> str:
    if _is_splat(data):
        return f"splat({_element_texts(data.reshape(-1)[:1])[0]})"
    if data.size <= INLINE:
        return f"[{', '.join(_element_texts(data.reshape(-1)))}]"
    return f"#{digest(data)}"


def _element_texts(flat: Array) -> list[str]:
    """The shortest texts that read back to the same elements."""
    dtype = dtype_of(flat)
    if dtype.kind == "s":
        return [json.dumps(_string(s)) for s in flat]
    if dtype.kind == "c":
        return _element_texts(np.ascontiguousarray(flat).view(_part(dtype).numpy))
    if dtype.kind == "b":
        return [str(bool(x)) for x in flat]
    return [_float_text(x, dtype) if dtype.is_float else str(int(x)) for x in flat]


def _float_text(x: np.generic, dtype: DType) -> str:
    bits = x.tobytes()
    for text in (str(x), repr(float(x))):
        if elements([number(text)], dtype).tobytes() == bits:
            return text
    return hex(int.from_bytes(bits, "little"))


def _part(dtype: DType) -> DType:
    """The element type of the real part of a complex type."""
    return dtype_of(np.zeros(0, dtype.numpy).real)


def _unsigned(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    return np.dtype(f"u{dtype.itemsize}")

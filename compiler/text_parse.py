"""Parses the text form of a layer graph (see compiler.text)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import islice
from math import nan
from typing import Any

import numpy as np

import compiler.ops  # noqa: F401  # registers the operations
from compiler.errors import CompileError, ParseError
from compiler.graph import NOWHERE, Graph, Origin, Value
from compiler.op import OPS
from compiler.tensor import DTYPES, Array, Block, Dim, Layout, Palette, QuantParams, TensorType
from compiler.text import SYMBOL, digest, elements, number, stored

STRING = r'"(?:[^"\\\n]|\\.)*"?'  # one that is not closed is a token too, and refused when it is read
TOKEN = re.compile(rf'%{STRING}|%[\w./-]+|{STRING}|[^\s(){{}}\[\],:=@#%"]+|\S', re.ASCII)
WORDS = {"True": True, "False": False, "None": None, "nan": nan}
CLOSING = {"(": ")", "[": "]"}
MAX_ELEMENTS = 1 << 28  # of a constant that a text generates


def parse_graph(text: str, constants: Mapping[str, Array] | None = None) -> Graph:
    """The graph that a text describes; `constants` holds the data of those printed as a digest.

    Raises ParseError with the line number; declared types are compared with what inference gives.
    """
    parser = _Parser(text, constants or {})
    try:
        return parser.graph()
    except (ValueError, TypeError, OverflowError, LookupError, AttributeError) as e:
        raise parser.fail(f"this cannot be read ({e})") from e
    except RecursionError:
        raise parser.fail("parentheses are nested too deeply") from None


class _Parser:
    def __init__(self, text: str, constants: Mapping[str, Array]) -> None:
        self.constants = constants
        self.text = text
        self.tokens: list[str] = TOKEN.findall(text)
        self.tokens.append("")
        self.at = 0
        self.start = 0  # of the statement being read
        self.values: dict[str, Value] = {}
        self.types: dict[tuple[str, ...], TensorType] = {}
        self.result = Graph()

    # -- tokens ----------------------------------------------------------------------------------------------

    def fail(self, message: str) -> ParseError:
        """An error at the current token."""
        token = self.tokens[self.at]
        found = next(islice(TOKEN.finditer(self.text), self.at, None), None)
        start = found.start() if found else len(self.text.rstrip())
        line = self.text.count("\n", 0, start) + 1
        return ParseError(
            f"line {line}: {message}, at {token[:40]!r}" if token else f"line {line}: {message}, at the end"
        )

    def refuse(self, message: str) -> ParseError:
        """An error of the whole statement that was just read."""
        self.at = self.start
        return self.fail(message)

    def peek(self) -> str:
        return self.tokens[self.at]

    def take(self) -> str:
        token = self.tokens[self.at]
        if not token:
            raise self.fail("the text ends too early")
        self.at += 1
        return token

    def want(self, token: str) -> None:
        if self.tokens[self.at] != token:
            raise self.fail(f"expected {token!r}")
        self.at += 1

    def accept(self, token: str) -> bool:
        if self.tokens[self.at] != token:
            return False
        self.at += 1
        return True

    def string(self) -> str:
        value = self.unquoted(self.peek())
        self.at += 1
        return value

    def unquoted(self, token: str) -> str:
        try:
            if token[:1] == '"':
                return str(json.loads(token))
        except ValueError:
            pass
        raise self.fail("expected a string in double quotes, with escapes as JSON has them")

    def name(self) -> str:
        token = self.peek()
        if token[:1] != "%" or len(token) < 2:
            raise self.fail("expected a name such as %x")
        name = self.unquoted(token[1:]) if token[1] == '"' else token[1:]
        self.at += 1
        return name

    def known_as(self, name: str) -> str:
        """The name outside the graph, if the text gives another."""
        return self.string() if self.accept("as") else name

    def literal(self) -> Any:
        """A number, string, tuple, or a list in brackets."""
        token = self.peek()
        if token in CLOSING:
            self.at += 1
            return self.items(CLOSING[token])
        if token[:1] == '"':
            return self.string()
        value = self.number(token)
        self.at += 1
        return value

    def items(self, close: str) -> tuple[Any, ...]:
        """Values up to a closing bracket."""
        items = []
        while not self.accept(close):
            items.append(self.literal())
            if not self.accept(","):
                self.want(close)
                break
        return tuple(items)

    def number(self, token: str) -> Any:
        if token in WORDS:
            return WORDS[token]
        try:
            return number(token)
        except ValueError:
            raise self.fail("expected a number, a string in double quotes, a tuple, True, False or None") from None

    def origin(self) -> Origin:
        if not self.accept("from"):
            return NOWHERE
        names = [self.string()]
        while self.accept(","):
            names.append(self.string())
        return frozenset(names)

    def type(self) -> TensorType:
        """A type; one that was read before is the same object."""
        tokens, start = self.tokens, self.at
        try:
            end = tokens.index("]", start, start + 64) + 1
        except ValueError:
            end = start
        known = self.types.get(tuple(tokens[start:end])) if tokens[end] != "@" else None
        if known is not None:
            self.at = end
            return known
        t = self.annotated(self.plain_type())
        if self.at == end:
            self.types[tuple(tokens[start:end])] = t
        return t

    def plain_type(self) -> TensorType:
        dtype = DTYPES.get(self.peek())
        if dtype is None:
            raise self.fail("expected a type such as f32[1,3]")
        self.at += 1
        self.want("[")
        dims: list[Dim] = []
        while not self.accept("]"):
            dims.append(self.dim())
            if not self.accept(","):
                self.want("]")
                break
        return TensorType(dtype, tuple(dims))

    def dim(self) -> Dim:
        token = self.peek()
        if token[:1] == '"':
            return self.string()
        if not token.isdecimal() and not SYMBOL.fullmatch(token):
            raise self.fail("expected a dimension: a number or a name")
        self.at += 1
        return int(token) if token.isdecimal() else token

    def annotated(self, t: TensorType) -> TensorType:
        while self.accept("@"):
            kind, value = self.take(), self.literal()
            if kind == "layout":
                t = t._replace(layout=Layout(*value))
            elif kind == "quant":
                scale, zero_point, axis, dtype, *block = value
                blocks = Block(*block[0]) if block else None
                t = t._replace(quant=QuantParams(scale, zero_point, axis, DTYPES[dtype], blocks))
            elif kind == "palette":
                t = t._replace(palette=Palette(*value))
            else:
                raise self.fail(f"there is no annotation {kind!r}")
        return t

    # -- statements ------------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        self.want("graph")
        if self.peek()[:1] == '"':
            self.result.name = self.string()
        self.want("(")
        while not self.accept(")"):
            name = self.name()
            outside = self.known_as(name)
            self.want(":")
            self.define(name, self.result.add_input(self.type(), outside))
            if not self.accept(","):
                self.want(")")
                break
        self.want("{")
        if self.peek()[:1] == '"':
            self.metadata()
            self.want("{")
        while not self.accept("return"):
            self.statement()
        self.outputs()
        self.want("}")
        if self.peek():
            raise self.fail("expected the end of the text")
        return self.result

    def metadata(self) -> None:
        while not self.accept("}"):
            key = self.string()
            self.want(":")
            self.result.metadata[key] = self.string()
            if not self.accept(","):
                self.want("}")
                break

    def outputs(self) -> None:
        values, names = [], []
        while self.peek()[:1] == "%":
            name = self.name()
            values.append(self.value(name))
            names.append(self.known_as(name))
            if not self.accept(","):
                break
        self.result.set_outputs(values, names)

    def define(self, name: str, value: Value) -> None:
        if name in self.values:
            raise self.refuse(f"%{name} is defined twice")
        self.values[name] = value

    def value(self, name: str) -> Value:
        value = self.values.get(name)
        if value is None:
            self.at -= 1
            raise self.fail(f"%{name} is not defined")
        return value

    def statement(self) -> None:
        self.start = self.at
        names = [self.name()]
        while self.accept(","):
            names.append(self.name())
        self.want("=")
        if self.accept("const"):
            self.const(names[0])
        else:
            self.layer(names)

    def const(self, name: str) -> None:
        kind = self.take()
        argument: Any = None  # a digest, a seed or elements
        if kind == "#":
            argument = self.take()
        elif kind == "[":
            argument = self.items("]")
        elif kind in ("splat", "normal"):
            self.want("(")
            argument = self.items(")")
            if len(argument) != 1:
                raise self.fail(f"{kind} takes one value")
        else:
            self.at -= 1
            raise self.fail("expected constant data: #digest, [values], splat(value) or normal(seed)")
        self.want(":")
        t = self.type()
        try:
            data = self.data(kind, argument, t)
        except (ValueError, TypeError, OverflowError) as e:
            raise self.refuse(str(e)) from e
        value = self.result.const(data, name, self.origin())
        value.type = t
        self.define(name, value)

    def data(self, kind: str, argument: Any, t: TensorType) -> Array:
        """The array of a constant of type `t`."""
        if t.size > MAX_ELEMENTS and kind in ("normal", "splat"):
            raise self.refuse(f"a constant of {t.size} elements is too large to be made here")
        if kind == "normal":
            return np.asarray(np.random.default_rng(argument[0]).standard_normal(t.dims)).astype(t.dtype.numpy)
        if kind == "splat":
            return np.broadcast_to(elements(argument, t.dtype)[0], t.dims)
        if kind == "[":
            data = elements(argument, t.dtype)
            if data.size != t.size:
                raise self.refuse(f"{data.size} elements are given for {t}")
            return data.reshape(t.dims)
        if argument not in self.constants:
            raise self.refuse(f"the data of constant #{argument} is not given")
        data = stored(self.constants[argument], t)
        if digest(data) != argument:
            raise self.refuse(f"the data given for constant #{argument} is not what was printed")
        return data

    def layer(self, names: list[str]) -> None:
        op = OPS.get(self.peek())
        if op is None:
            raise self.fail("there is no operation of this name")
        self.at += 1
        self.want("(")
        operands: list[Value | None] = []
        while not self.accept(")"):
            operands.append(None if self.accept("none") else self.value(self.name()))
            if not self.accept(","):
                self.want(")")
                break
        attributes = {}
        while not self.accept(":"):
            key = self.take()
            self.want("=")
            attributes[key] = self.literal()
        types = [self.type()]
        while self.accept(","):
            types.append(self.type())
        origin = self.origin()
        try:
            outputs = self.result.add(op(**attributes), *operands, origin=origin, names=names)
        except CompileError as e:
            raise self.refuse(e.message) from e
        except (ValueError, TypeError, OverflowError, LookupError, AttributeError) as e:
            raise self.refuse(f"{op.name} does not take these attributes ({e})") from e
        if not len(outputs) == len(names) == len(types):
            counts = f"{len(names)} are named and {len(types)} have a type"
            raise self.refuse(f"{op.name} has {len(outputs)} results, but {counts}")
        for name, value, t in zip(names, outputs, types, strict=True):
            if value.type.dtype is not t.dtype or value.type.shape != t.shape:
                raise self.refuse(f"%{name} is declared {t}, inference gives {value.type}")
            value.type = t
            self.define(name, value)

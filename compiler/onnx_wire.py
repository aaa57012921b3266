"""Cuts the weights out of the bytes of an ONNX model before protobuf copies them.

`skeleton(buffer)` walks the wire format and returns the model without its large tensor payloads. In place of each
stands what ONNX itself offers: an entry for external data, whose location is the reserved name HERE (no path may hold
its NUL) and whose offset and length say where in the buffer the payload lies. What the walk does not understand it
leaves as it is, so that protobuf alone decides what is a model.
"""

from __future__ import annotations

from typing import TypeAlias

from compiler.filemap import FileMap

HERE = "\0here"
CUT = 4096  # bytes from which a payload is worth cutting out
DEPTH = 100  # protobuf reads no deeper

Rules: TypeAlias = "dict[int, Rules]"

# Field numbers of the messages that lead to tensors, in the schema of ONNX.
TENSOR: Rules = {}
ATTRIBUTE: Rules = {5: TENSOR, 10: TENSOR}
NODE: Rules = {5: ATTRIBUTE}
GRAPH: Rules = {1: NODE, 5: TENSOR}
FUNCTION: Rules = {7: NODE}
MODEL: Rules = {7: GRAPH, 25: FUNCTION}
ATTRIBUTE |= {6: GRAPH, 11: GRAPH}

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DATA_TYPE, RAW_DATA, DATA_LOCATION = 2, 9, 14
# Typed fields whose packed bytes are those of raw_data, and the element types they may hold.
FLAT: dict[int, tuple[int, ...]] = {4: (1, 14), 10: (11, 15)}
OTHER_DATA = (5, 6, 7, 11)
STRING = 8
SHORT = [bytes([value]) for value in range(128)]


class TruncatedError(Exception):
    """A field claims more bytes than there are."""


def varint(value: int) -> bytes:
    """A number that is not negative, in protobuf's variable length encoding."""
    if value < 128:
        return SHORT[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(buffer: FileMap | bytes, position: int) -> tuple[int, int]:
    """The number at the position, and the position after it; raises TruncatedError, also beyond ten bytes."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(buffer):
            break
        byte = buffer[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise TruncatedError


def skeleton(buffer: FileMap | bytes) -> bytes:
    """The encoded model with the large payloads replaced by entries that point into the buffer.

    Raises TruncatedError if a field runs over the end of the message it stands in.
    """
    pieces: list[bytes | memoryview] = []
    with memoryview(buffer) as whole:
        Cutter(buffer, whole).message(0, len(buffer), MODEL, pieces, 0)
        return b"".join(pieces)


class Cutter:
    """One walk over one buffer."""

    def __init__(self, buffer: FileMap | bytes, whole: memoryview) -> None:
        self.buffer = buffer
        self.whole = whole

    def message(self, start: int, end: int, rules: Rules, out: list[bytes | memoryview], depth: int) -> int:
        """Appends the message in [start, end) without its large payloads; returns its new length."""
        buffer = self.buffer
        kept = position = start
        size = end - start
        while position < end:
            field = position
            tag = buffer[position]
            position += 1
            if tag > 127:
                tag, position = read_varint(buffer, field)
            wire = tag & 7
            if wire != BYTES:
                position = skip(buffer, wire, position)
                if position < 0:
                    break
                continue
            length = buffer[position] if position < end else 0
            position += 1
            if length > 127:
                length, position = read_varint(buffer, position - 1)
            if position + length > end:
                raise TruncatedError
            if length >= CUT:
                inner = rules.get(tag >> 3)
                if inner is not None and depth < DEPTH:
                    pieces: list[bytes | memoryview] = []
                    new = self.inside(position, position + length, inner, pieces, depth + 1)
                    if new != length:
                        head = varint(tag) + varint(new)
                        out += (self.whole[kept:field], head, *pieces)
                        size += new + len(head) - (position + length - field)
                        kept = position + length
            position += length
        if position > end:
            raise TruncatedError
        out.append(self.whole[kept:end])
        return size

    def inside(self, start: int, end: int, rules: Rules, out: list[bytes | memoryview], depth: int) -> int:
        """Like `message`, for tensors too."""
        if rules is not TENSOR:
            return self.message(start, end, rules, out, depth)
        payload = self.payload(start, end)
        if payload is None:
            out.append(self.whole[start:end])
            return end - start
        field, begin, stop = payload
        entries = pointer(HERE, begin, stop - begin)
        out += (self.whole[start:field], self.whole[stop:end], entries)
        return (end - start) - (stop - field) + len(entries)

    def payload(self, start: int, end: int) -> tuple[int, int, int] | None:
        """Start of the field, start and end of its bytes, if the tensor has one flat payload that is worth cutting."""
        buffer = self.buffer
        position, data_type = start, 0
        number, found = 0, (0, 0, 0)
        while position < end:
            field = position
            tag, position = read_varint(buffer, position)
            key, wire = tag >> 3, tag & 7
            if wire != BYTES:
                if key in FLAT or key in OTHER_DATA:
                    return None
                value, after = read_varint(buffer, position) if wire == VARINT else (0, skip(buffer, wire, position))
                if after < 0 or (key == DATA_LOCATION and value):
                    return None
                data_type = value if key == DATA_TYPE else data_type
                position = after
                continue
            length, position = read_varint(buffer, position)
            if position + length > end:
                raise TruncatedError
            if key == RAW_DATA or key in FLAT:
                if number:
                    return None
                number, found = key, (field, position, position + length)
            elif key in OTHER_DATA:
                return None
            position += length
        if position > end:
            raise TruncatedError
        fits = data_type != STRING if number == RAW_DATA else data_type in FLAT.get(number, ())
        return found if fits and number and found[2] - found[1] >= CUT else None


def skip(buffer: FileMap | bytes, wire: int, position: int) -> int:
    """The position after a field of fixed or variable width; -1 for groups and unknown encodings."""
    if wire == VARINT:
        return read_varint(buffer, position)[1]
    return position + 4 if wire == FIXED32 else position + 8 if wire == FIXED64 else -1


def entry(key: str, value: str) -> bytes:
    """One field `external_data` of a TensorProto."""
    name, text = key.encode(), value.encode()
    inner = b"\x0a" + varint(len(name)) + name + b"\x12" + varint(len(text)) + text
    return b"\x6a" + varint(len(inner)) + inner


def pointer(location: str, offset: int, length: int) -> bytes:
    """The encoded fields of a TensorProto whose payload lies elsewhere."""
    return entry("location", location) + entry("offset", str(offset)) + entry("length", str(length)) + b"\x70\x01"


MARK = entry("location", HERE)  # in every skeleton with a cut, and in no file that ONNX allows

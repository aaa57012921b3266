"""Windows and taps, transposed convolutions, attention and what else is computed one result a thread, in the Metal
Shading Language."""

from __future__ import annotations

from math import prod

from codegen.metal.adapted import FORMS, Form
from codegen.metal.kernel import Numbers
from codegen.metal.places import places
from codegen.neon.deconv import PlainDeconv
from codegen.neon.norm import LocalResponse
from codegen.neon.plain_attention import PlainAttention
from codegen.neon.softmax import Hardmax
from codegen.neon.windows import PlainPool, ResizeAxis


def _results(k: PlainPool | PlainDeconv, _: Numbers) -> int:
    return prod(k.y[0])


def _resized(_: ResizeAxis, numbers: Numbers) -> int:
    return prod(int(numbers[name]) for name in ("outer", "count", "inner"))


def _lines(_: Hardmax, numbers: Numbers) -> int:
    return int(numbers["outer"]) * int(numbers["inner"])


def _channels(_: LocalResponse, numbers: Numbers) -> int:
    return prod(int(numbers[name]) for name in ("outer", "channels", "inner"))


def _queries(k: PlainAttention, _: Numbers) -> int:
    return k.batch * k.heads * k.queries


PLACED = {"places": places}

FORMS[PlainPool] = Form("metal/plain_pool.metal.j2", _results, helpers=PLACED)
FORMS[PlainDeconv] = Form("metal/plain_deconv.metal.j2", _results, helpers=PLACED)
FORMS[PlainAttention] = Form("metal/plain_attention.metal.j2", _queries, helpers=PLACED, omits=("scores",))
FORMS[ResizeAxis] = Form("metal/resize_axis.metal.j2", _resized)
FORMS[Hardmax] = Form("metal/hardmax.metal.j2", _lines)
FORMS[LocalResponse] = Form("metal/local_response.metal.j2", _channels)

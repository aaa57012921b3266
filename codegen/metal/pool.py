"""Pools of channels-last images, one result a thread, in the Metal Shading Language."""

from __future__ import annotations

from math import prod

from codegen.expression import Body, write
from codegen.metal.adapted import FORMS, Form
from codegen.metal.kernel import Launch, Numbers, metal_type, planar
from codegen.metal.scalar import METAL
from codegen.neon.pool import WindowPool
from codegen.program import Kernel

STEPS = {  # a NaN stays
    "max": "a = e > a || e != e ? e : a;",
    "average": "a += e;",
    "norm1": "a += fabs(e);",
    "norm2": "a = fma(e, e, a);",
}


def pixels(_: Kernel, numbers: Numbers) -> Launch:
    """A thread for each element of the resulting image: channels are the first axis of the grid."""
    return planar(int(numbers["channels"]), prod(int(numbers[n]) for n in ("images", "out_height", "out_width")))


def ending(k: WindowPool, result: str, place: str) -> Body:
    """Statements, and the element that is to be stored at an index of the result."""
    body = write(k.tail, METAL, {0: result, 1: f"float(r[{place}])"})
    return Body(body.lines, body.result if k.ctype == "float" else f"{metal_type(k.ctype)}({body.result})")


FORMS[WindowPool] = Form(
    "metal/window_pool.metal.j2", launch=pixels, omits=("begin", "end"), helpers={"steps": STEPS, "ending": ending}
)

"""Products of any types, one result a thread, in the Metal Shading Language."""

from __future__ import annotations

from math import prod

from codegen.metal.adapted import FORMS, Form
from codegen.metal.kernel import Numbers
from codegen.neon.conv import PlainConv
from codegen.neon.copies import CopyBytes
from codegen.neon.matmul import PlainMatMul


def _results(k: PlainMatMul, _: Numbers) -> int:
    return prod(k.batch) * k.m * k.n


FORMS[CopyBytes] = Form("metal/copy_bytes.metal.j2", lambda _, numbers: int(numbers["size"]))
FORMS[PlainMatMul] = Form("metal/plain_matmul.metal.j2", _results)
FORMS[PlainConv] = Form("metal/plain_conv.metal.j2", lambda k, _: prod(k.y[0]))

"""Resampling of channels-last images, one element a thread, in the Metal Shading Language."""

from __future__ import annotations

from codegen.metal.adapted import FORMS, Form
from codegen.metal.pool import pixels
from codegen.neon.resize import ResizeMixed, ResizeNearest

FORMS[ResizeNearest] = Form("metal/resize_nearest.metal.j2", launch=pixels, omits=("begin", "end"))
FORMS[ResizeMixed] = Form("metal/resize_mixed.metal.j2", launch=pixels, omits=("line", "begin", "end"))

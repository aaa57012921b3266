"""An integer-only evaluator of .tflite files, bit-equal to LiteRT's reference kernels; docs/targets/integer.md."""

from targets.tflite.integer.kernel import NoReferenceError
from targets.tflite.integer.model import IntegerModel

__all__ = ["IntegerModel", "NoReferenceError"]

"""Target `onnx`: the rewritten graph as a clean ONNX file that any runtime opens."""

from targets.onnx.target import TARGET

__all__ = ["TARGET"]

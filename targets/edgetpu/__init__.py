"""Target `edgetpu`: a full-integer TensorFlow Lite model for the Edge TPU compiler, executed here by LiteRT."""

from targets.edgetpu.target import EdgeTpuTarget

TARGET = EdgeTpuTarget

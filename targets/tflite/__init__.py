"""Target `nnapi`: a TensorFlow Lite model of builtin operators, executed here by LiteRT."""

from targets.tflite.target import TfLiteTarget

TARGET = TfLiteTarget

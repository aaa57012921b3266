"""The strict contract: what a .tflite file has to keep for NNAPI or the Edge TPU, checked on any file.

`check(path, target)` reads the file and reports; nothing is executed and nothing of this compiler's own lowering is
trusted. The rules are data (int8.json, nnapi.json, edgetpu.json), each with its source and how sure it is.
"""

from targets.tflite.check.check import TARGETS, check
from targets.tflite.check.report import CheckReport, Finding, Partition, Placement

__all__ = ["TARGETS", "CheckReport", "Finding", "Partition", "Placement", "check"]

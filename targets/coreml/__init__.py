"""Target `ane`: a Core ML package for the Apple Neural Engine, executed here from disk."""

from targets.coreml.target import CoreMLTarget

TARGET = CoreMLTarget

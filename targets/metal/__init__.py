"""Sources in the Metal Shading Language for Apple's GPUs, with the host's side in Swift and Objective-C++."""

from targets.metal.target import TARGET, MetalTarget

__all__ = ["TARGET", "MetalTarget"]

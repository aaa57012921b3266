"""The causes of damage: each is one function of the evidence, registered by `@cause`."""

from compiler.doctor.causes import activations, errors, groups, ranges, weights  # noqa: F401  # each registers causes
from compiler.doctor.causes.registry import CAUSES

__all__ = ["CAUSES"]

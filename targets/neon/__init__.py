"""Target `neon`: plain C11 with NEON intrinsics, a folder that any engineer can read, vendor and build."""

from targets.neon.target import TARGET

__all__ = ["TARGET"]

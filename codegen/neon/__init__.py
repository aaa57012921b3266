"""Kernels in C11 with NEON intrinsics, one module for each family of records."""

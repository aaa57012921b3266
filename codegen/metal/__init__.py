"""Kernels in the Metal Shading Language, one module for each family of records, and the sources that run them."""

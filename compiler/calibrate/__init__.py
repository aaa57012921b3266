"""Ranges of a graph's values on representative data.

`compiler.calibrate.run.calibrate` is the entry; `record` holds what was seen, `observers` turn it into ranges.
"""

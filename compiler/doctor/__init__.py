"""Why a quantized graph loses accuracy: layers ranked by the damage that rounding them does, with causes.

`compiler.doctor.examine.examine(graph, trial)` is the entry; a cause is a function in `causes`.
"""

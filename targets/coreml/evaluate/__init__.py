"""Run a saved package where Core ML is not: every MIL operation in numpy, with the element types that the program
declares.
"""

from targets.coreml.evaluate.evaluator import Evaluator, evaluate_package

__all__ = ["Evaluator", "evaluate_package"]

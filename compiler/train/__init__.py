"""Training of compressed layers by gradients, in TensorFlow (the extra `train`).

function.py   a layer graph as a differentiable function of its weights
lower*.py     operations in TensorFlow
weights.py    which constants are trained, and how far a step moves them
augment.py    rows that differ from those given, without knowledge of their domain
student.py    loss and steps
setup.py      a teacher and a student of two graphs, checked against ONNX Runtime
distill.py    `Distil`: a `Recovery` that needs no labels

TensorFlow is loaded by the first function that is made, never by an import of `distill`.
"""

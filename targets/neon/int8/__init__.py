"""Libraries of integer arithmetic: the operators of a TensorFlow Lite model, each a call of a kernel."""

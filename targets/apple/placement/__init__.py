"""Where Core ML is predicted to run a program: what may run on the Neural Engine, what will be put there, and what
that costs.

Three questions are kept apart. Eligible: the rules of the data files. Selected: the shortest path of the published
model of Core ML's segmenter. Executed: only a device answers, whose compute plan can be read back.
"""

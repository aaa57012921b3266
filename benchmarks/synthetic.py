"""Graphs of any size for measuring how cost grows: `chain` or `wide`, of one of three kinds of block.

A chain feeds each block to the next; a wide graph has all blocks read the one input and adds them up in a tree. No two
blocks are equal, so that nothing collapses into one by common-subexpression elimination alone, and signals stay finite
along 100,000 nodes.
"""

from collections.abc import Callable

import numpy as np
import onnx

from benchmarks.building import Builder

CHANNELS = 8
IMAGE = (1, CHANNELS, 8, 8)
VECTOR = (1, 64)
ARITY = 16
BLOCK_NODES = {"elementwise": 3, "conv": 4, "shapes": 7}

Block = Callable[[str, int], str]


class _Blocks:
    """The kinds of block: each takes the name of its input and its own number and returns the name of its output."""

    def __init__(self) -> None:
        self.graph = Builder()
        self.rng = np.random.default_rng(0)
        self.signals = {"x": self.rng.standard_normal((CHANNELS, 64))}

    def elementwise(self, x: str, index: int) -> str:
        """|c x + a| with c near one: Mul, Add, Abs."""
        add, constant = self.graph.add, self.graph.constant
        sign = 1 - 2 * (index % 2)
        y = add("Mul", x, constant([1 + sign * 1e-6 * (index + 1)]))
        return add("Abs", add("Add", y, constant([-0.3 - 1e-6 * index])))

    def conv(self, x: str, index: int) -> str:
        """x + relu(bn(conv(x))), normalised to unit variance for one random input."""
        add, constant, normal = self.graph.add, self.graph.constant, self.rng.standard_normal
        weight = 0.3 * normal((CHANNELS, CHANNELS))
        scale, bias = 1 + 0.1 * normal(CHANNELS), 0.1 * normal(CHANNELS) + 1e-6 * index
        mixed = weight @ self.signals[x]
        mean, variance = mixed.mean(1), mixed.var(1) + 1e-3
        y = add("Conv", x, constant(weight[:, :, None, None]), kernel_shape=[1, 1])
        y = add("BatchNormalization", y, *(constant(v) for v in (scale, bias, mean, variance)))
        output = add("Add", add("Relu", y), x)
        unit = (mixed - mean[:, None]) / np.sqrt(variance)[:, None]
        self.signals[output] = self.signals[x] + np.maximum(scale[:, None] * unit + bias[:, None], 0)
        if x != "x":
            del self.signals[x]
        return output

    def shapes(self, x: str, index: int) -> str:
        """sin(c x), reshaped to what it is: Mul, Sin, Shape, Gather, Unsqueeze, Concat, Reshape."""
        add, constant = self.graph.add, self.graph.constant
        if not index:
            constant(0, np.int64, "first")
            constant([0], np.int64, "axis")
            constant([-1], np.int64, "rest")
        y = add("Sin", add("Mul", x, constant([1.5 + 1e-6 * index])))
        batch = add("Unsqueeze", add("Gather", add("Shape", y), "first"), "axis")
        return add("Reshape", y, add("Concat", batch, "rest", axis=0))


def build(form: str, kind: str, size: int) -> onnx.ModelProto:
    """A model of about `size` nodes: within 1 % from 1000 on."""
    blocks = _Blocks()
    block: Block = getattr(blocks, kind)
    if form == "chain":
        _chain(block, size // BLOCK_NODES[kind])
    else:
        _wide(blocks.graph, block, round(size / (BLOCK_NODES[kind] + 1 / (ARITY - 1))))
    blocks.graph.nodes[-1].output[0] = "y"
    shape = IMAGE if kind == "conv" else VECTOR
    return blocks.graph.model(f"{form}_{kind}_{size}", {"x": shape}, {"y": shape})


def _chain(block: Block, count: int) -> None:
    x = "x"
    for index in range(count):
        x = block(x, index)


def _wide(graph: Builder, block: Block, count: int) -> None:
    level = [block("x", index) for index in range(count)]
    while len(level) > 1:
        level = [graph.add("Sum", *level[k : k + ARITY]) for k in range(0, len(level), ARITY)]

"""A LLaMA-like decoder of 1.26 billion parameters in fp16, its weights in one external file of 2.5 GB.

Weights are slices of one random block (making 1.26 billion different numbers would take minutes), each tensor with a
beginning of its own, so that no two are equal and nothing is saved by sharing.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from benchmarks.building import Builder

WEIGHTS = "model.onnx.data"
_PAGE = 4096
_BLOCK = 1 << 20
_OWN = 64


@dataclass(frozen=True, slots=True)
class Config:
    layers: int = 22
    width: int = 2048
    hidden: int = 5632
    vocabulary: int = 32000
    heads: int = 32
    tokens: int = 16

    @property
    def head_width(self) -> int:
        return self.width // self.heads


class _Weights:
    """Writes tensors to the external file one by one, page-aligned, and declares them in the graph."""

    def __init__(self, graph: Builder, stream: BinaryIO) -> None:
        self.graph = graph
        self.stream = stream
        self.block = (0.02 * np.random.default_rng(0).standard_normal(_BLOCK)).astype(np.float16)
        self.parameters = 0

    def random(self, name: str, *shape: int) -> str:
        count = math.prod(shape)
        own = np.random.default_rng(self.parameters).standard_normal(_OWN).astype(np.float16)
        pieces = [np.concatenate([0.02 * own, self.block[_OWN : min(count, _BLOCK)]]).astype(np.float16)]
        pieces += [self.block[: min(_BLOCK, count - start)] for start in range(_BLOCK, count, _BLOCK)]
        return self._external(name, shape, pieces)

    def ones(self, name: str, *shape: int) -> str:
        return self._external(name, shape, [np.ones(shape, np.float16)])

    def _external(self, name: str, shape: tuple[int, ...], pieces: list[NDArray[np.float16]]) -> str:
        self.stream.write(b"\0" * (-self.stream.tell() % _PAGE))
        offset = self.stream.tell()
        for piece in pieces:
            self.stream.write(piece.data)
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT16, dims=shape, data_location=TensorProto.EXTERNAL)
        place = {"location": WEIGHTS, "offset": offset, "length": self.stream.tell() - offset}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.graph.initializers.append(tensor)
        self.parameters += math.prod(shape)
        return name


class _Decoder:
    """One method per part of the network; every operation is spelled out, as exporters do."""

    def __init__(self, config: Config, weights: _Weights) -> None:
        self.config, self.weights, self.graph = config, weights, weights.graph
        constant, half = self.graph.constant, np.float16
        c, d = config, config.head_width
        constant(1e-5, half, "eps")
        constant(2, half, "two")
        constant(d**-0.5, half, "scale")
        constant([1, c.tokens, c.heads, d], np.int64, "per_head")
        constant([1, c.tokens, c.width], np.int64, "joined")
        angle = np.arange(c.tokens)[:, None] * 10000.0 ** (-np.arange(0, d, 2) / d)[None]
        angle = np.concatenate([angle, angle], 1)[None, None]
        constant(np.cos(angle), half, "cos")
        constant(np.sin(angle), half, "sin")
        constant(np.triu(np.full((c.tokens, c.tokens), -1e4), 1)[None, None], half, "mask")
        for name, value in (("start", 0), ("half", d // 2), ("end", d), ("last_axis", 3)):
            constant([value], np.int64, name)

    def norm(self, x: str, scale: str) -> str:
        add = self.graph.add
        mean = add("ReduceMean", add("Pow", x, "two"), axes=[-1], keepdims=1)
        return add("Mul", add("Div", x, add("Sqrt", add("Add", mean, "eps"))), scale)

    def rotate(self, x: str) -> str:
        add = self.graph.add
        first, second = add("Slice", x, "start", "half", "last_axis"), add("Slice", x, "half", "end", "last_axis")
        turned = add("Concat", add("Neg", second), first, axis=3)
        return add("Add", add("Mul", x, "cos"), add("Mul", turned, "sin"))

    def linear(self, x: str, name: str, rows: int, columns: int) -> str:
        return self.graph.add("MatMul", x, self.weights.random(name, rows, columns))

    def attention(self, x: str, prefix: str) -> str:
        add, width = self.graph.add, self.config.width

        def heads(name: str) -> str:
            projected = self.linear(x, prefix + name, width, width)
            return add("Transpose", add("Reshape", projected, "per_head"), perm=[0, 2, 1, 3])

        query, key, value = self.rotate(heads("q")), self.rotate(heads("k")), heads("v")
        scores = add("MatMul", query, add("Transpose", key, perm=[0, 1, 3, 2]))
        weights = add("Softmax", add("Add", add("Mul", scores, "scale"), "mask"), axis=-1)
        mixed = add("Transpose", add("MatMul", weights, value), perm=[0, 2, 1, 3])
        return self.linear(add("Reshape", mixed, "joined"), prefix + "o", width, width)

    def feed_forward(self, x: str, prefix: str) -> str:
        add, width, hidden = self.graph.add, self.config.width, self.config.hidden
        gate = self.linear(x, prefix + "gate", width, hidden)
        gate = add("Mul", gate, add("Sigmoid", gate))
        return self.linear(
            add("Mul", gate, self.linear(x, prefix + "up", width, hidden)), prefix + "down", hidden, width
        )

    def run(self) -> None:
        add, c, weights = self.graph.add, self.config, self.weights
        x = add("Gather", weights.random("embedding", c.vocabulary, c.width), "ids", axis=0)
        for layer in range(c.layers):
            prefix = f"layer{layer}."
            x = add("Add", x, self.attention(self.norm(x, weights.ones(prefix + "norm1", c.width)), prefix))
            x = add("Add", x, self.feed_forward(self.norm(x, weights.ones(prefix + "norm2", c.width)), prefix))
        x = self.norm(x, weights.ones("norm", c.width))
        add("MatMul", x, weights.random("head", c.width, c.vocabulary), output="logits")


def write(path: Path, config: Config) -> int:
    """Write the model at `path` with its weights beside it; the number of parameters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = Builder()
    with (path.parent / WEIGHTS).open("wb") as stream:
        weights = _Weights(graph, stream)
        _Decoder(config, weights).run()
    shape = [1, config.tokens]
    model = graph.model(
        "decoder", {"ids": shape}, {"logits": [*shape, config.vocabulary]}, TensorProto.INT64, TensorProto.FLOAT16
    )
    onnx.save(model, path)
    return weights.parameters

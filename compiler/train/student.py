"""The loss of a student against its teacher, and the steps that make it smaller.

Weights are trained in units of their own size, so that one rate suits tensors of any scale: w = size * u, and u moves
by Adam (Kingma & Ba, arXiv:1412.6980) with gradients clipped by their norm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from compiler.tensor import Array
from compiler.train.function import Function
from compiler.train.lower import Tensor
from compiler.train.weights import Weight

MOMENTS = (0.9, 0.999)
EPSILON = 1e-8
NORM = 1.0  # of a gradient, to which longer ones are clipped
LEAST = 1e-12  # variance of a value that is compared


class Lesson(NamedTuple):
    """What is compared: the first `heads` of the values are outputs, the others lie between layers.

    classes      which outputs are scores of classes [N,classes]
    temperature  by which their scores are divided before they are compared as distributions
    blocks       weight of the values between layers
    labels       weight of the cross entropy with labels; 0 where there are none
    """

    heads: int
    classes: Sequence[bool]
    temperature: float
    blocks: float
    labels: float


class Student:
    """A function whose weights are trained to give what a teacher gives."""

    def __init__(self, teacher: Function, function: Function, weights: Sequence[Weight], lesson: Lesson) -> None:
        self.teacher, self.function, self.lesson = teacher, function, lesson
        self._sizes = [tf.constant(w.size) for w in weights]
        self._masks = [None if w.mask is None else tf.constant(w.mask) for w in weights]
        starts = [np.asarray(w.value.data) / np.where(w.size == 0, 1, w.size) for w in weights]
        self._units = [tf.Variable(u.astype(np.float32)) for u in starts]
        self._first, self._second = ([tf.Variable(tf.zeros_like(u)) for u in self._units] for _ in range(2))
        self._count = tf.Variable(0.0)
        self._variances: list[float] = []
        self._step = tf.function(self._stepped)
        self._heads = tf.function(self._measured)
        self._taught = tf.function(teacher)

    def scale(self, batches: Sequence[Mapping[str, Array]]) -> None:
        """Learn the variance of every value of the teacher, in units of which differences count."""
        sums = np.zeros((len(self.teacher.faults), 3))
        for batch in batches:
            for i, value in enumerate(self._taught(_tensors(batch))):
                x = value.numpy().astype(np.float64)
                sums[i] += (x.size, x.sum(), np.square(x).sum())
        self._variances = [max(float(s / n - (m / n) ** 2), LEAST) for n, m, s in sums]

    def step(self, inputs: Mapping[str, Array], labels: Array, rate: float) -> float:
        """Learn from a batch; returns its loss."""
        return float(self._step(_tensors(inputs), tf.constant(labels), tf.constant(rate, tf.float32)))

    def loss(self, inputs: Mapping[str, Array], labels: Array) -> Array:
        """Of the outputs, for each run."""
        found: Array = self._heads(_tensors(inputs), tf.constant(labels)).numpy()
        return found

    @property
    def weights(self) -> list[Array]:
        """As they are now."""
        return [w.numpy() for w in self._weights()]

    def restore(self, weights: Sequence[Array]) -> None:
        """Let them be these again."""
        for u, size, w in zip(self._units, self._sizes, weights, strict=True):
            u.assign(tf.math.divide_no_nan(tf.constant(w), size))

    def _weights(self) -> list[Tensor]:
        made = [u * size for u, size in zip(self._units, self._sizes, strict=True)]
        return [w if mask is None else w * mask for w, mask in zip(made, self._masks, strict=True)]

    def _stepped(self, inputs: Mapping[str, Tensor], labels: Tensor, rate: Tensor) -> Tensor:
        truth = [tf.stop_gradient(t) for t in self.teacher(inputs)]
        with tf.GradientTape() as tape:
            values = self.function(inputs, self._weights())
            loss = tf.reduce_mean(self._of_heads(truth, values, labels))
            loss += self.lesson.blocks * self._of_blocks(truth, values)
        gradients = [
            tf.zeros_like(u) if g is None else tf.convert_to_tensor(g)
            for g, u in zip(tape.gradient(loss, self._units), self._units, strict=True)
        ]
        self._move(tf.clip_by_global_norm(gradients, NORM)[0], rate)
        return loss

    def _move(self, gradients: Sequence[Tensor], rate: Tensor) -> None:
        self._count.assign_add(1.0)
        a, b = MOMENTS
        corrected = rate * tf.sqrt(1 - b**self._count) / (1 - a**self._count)
        for u, g, m, v in zip(self._units, gradients, self._first, self._second, strict=True):
            m.assign(a * m + (1 - a) * g)
            v.assign(b * v + (1 - b) * tf.square(g))
            u.assign_sub(corrected * m / (tf.sqrt(v) + EPSILON))

    def _measured(self, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        return self._of_heads(self.teacher(inputs), self.function(inputs, self._weights()), labels)

    def _of_heads(self, truth: Sequence[Tensor], values: Sequence[Tensor], labels: Tensor) -> Tensor:
        """[runs]."""
        total = tf.zeros(tf.shape(truth[0])[0])
        for i, is_classes in enumerate(self.lesson.classes):
            t, s = tf.cast(truth[i], tf.float32), tf.cast(values[i], tf.float32)
            total += _mean(tf.square(t - s)) / self._variances[i]
            if is_classes:
                total += _divergence(t, s, self.lesson.temperature)
        if self.lesson.labels:
            i = list(self.lesson.classes).index(True)
            logs = tf.nn.log_softmax(tf.cast(values[i], tf.float32))
            total -= self.lesson.labels * _mean(tf.reduce_sum(labels * logs, -1))
        return total

    def _of_blocks(self, truth: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
        heads = self.lesson.heads
        pairs = zip(truth[heads:], values[heads:], self._variances[heads:], strict=True)
        found = [tf.cast(tf.reduce_mean(tf.square(t - s)), tf.float32) / variance for t, s, variance in pairs]
        return tf.add_n(found) / len(found) if found else tf.constant(0.0)


def _mean(x: Tensor) -> Tensor:
    """[runs]."""
    return tf.reduce_mean(tf.reshape(x, (tf.shape(x)[0], -1)), -1)


def _divergence(truth: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence [runs] of softened distributions (Hinton et al., arXiv:1503.02531)."""
    t, s = tf.nn.log_softmax(truth / temperature), tf.nn.log_softmax(scores / temperature)
    return temperature**2 * _mean(tf.reduce_sum(tf.exp(t) * (t - s), -1))


def _tensors(inputs: Mapping[str, Array]) -> dict[str, Tensor]:
    return {name: tf.constant(x) for name, x in inputs.items()}

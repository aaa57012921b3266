"""Recurrent layers over (sequence, batch, features). The state is kept in fp32; only results are rounded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler.errors import EmitError
from targets.coreml.evaluate.registry import Tensor, mil
from targets.coreml.evaluate.special import sigmoid

Activation = Callable[[Tensor], Tensor]


def _hard_sigmoid(x: Tensor) -> Tensor:
    return np.clip(np.float32(0.2) * x + np.float32(0.5), 0, 1)


_ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "hard_sigmoid": _hard_sigmoid,
    "sigmoid_hard": _hard_sigmoid,
    "scaled_tanh": np.tanh,
}
"""Those with parameters have them at their defaults: hard sigmoid 0.2 and 0.5, scaled tanh 1 and 1."""


def _activation(name: str) -> Activation:
    try:
        return _ACTIVATIONS[name]
    except KeyError:
        raise EmitError(f"MIL has no recurrent activation {name!r}") from None


def _ordered(x: Tensor, direction: str) -> Tensor:
    return x[::-1] if direction == "reverse" else x


def _outputs(sequence: list[Tensor], whole: bool) -> Tensor:
    """Hidden states in the order in which they were computed, or the last alone."""
    return np.stack(sequence) if whole else sequence[-1][None]


@mil("rnn")
def rnn(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    direction: str,
    output_sequence: bool,
    activation: str,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """States h = activation(W x + R h + b)."""
    act = _activation(activation)
    drive = _ordered(x, direction) @ weight_ih.T + (0 if bias is None else bias)
    h, states = initial_h, []
    for step in drive:
        h = act(step + h @ weight_hh.T)
        states.append(h)
    return _outputs(states, output_sequence), h


@mil("gru")
def gru(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    direction: str,
    output_sequence: bool,
    recurrent_activation: str,
    activation: str,
    bias: Tensor | None = None,
    reset_after: bool = False,
    input_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gated recurrent unit, gates in the order reset, output, update.

    The reset gate multiplies the state before its matrix, or the product (with `bias`) if `reset_after`.
    """
    gate, act = _activation(recurrent_activation), _activation(activation)
    size = initial_h.shape[-1]
    zeros = np.zeros(3 * size, np.float32)
    recurrent = zeros if bias is None else bias
    drive = _ordered(x, direction) @ weight_ih.T + (zeros if input_bias is None else input_bias)
    r_weight, o_weight, z_weight = np.split(weight_hh.T, 3, axis=1)
    r_bias, o_bias, z_bias = np.split(recurrent, 3)
    h, states = initial_h, []
    for step in drive:
        r_in, o_in, z_in = np.split(step, 3, axis=-1)
        reset = gate(r_in + h @ r_weight + r_bias)
        update = gate(z_in + h @ z_weight + z_bias)
        inner = reset * (h @ o_weight + o_bias) if reset_after else (reset * h) @ o_weight + o_bias
        h = (1 - update) * act(o_in + inner) + update * h
        states.append(h)
    return _outputs(states, output_sequence), h


@mil("lstm")
def lstm(
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    direction: str,
    output_sequence: bool,
    recurrent_activation: str,
    cell_activation: str,
    activation: str,
    bias: Tensor | None = None,
    peephole: Tensor | None = None,
    weight_ih_back: Tensor | None = None,
    weight_hh_back: Tensor | None = None,
    bias_back: Tensor | None = None,
    peephole_back: Tensor | None = None,
    clip: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Long short-term memory, gates in the order input, forget, output, cell.

    Of a bidirectional layer, the halves of the states belong to the forward and the backward direction; the backward
    half of a whole sequence is in input order. A `reverse` layer gives its sequence in the order of computation, last
    input first.
    """
    acts = (_activation(recurrent_activation), _activation(cell_activation), _activation(activation))
    if direction != "bidirectional":
        states, h, c = _lstm(
            _ordered(x, direction), initial_h, initial_c, weight_ih, weight_hh, bias, peephole, clip, acts
        )
        return _outputs(states, output_sequence), h, c
    assert weight_ih_back is not None
    assert weight_hh_back is not None
    h_ahead, h_back = np.split(initial_h, 2, axis=-1)
    c_ahead, c_back = np.split(initial_c, 2, axis=-1)
    ahead, h1, c1 = _lstm(x, h_ahead, c_ahead, weight_ih, weight_hh, bias, peephole, clip, acts)
    back, h2, c2 = _lstm(x[::-1], h_back, c_back, weight_ih_back, weight_hh_back, bias_back, peephole_back, clip, acts)
    if output_sequence:
        sequence = np.concatenate([np.stack(ahead), np.stack(back)[::-1]], axis=-1)
    else:
        sequence = np.concatenate([h1, h2], axis=-1)[None]
    return sequence, np.concatenate([h1, h2], axis=-1), np.concatenate([c1, c2], axis=-1)


def _lstm(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    peephole: Tensor | None,
    clip: float | None,
    acts: tuple[Activation, Activation, Activation],
) -> tuple[list[Tensor], Tensor, Tensor]:
    gate, cell_act, out_act = acts
    drive = x @ weight_ih.T + (0 if bias is None else bias)
    p_in, p_forget, p_out = np.split(np.zeros(3 * h.shape[-1], np.float32) if peephole is None else peephole, 3)
    states = []
    for step in drive:
        i, f, o, z = np.split(step + h @ weight_hh.T, 4, axis=-1)
        c = gate(f + p_forget * c) * c + gate(i + p_in * c) * cell_act(z)
        if clip is not None:
            c = np.clip(c, -clip, clip)
        h = gate(o + p_out * c) * out_act(c)
        states.append(h)
    return states, h, c

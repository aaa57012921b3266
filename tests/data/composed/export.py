"""Export the small networks of this folder; needs torch 2.13 with onnxscript, which nothing else here does.

    python tests/data/composed/export.py

Each is one formula as torch's two exporters write it: `<name>_<exporter><opset>.onnx`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch  # type: ignore[import-not-found,unused-ignore]  # only whoever makes the files anew needs it
from torch import nn
from torch.nn import functional  # type: ignore[import-not-found,unused-ignore]  # likewise

HERE = Path(__file__).parent
attend = functional.scaled_dot_product_attention


def module(forward: Callable[..., Any], **parameters: Any) -> Any:
    """A torch module whose forward is a function of itself and its inputs."""
    made = type("Formula", (nn.Module,), {"forward": forward})()
    for name, value in parameters.items():
        setattr(made, name, nn.Parameter(value))
    return made


def rms_norm(self: Any, x: Any) -> Any:
    """As LLaMA computes it: in f32 whatever the element type."""
    wide = x.to(torch.float32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
    return self.weight * wide.to(x.dtype)


def grouped_query(_: Any, q: Any, k: Any, v: Any) -> Any:
    """As LLaMA repeats keys and values."""
    b, h, s, d = k.shape
    k, v = (t[:, :, None].expand(b, h, 2, s, d).reshape(b, h * 2, s, d) for t in (k, v))
    return (q @ k.transpose(-1, -2) / math.sqrt(d)).softmax(-1) @ v


def gpt2(_: Any, q: Any, k: Any, v: Any, padding: Any) -> Any:
    """As GPT-2 masks: a choice for the future, a term for padding."""
    s = q.shape[-2]
    past = torch.tril(torch.ones(s, s)).bool()[None, None]
    scores = torch.where(past, (q @ k.transpose(-1, -2)) / (q.shape[-1] ** 0.5), torch.finfo(q.dtype).min)
    return (scores + padding).softmax(-1) @ v


def heads(_: Any, x: Any, mask: Any) -> Any:
    """Queries, keys and values from one tensor, in heads and back."""
    b, s, e = x.shape
    q, k, v = (t.view(b, s, 2, e // 2).transpose(1, 2) for t in (x, x * 2, x + 1))
    return attend(q, k, v, attn_mask=mask).transpose(1, 2).reshape(x.shape)


class Case(NamedTuple):
    """A network, its inputs, and the exporters (dynamo or script, opset) that write it differently."""

    network: Any
    inputs: tuple[Any, ...]
    exporters: tuple[tuple[str, int], ...]


def cases() -> dict[str, Case]:
    """All of them, by name."""
    r = torch.randn
    q, few = r(1, 4, 5, 4), r(1, 2, 5, 4)
    script, both = (("script", 11),), (("script", 17), ("dynamo", 18))
    return {
        "layer_norm": Case(nn.LayerNorm(8), (r(1, 3, 8),), script),
        "gelu": Case(nn.GELU(), (r(2, 3),), both),
        "gelu_tanh": Case(nn.GELU(approximate="tanh"), (r(2, 3),), both),
        "silu": Case(nn.SiLU(), (r(2, 3),), script),
        "hardswish": Case(nn.Hardswish(), (r(2, 3),), script),
        "mish": Case(nn.Mish(), (r(2, 3),), script),
        "group_norm": Case(nn.GroupNorm(2, 4), (r(1, 4, 3, 3),), both),
        "rms_norm": Case(module(rms_norm, weight=torch.rand(8) + 0.5), (r(1, 3, 8),), both),
        "rms_norm_f16": Case(module(rms_norm, weight=torch.rand(8) + 0.5).half(), (r(1, 3, 8).half(),), both),
        "normalize": Case(module(lambda _, x: functional.normalize(x, dim=1)), (r(2, 8),), both),
        "pixel_unshuffle": Case(nn.PixelUnshuffle(2), (r(1, 1, 4, 4),), script),
        "log_softmax": Case(module(lambda _, x: torch.log(x.softmax(1))), (r(2, 8),), script),
        "attention": Case(module(lambda _, q, k, v: attend(q, k, v)), (q, q, q), both),
        "attention_causal": Case(module(lambda _, q, k, v: attend(q, k, v, is_causal=True)), (q, q, q), both),
        "attention_mask": Case(module(lambda _, q, k, v, m: attend(q, k, v, m)), (q, q, q, r(1, 1, 5, 5)), both),
        "attention_bool": Case(module(lambda _, q, k, v, m: attend(q, k, v, m)), (q, q, q, r(1, 1, 5, 5) > -1), both),
        "attention_heads": Case(module(heads), (r(1, 5, 8), r(1, 1, 5, 5)), both),
        "attention_gpt2": Case(module(gpt2), (q, q, q, r(1, 1, 1, 5)), both),
        "attention_grouped": Case(module(grouped_query), (q, few, few), both),
        "attention_interleaved": Case(
            module(lambda _, q, k, v: attend(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))),
            (q, few, few),
            both,
        ),
        "attention_gqa": Case(
            module(lambda _, q, k, v: attend(q, k, v, enable_gqa=True)), (q, few, few), (("dynamo", 18),)
        ),
    }


def strip(path: Path) -> None:
    """Remove what only tells where the exporter was called from."""
    model = onnx.load(path)
    for thing in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
    ):
        thing.ClearField("metadata_props")
        thing.ClearField("doc_string")
    del model.graph.value_info[:]
    onnx.save(model, path)


def main() -> None:
    """Write every file."""
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    for name, case in cases().items():
        for exporter, opset in case.exporters:
            path = HERE / f"{name}_{exporter}{opset}.onnx"
            extra = {"external_data": False, "verbose": False} if exporter == "dynamo" else {}
            torch.onnx.export(
                case.network.eval(), case.inputs, path, dynamo=exporter == "dynamo", opset_version=opset, **extra
            )
            strip(path)


if __name__ == "__main__":
    main()

"""Export the five networks that a phone's engine is asked to run: `python tests/models/engine/export.py FOLDER`.

They are written as PyTorch users write them and exported in the ordinary way (torch 2.13, `torch.onnx.export` with the
TorchScript exporter, opset 17); weights are random with a fixed seed. PyTorch is needed for this script alone.
"""

# mypy: ignore-errors

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the usual name


class BertLayer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, -1).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1]) + mask
        context = torch.matmul(torch.softmax(scores, dim=-1), v).permute(0, 2, 1, 3).contiguous()
        x = self.norm1(x + self.out(context.view(*x.shape)))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class BertEncoder(nn.Module):
    """Word, position and type embeddings, an attention mask, post-norm layers, a pooled class."""

    def __init__(self, words: int = 200, width: int = 128, heads: int = 4, layers: int = 2, length: int = 256) -> None:
        super().__init__()
        self.word, self.position, self.kind = (nn.Embedding(n, width) for n in (words, length, 2))
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer(width, heads, 4 * width) for _ in range(layers))
        self.pool, self.classify = nn.Linear(width, width), nn.Linear(width, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(input_ids.shape[1]).unsqueeze(0)
        x = self.norm(self.word(input_ids) + self.position(places) + self.kind(token_type_ids))
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        for layer in self.layers:
            x = layer(x, mask)
        return x, self.classify(torch.tanh(self.pool(x[:, 0])))


class VitBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).reshape(batch, count, width)
        x = x + self.proj(y)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    """Patches of an image, a class token, pre-norm blocks."""

    def __init__(self, size: int = 224, patch: int = 16, width: int = 96, heads: int = 3, blocks: int = 2) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width) * 0.2)
        self.blocks = nn.Sequential(*(VitBlock(width, heads) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


class RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class GptBlock(nn.Module):
    """A decoder block with rotary positions, grouped-query attention over a cache, and a gated feed-forward part."""

    def __init__(self, width: int = 192, heads: int = 6, shared: int = 2, inner: int = 384, past: int = 128) -> None:
        super().__init__()
        self.heads, self.shared, self.size, self.past = heads, shared, width // heads, past
        self.norm1, self.norm2 = RmsNorm(width), RmsNorm(width)
        self.q, self.o = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(width, shared * self.size, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width, bias=False)

    def rotated(self, x: Tensor) -> Tensor:
        half = self.size // 2
        angle = torch.arange(self.past, self.past + x.shape[2])[:, None] / 10000 ** (torch.arange(half) / half)[None]
        angle = torch.cat((angle, angle), dim=-1)
        turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
        return x * angle.cos() + turned * angle.sin()

    def repeated(self, x: Tensor) -> Tensor:
        batch, shared, length, size = x.shape
        wide = x[:, :, None].expand(batch, shared, self.heads // self.shared, length, size)
        return wide.reshape(batch, self.heads, length, size)

    def forward(self, hidden: Tensor, past_key: Tensor, past_value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, width = hidden.shape
        x = self.norm1(hidden)
        q = self.rotated(self.q(x).view(batch, length, self.heads, self.size).transpose(1, 2))
        k = self.rotated(self.k(x).view(batch, length, self.shared, self.size).transpose(1, 2))
        v = self.v(x).view(batch, length, self.shared, self.size).transpose(1, 2)
        k, v = torch.cat((past_key, k), dim=2), torch.cat((past_value, v), dim=2)
        mask = torch.full((length, self.past + length), float("-inf")).triu(self.past + 1)
        scores = q @ self.repeated(k).transpose(2, 3) / math.sqrt(self.size) + mask
        y = torch.softmax(scores, dim=-1) @ self.repeated(v)
        hidden = hidden + self.o(y.transpose(1, 2).reshape(batch, length, width))
        x = self.norm2(hidden)
        return hidden + self.down(F.silu(self.gate(x)) * self.up(x)), k, v


class FeedForward(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))


class ConformerBlock(nn.Module):
    """Two half feed-forward parts around self-attention and a convolution along time."""

    def __init__(self, width: int = 96, heads: int = 4, kernel: int = 15) -> None:
        super().__init__()
        self.first, self.last = FeedForward(width), FeedForward(width)
        self.norm, self.attend = nn.LayerNorm(width), nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_conv, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.convolve = nn.Sequential(
            nn.Conv1d(width, 2 * width, 1),
            nn.GLU(dim=1),
            nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width),
            nn.BatchNorm1d(width),
            nn.SiLU(),
            nn.Conv1d(width, width, 1),
        )

    def forward(self, frames: Tensor) -> Tensor:
        x = frames + 0.5 * self.first(frames)
        y = self.norm(x)
        x = x + self.attend(y, y, y, need_weights=False)[0]
        x = x + self.convolve(self.norm_conv(x).transpose(1, 2)).transpose(1, 2)
        return self.norm_out(x + 0.5 * self.last(x))


class LstmClassifier(nn.Module):
    """Two recurrent layers over a short sequence, and the class of the last step."""

    def __init__(self, features: int = 40, width: int = 64, classes: int = 12) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, width, num_layers=2, batch_first=True)
        self.classify = nn.Linear(width, classes)

    def forward(self, frames: Tensor) -> Tensor:
        return self.classify(self.lstm(frames)[0][:, -1])


def networks() -> dict[str, tuple[nn.Module, dict[str, Tensor], list[str]]]:
    """name -> module, example inputs, names of outputs."""
    ids, cache = torch.randint(0, 200, (1, 256)), torch.randn(1, 2, 128, 32)
    mask = (torch.arange(256) < 180).long()[None]
    tokens = {"input_ids": ids, "attention_mask": mask, "token_type_ids": (torch.arange(256) > 100).long()[None]}
    step = {"hidden": torch.randn(1, 128, 192), "past_key": cache, "past_value": torch.randn(1, 2, 128, 32)}
    return {
        "bert_encoder": (BertEncoder(), tokens, ["last_hidden_state", "logits"]),
        "vit": (Vit(), {"image": torch.randn(1, 3, 224, 224)}, ["logits"]),
        "gpt_block": (GptBlock(), step, ["next_hidden", "present_key", "present_value"]),
        "conformer_block": (ConformerBlock(), {"frames": torch.randn(1, 256, 96)}, ["encoded"]),
        "lstm_classifier": (LstmClassifier(), {"frames": torch.randn(1, 24, 40)}, ["logits"]),
    }


def main(folder: Path) -> None:
    torch.manual_seed(5)
    for name, (module, inputs, outputs) in networks().items():
        for sub in module.modules():
            if isinstance(sub, nn.BatchNorm1d):
                nn.init.normal_(sub.running_mean, std=0.3)
                nn.init.uniform_(sub.running_var, 0.5, 2)
        torch.onnx.export(
            module.eval(), tuple(inputs.values()), folder / f"{name}.onnx", opset_version=17, dynamo=False,
            input_names=list(inputs), output_names=outputs,
        )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
